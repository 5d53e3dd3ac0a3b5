"""What the architectures of config.json files leave unsaid: biases, norms, windows, experts and latent attention."""

from typing import Any

import pytest

from estimators.errors import EstimatorError
from estimators.experts import Experts
from estimators.families import FAMILIES, TEXT_MODELS
from estimators.hf_config import model_from_config
from estimators.latent import LatentAttention
from estimators.model_spec import ModelSpec
from estimators.models import load_model

SMALL: dict[str, Any] = {
    "hidden_size": 1024,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "intermediate_size": 2048,
    "vocab_size": 32000,
    "max_position_embeddings": 8192,
}
EXPERTS = {"num_local_experts": 16, "num_experts": 16, "n_routed_experts": 16, "num_experts_per_tok": 2}
EXPERTS |= {"moe_intermediate_size": 512}
LATENT = {"kv_lora_rank": 128, "qk_nope_head_dim": 64, "qk_rope_head_dim": 32, "v_head_dim": 64}


def small(architecture: str, **change: Any) -> ModelSpec:
    family = FAMILIES[architecture]
    more = (EXPERTS if family.experts else {}) | (LATENT if family.latent else {})
    return model_from_config({**SMALL, **more, "architectures": [architecture], **change}, "small")


@pytest.mark.parametrize("architecture", FAMILIES)
def test_every_family_can_be_split_and_weighed(architecture: str):
    model = small(architecture)
    assert {1, 2, 4, 8} <= set(model.tensor_parallel_sizes())
    for tp in (2, 8):
        assert model.weight_bytes() / tp < model.weight_bytes(tp) < 1.3 * model.weight_bytes() / tp
    stages = [model.weight_bytes(pp=4, stage=stage) for stage in range(4)]
    twice = 2 * model.vocab_size * model.hidden_size * model.tied_embeddings
    assert sum(stages) == model.weight_bytes() + twice
    assert model.active_parameters <= model.num_parameters


@pytest.mark.parametrize(
    ("architecture", "change", "biases"),
    [
        ("LlamaForCausalLM", {}, (False, False, False)),
        ("LlamaForCausalLM", {"attention_bias": True}, (True, True, False)),
        ("LlamaForCausalLM", {"mlp_bias": True}, (False, False, True)),
        ("QWenLMHeadModel", {}, (True, False, False)),
        ("Qwen2ForCausalLM", {}, (True, False, False)),
        ("Qwen3ForCausalLM", {}, (False, False, False)),
        ("PhiForCausalLM", {}, (True, True, True)),
        ("Phi3ForCausalLM", {}, (False, False, False)),
        ("InternLMForCausalLM", {}, (True, True, False)),
        ("InternLM2ForCausalLM", {"bias": False}, (False, False, False)),
        ("InternLM3ForCausalLM", {"qkv_bias": True}, (True, False, False)),
        ("InternLM3ForCausalLM", {"bias": True}, (False, True, True)),
        ("GptOssForCausalLM", {}, (True, True, False)),
        ("MiMoForCausalLM", {"attention_bias": True}, (True, False, False)),
    ],
)
def test_biases(architecture: str, change: dict[str, Any], biases: tuple[bool, bool, bool]):
    model = small(architecture, **change)
    assert (model.qkv_bias, model.output_bias, model.mlp_bias) == biases


def test_norms_of_gemma():
    two, one = small("Gemma2ForCausalLM", head_dim=128), small("GemmaForCausalLM", head_dim=128)
    assert two.sandwich_norms
    assert not one.sandwich_norms
    assert two.num_parameters - one.num_parameters == 8 * 2 * 1024
    assert one.tied_embeddings
    assert small("GemmaForCausalLM").head_dim == 256
    assert small("Gemma3ForCausalLM").qk_norm


ALL, EVEN = tuple(range(8)), (0, 2, 4, 6)


@pytest.mark.parametrize(
    ("architecture", "change", "window", "layers"),
    [
        ("MistralForCausalLM", {"sliding_window": None}, None, ()),
        ("MistralForCausalLM", {}, 4096, ALL),
        ("MistralForCausalLM", {"sliding_window": 8192}, None, ()),
        ("Phi3ForCausalLM", {"sliding_window": 2047}, 2047, ALL),
        ("LlamaForCausalLM", {}, None, ()),
        ("Qwen2ForCausalLM", {"sliding_window": 512}, None, ()),
        ("Qwen2ForCausalLM", {"use_sliding_window": True}, None, ()),
        ("Qwen2ForCausalLM", {"use_sliding_window": True, "max_window_layers": 6}, 4096, (6, 7)),
        ("Gemma2ForCausalLM", {}, 4096, EVEN),
        ("Gemma3ForCausalLM", {}, 4096, (0, 1, 2, 3, 4, 6, 7)),
        ("Gemma3ForCausalLM", {"sliding_window_pattern": 4}, 4096, (0, 1, 2, 4, 5, 6)),
        ("GptOssForCausalLM", {}, 128, EVEN),
        (
            "GptOssForCausalLM",
            {"layer_types": ["full_attention"] * 7 + ["sliding_attention"], "sliding_window": 64},
            64,
            (7,),
        ),
        ("LlamaForCausalLM", {"layer_types": ["full_attention"] * 8, "sliding_window": 64}, None, ()),
    ],
)
def test_windows(architecture: str, change: dict[str, Any], window: int | None, layers: tuple[int, ...]):
    model = small(architecture, **change)
    assert (model.window, model.window_layers) == (window, layers)


@pytest.mark.parametrize(
    ("architecture", "change", "experts"),
    [
        ("MixtralForCausalLM", {}, Experts(16, 2, 2048)),
        ("GptOssForCausalLM", {}, Experts(16, 2, 2048, bias=True, router_bias=True)),
        ("MiniMaxM2ForCausalLM", {"use_routing_bias": True}, Experts(16, 2, 2048, router_bias=True)),
        ("Qwen3MoeForCausalLM", {}, Experts(16, 2, 512)),
        ("Qwen3MoeForCausalLM", {"decoder_sparse_step": 2}, Experts(16, 2, 512, dense_layers=EVEN)),
        ("Qwen3MoeForCausalLM", {"mlp_only_layers": [7, 0]}, Experts(16, 2, 512, dense_layers=(0, 7))),
        ("DeepseekV2ForCausalLM", {}, Experts(16, 2, 512)),
        (
            "DeepseekV3ForCausalLM",
            {"first_k_dense_replace": 3, "n_shared_experts": 2, "topk_method": "noaux_tc"},
            Experts(16, 2, 512, shared_intermediate_size=1024, dense_layers=(0, 1, 2), router_bias=True),
        ),
    ],
)
def test_experts(architecture: str, change: dict[str, Any], experts: Experts):
    model = small(architecture, **change)
    assert model.experts == experts
    stages = [model.pipeline_stage(4, stage) for stage in range(4)]
    assert sum(stage.expert_layers for stage in stages) == 8 - len(experts.dense_layers)
    assert stages[0].expert_layers == 2 - len({0, 1} & set(experts.dense_layers))


def test_latent_attention():
    model = small("DeepseekV3ForCausalLM", q_lora_rank=256)
    assert model.latent == LatentAttention(256, 128, 64, 32, 64)
    assert (model.num_q_heads, model.num_kv_heads, model.head_dim, model.rotary_dim) == (8, 8, 96, 32)
    # One latent vector and one rotated key for each token, on every GPU.
    assert model.kv_bytes_per_token() == model.kv_bytes_per_token(8) == 8 * (128 + 32) * 2
    whole = small("DeepseekV3ForCausalLM")
    assert whole.latent == LatentAttention(None, 128, 64, 32, 64)
    assert whole.num_parameters - model.num_parameters == 8 * (1024 * 768 - 256 * (1024 + 768 + 1))


def test_of_a_model_that_sees_images_the_text_counts():
    text = {**SMALL, "num_hidden_layers": 12}
    config = {"architectures": ["Qwen3VLForConditionalGeneration"], "text_config": text, "tie_word_embeddings": True}
    model = model_from_config({**config, "vision_config": {"depth": 27}}, "images")
    assert (model.num_layers, model.qk_norm, model.tied_embeddings) == (12, True, True)
    assert set(TEXT_MODELS.values()) <= set(FAMILIES)
    del text["vocab_size"]
    with pytest.raises(EstimatorError) as caught:
        model_from_config(config, "images", "config.json")
    assert caught.value.field == "config.json: text_config: vocab_size"


def test_a_sparse_config_of_gemma_3_is_completed():
    model = model_from_config(
        {
            "architectures": ["Gemma3ForConditionalGeneration"],
            "text_config": {
                "hidden_size": 2560,
                "intermediate_size": 10240,
                "num_hidden_layers": 34,
                "sliding_window": 1024,
            },
        },
        "google/gemma-3-4b-it",
    )
    assert model == load_model("google/gemma-3-4b-it")


def test_equal_stages_are_equal():
    model = load_model("gpt-oss-120b")
    assert len({model.pipeline_stage(6, stage) for stage in range(1, 5)}) == 1
    assert model.pipeline_stage(6, 1) == (6, False, False, 3, 6)
    assert model.pipeline_stage(4, 1) == (9, False, False, 4, 9)


def test_windows_in_flops_and_cache():
    model = load_model("gpt-oss-120b")
    pair = 4 * 64 * 64
    assert model.attention_flops_per_pair == 18 * pair
    assert model.window_flops_per_token == 18 * 128 * pair
    every = model.kv_bytes_per_token(8)
    assert every == 36 * 2 * 64 * 2
    assert model.kv_bytes_per_token(8, length=128) == every
    # Of 4096 tokens the layers with a window keep 128 and a block of 16.
    assert model.kv_bytes_per_token(8, length=4096) == every / 2 + every / 2 * 144 / 4096
    assert model.kv_bytes_per_token(8, pp=2, length=4096) < every / 3


def test_flops_of_latent_attention_and_experts():
    model = load_model("DeepSeek-V3")
    assert model.attention_flops_per_pair == 2 * 61 * 128 * (192 + 128)
    table = 129280 * 7168
    norms = 61 * (2 * 7168 + 1536 + 512) + 7168 + 58 * 256
    assert model.linear_flops_per_token == 2 * (model.active_parameters - 2 * table - norms)


@pytest.mark.parametrize(("name", "tp", "dp"), [("DeepSeek-V3", 1, 8), ("DeepSeek-V3", 8, 1), ("Qwen3-30B-A3B", 2, 4)])
def test_engines_share_routed_experts_only(name: str, tp: int, dp: int):
    model = load_model(name)
    experts = model.experts
    assert experts is not None
    size = 1 if model.weight_dtype else 2
    layers = model.pipeline_stage().expert_layers
    routed = size * layers * 3 * model.hidden_size * experts.intermediate_size * experts.num_experts
    alone = model.weight_bytes(tp, dp=1)
    assert alone - model.weight_bytes(tp, dp=dp) == routed // tp - routed // (tp * dp)


def test_experts_that_cannot_be_cut_are_dealt_out():
    model = small("MixtralForCausalLM", intermediate_size=2052)
    assert 8 in model.tensor_parallel_sizes()
    assert 8 not in small("MixtralForCausalLM", intermediate_size=2052, num_local_experts=15).tensor_parallel_sizes()
    # The dense layers' MLP is cut.
    assert (
        8 not in small("DeepseekV3ForCausalLM", first_k_dense_replace=1, intermediate_size=2052).tensor_parallel_sizes()
    )
