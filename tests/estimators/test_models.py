import csv
import gzip
import json
import pickle
from pathlib import Path

import pytest

from estimators.errors import EstimatorError
from estimators.models import load_model, model_from_config

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "profiles"

QUANTISED = {
    "nvidia/Llama-3.1-8B-Instruct-FP8": "meta-llama/Llama-3.1-8B",
    "nvidia/Llama-3.1-70B-Instruct-FP8": "meta-llama/Llama-3.1-70B",
    "nvidia/Llama-3.3-70B-Instruct-FP8": "meta-llama/Llama-3.1-70B",
}
LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
}


def write(directory, config):
    path = directory / "config.json"
    path.write_text(config if isinstance(config, str) else json.dumps(config))
    return path


@pytest.mark.parametrize(("name", "original"), QUANTISED.items())
def test_a_quantised_checkpoint_is_its_original_in_fp8(name, original):
    model, whole = load_model(name), load_model(original)
    assert vars(model) == vars(whole) | {"name": name, "weight_dtype": "fp8", "kv_dtype": "fp8"}
    assert model.weight_bytes(2, "fp8") == whole.weight_bytes(2, "fp8")
    assert whole.weight_bytes(1, "fp8") == whole.weight_bytes(1) - whole.linear_flops_per_token // 2
    with pytest.raises(EstimatorError, match=r"not the type of the weights .* give auto or fp8") as caught:
        model.weight_bytes(2, "bf16")
    assert caught.value.field == "dtype"


def test_the_cache_is_what_is_asked_for_or_what_the_checkpoint_asks_for():
    model, quantised = load_model("Llama-3.1-8B"), load_model("nvidia/Llama-3.1-8B-Instruct-FP8")
    assert [model.kv_cache_dtype(kind, "bf16") for kind in ("auto", "bf16", "fp8")] == ["bf16", "bf16", "fp8"]
    assert [model.kv_cache_dtype(kind, "fp8") for kind in ("auto", "bf16", "fp8")] == ["bf16", "bf16", "fp8"]
    assert [quantised.kv_cache_dtype(kind, "fp8") for kind in ("auto", "bf16", "fp8")] == ["fp8", "bf16", "fp8"]
    assert model.kv_cache_dtype("auto", "fp16") == "fp16"
    assert model.kv_cache_dtype("auto", "fp32") == model.kv_cache_dtype("fp32", "fp32") == "fp32"
    with pytest.raises(EstimatorError, match="choose auto, bf16 or fp8"):
        model.kv_cache_dtype("fp16", "bf16")


def test_quantisation_may_be_told_in_a_file_beside(tmp_path):
    path = write(tmp_path, LLAMA)
    told = {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": None}}
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(told))
    assert (load_model(path).weight_dtype, load_model(path).kv_dtype) == ("fp8", None)
    (tmp_path / "hf_quant_config.json").write_text("{")
    with pytest.raises(EstimatorError, match=r"give a valid hf_quant_config\.json"):
        load_model(path)


@pytest.mark.parametrize("name", ["Llama-3.1-8B", "META-LLAMA/llama-3.1-8b", "llama-3.1-8b"])
def test_names_ignore_case_and_organisation(name):
    assert load_model(name) == load_model("meta-llama/Llama-3.1-8B")


def test_a_file_and_its_directory_give_the_same_model(tmp_path):
    path = write(tmp_path, LLAMA)
    model = load_model(path)
    assert load_model(str(tmp_path)) == model
    assert model.name == tmp_path.name
    assert model.num_parameters == 8_030_261_248


def test_tied_embeddings_are_held_once():
    tied = model_from_config({**LLAMA, "tie_word_embeddings": True}, "tied")
    untied = model_from_config(LLAMA, "untied")
    assert untied.num_parameters - tied.num_parameters == 128256 * 4096
    assert untied.weight_bytes(2) - tied.weight_bytes(2) == 128256 * 4096


def test_missing_key_value_heads_mean_multi_head_attention():
    config = {key: value for key, value in LLAMA.items() if key != "num_key_value_heads"}
    assert model_from_config(config, "mha").num_kv_heads == 32


def test_phi_is_parallel_partial_and_biased():
    phi = load_model("phi-2")
    assert (phi.rotary_dim, phi.head_dim) == (32, 80)
    assert phi.parallel_attention_mlp
    assert not phi.gated_mlp


def test_bytes_per_gpu():
    model = load_model("Llama-3.1-8B")
    assert model.kv_bytes_per_token() == 131072
    assert model.kv_bytes_per_token(4) == 32768
    assert model.kv_bytes_per_token(4, "fp8") == 16384
    # 16 GPUs share 8 heads: each head is held twice.
    assert model.kv_bytes_per_token(16) == model.kv_bytes_per_token(8) == 16384
    shares = [model.weight_bytes(tp) * tp for tp in (1, 2, 4, 8)]
    # Only the norms are replicated: 65 of 4096 weights.
    assert [share - shares[0] for share in shares] == [(tp - 1) * 65 * 4096 * 2 for tp in (1, 2, 4, 8)]


def test_a_vocabulary_is_padded_before_it_is_split():
    model = model_from_config({**LLAMA, "vocab_size": 100}, "odd")
    assert model.vocabulary_per_gpu(1) == 128
    assert model.vocabulary_per_gpu(4) == 32


def test_flops_per_token():
    model = load_model("Llama-2-7b-hf")
    assert model.linear_flops_per_token == 2 * 32 * (4 * 4096 * 4096 + 3 * 4096 * 11008)
    assert model.lm_head_flops_per_sequence == 2 * 4096 * 32000
    assert model.attention_flops_per_pair == 4 * 32 * 4096


@pytest.mark.parametrize("tp", [0, -1, True, 3, 64, 2.0, "2", None])
def test_a_split_that_does_not_fit_is_refused(tp):
    with pytest.raises(EstimatorError, match="choose one of 1, 2, 4, 8 for") as caught:
        load_model("Llama-3.1-8B").weight_bytes(tp)
    assert caught.value.field == "tp"


def test_key_value_heads_that_cannot_be_shared_are_refused():
    shape = {"num_attention_heads": 48, "num_key_value_heads": 12, "head_dim": 64, "intermediate_size": 9600}
    model = model_from_config({**LLAMA, **shape}, "odd")
    assert model.tensor_parallel_sizes() == (1, 2, 3, 4, 6, 12, 24, 48)
    with pytest.raises(EstimatorError, match="key/value 12"):
        model.kv_heads_per_gpu(8)


def test_unknown_types_are_refused():
    with pytest.raises(EstimatorError, match="fp16"):
        load_model("phi-2").weight_bytes(1, "int3")
    with pytest.raises(EstimatorError, match="fp8"):
        load_model("phi-2").kv_bytes_per_token(1, "int3")


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"hidden_size": None}, "hidden_size"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
        ({"num_hidden_layers": True}, "num_hidden_layers"),
        ({"num_hidden_layers": 2**40}, "num_hidden_layers"),
        ({"intermediate_size": "big"}, "intermediate_size"),
        ({"vocab_size": 1.5}, "vocab_size"),
        ({"num_key_value_heads": 5}, "num_key_value_heads"),
        ({"num_attention_heads": 30, "num_key_value_heads": 30}, "hidden_size"),
        ({"tie_word_embeddings": "no"}, "tie_word_embeddings"),
        ({"partial_rotary_factor": 2}, "partial_rotary_factor"),
        ({"architectures": []}, "architectures"),
        ({"architectures": ["GPT2LMHeadModel"]}, "architectures"),
        ({"sliding_window": -1}, "sliding_window"),
        ({"sliding_window": 4096, "layer_types": ["full_attention"] * 31}, "layer_types"),
        ({"sliding_window": 4096, "layer_types": "full_attention"}, "layer_types"),
        ({"sliding_window": 4096, "layer_types": ["chunked_attention"] * 32}, "layer_types"),
        ({"layer_types": ["full_attention"] * 3}, "layer_types"),
        ({"linear_num_key_heads": 16}, "linear_num_key_heads"),
        ({"index_topk": 2048}, "index_topk"),
        ({"num_local_experts": 8}, "num_local_experts"),
        ({"kv_lora_rank": 512}, "kv_lora_rank"),
        ({"architectures": ["PhiForCausalLM"], "qk_layernorm": True}, "qk_layernorm"),
        ({"quantization_config": {"quant_method": "awq"}}, "quantization_config"),
        ({"compression_config": {"quant_method": "awq"}}, "compression_config"),
    ],
)
def test_a_config_that_cannot_be_simulated_is_refused_by_file_and_key(tmp_path, change, key):
    path = write(tmp_path, {**LLAMA, **change})
    with pytest.raises(EstimatorError) as caught:
        load_model(path)
    assert caught.value.field == f"{path}: {key}"
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("architecture", ["MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"])
def test_a_family_with_a_default_of_its_own_must_state_key_value_heads(architecture):
    config = {**LLAMA, "architectures": [architecture]}
    del config["num_key_value_heads"]
    with pytest.raises(EstimatorError, match="num_key_value_heads is missing"):
        model_from_config(config, "model")


@pytest.mark.parametrize(
    "change",
    [
        {"architectures": ["MistralForCausalLM"], "sliding_window": None},
        {"architectures": ["MistralForCausalLM"], "sliding_window": 131072},
        {"architectures": ["Qwen2ForCausalLM"], "sliding_window": 4096, "use_sliding_window": False},
        {"num_experts": 0, "quantization_config": None, "head_dim": None},
    ],
)
def test_what_is_switched_off_does_not_matter(change):
    assert model_from_config({**LLAMA, **change}, "model").num_layers == 32


@pytest.mark.parametrize("text", ["", "{", "[1]", "\x00"])
def test_a_file_that_is_no_json_object_is_refused(tmp_path, text):
    with pytest.raises(EstimatorError, match=r"give a valid config\.json"):
        load_model(write(tmp_path, text))


@pytest.mark.parametrize("name", ["Llama-9", "no/such/config.json", "", None, 7])
def test_an_unknown_model_is_refused(name):
    with pytest.raises(EstimatorError) as caught:
        load_model(name)
    assert caught.value.field == "model"


def test_an_unknown_model_is_told_those_it_is_like():
    with pytest.raises(EstimatorError) as caught:
        load_model("Mixtral-8x7B")
    assert "mistralai/Mixtral-8x7B-v0.1" in caught.value.mend
    assert "Llama" not in caught.value.mend


def test_errors_travel_between_processes():
    with pytest.raises(EstimatorError) as caught:
        load_model("Llama-9")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.field, copy.value, copy.mend) == (
        str(caught.value),
        caught.value.field,
        caught.value.value,
        caught.value.mend,
    )


def _same_but_name(left, right):
    return vars(left) | {"name": ""} == vars(right) | {"name": ""}


@pytest.mark.parametrize("name", ["Llama-3.1-8B", "Qwen3-32B"])
def test_built_in_models_equal_published_configs(name):
    path = DATA / "llmservingsim" / "model_configs" / f"{name}.json"
    if not path.exists():
        pytest.skip("the profiles are not beside this checkout")
    assert _same_but_name(load_model(path), load_model(name))
    assert load_model(path).name == name


@pytest.mark.parametrize(
    "name",
    [
        "meta-llama/Llama-2-7b-hf",
        "meta-llama/Llama-2-70b-hf",
        "codellama/CodeLlama-34b-Instruct-hf",
        "internlm/internlm-20b",
        "microsoft/phi-2",
        "Qwen/Qwen-72B",
    ],
)
def test_built_in_models_have_the_shapes_that_vidur_profiled(name):
    path = DATA / "vidur" / "compute" / "a100" / name / "mlp.csv.gz"
    if not path.exists():
        pytest.skip("the profiles are not beside this checkout")
    with gzip.open(path, "rt", newline="") as file:
        row = next(csv.DictReader(file))
    model = load_model(name)
    shape = (model.num_q_heads, model.num_kv_heads, model.hidden_size, model.intermediate_size, model.gated_mlp)
    columns = ("n_head", "n_kv_head", "n_embd", "n_expanded_embd")
    assert shape == (*(int(row[column]) for column in columns), row["use_gated_mlp"] == "True")
