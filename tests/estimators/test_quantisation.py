"""Which quantised checkpoints are taken, and which of their parts are quantised."""

import numpy as np
import pytest

from estimators.errors import EstimatorError
from estimators.models import load_model
from estimators.quantisation import quantisation_of

DENSE, EXPERTS, LATENT = (load_model(name) for name in ("Llama-3.2-1B", "Qwen3-30B-A3B", "DeepSeek-V2-Lite"))
FLOAT8, FLOAT4, INT4 = (
    {"num_bits": 8, "type": "float"},
    {"num_bits": 4, "type": "float"},
    {"num_bits": 4, "type": "int"},
)
BLOCKS = {"quant_method": "fp8", "weight_block_size": [128, 128]}
NVFP4 = {"quant_method": "modelopt", "quant_algo": "NVFP4"}
ATTENTION = ("attention", "attention_output")


def groups(weights: object = FLOAT8, activations: object = FLOAT8, **more: object) -> dict[str, object]:
    return {"group_0": {"weights": weights, "input_activations": activations, "targets": ["Linear"], **more}}


def compressed(weights: object = FLOAT8, activations: object = FLOAT8, **more: object) -> dict[str, object]:
    return {"quant_method": "compressed-tensors", "config_groups": groups(weights, activations), **more}


@pytest.mark.parametrize(
    ("table", "dtype", "kv_dtype"),
    [
        ({"quant_method": "fp8", "activation_scheme": "dynamic"}, "fp8", None),
        ({"quant_method": "fp8", "activation_scheme": "static", "weight_block_size": None}, "fp8", None),
        (BLOCKS, "fp8_block", None),
        ({"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}, "fp8", "fp8"),
        ({"quant_algo": "FP8", "kv_cache_scheme": FLOAT8, "config_groups": groups()}, "fp8", "fp8"),
        ({"quant_algo": "FP8", "kv_cache_scheme": "FP8"}, "fp8", "fp8"),
        ({"producer": {}, "quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": None}}, "fp8", None),
        (NVFP4 | {"kv_cache_scheme": FLOAT8, "group_size": 16}, "nvfp4", "fp8"),
        ({"quant_method": "mxfp4"}, "mxfp4", None),
        (compressed(kv_cache_scheme=FLOAT8), "fp8", "fp8"),
        (compressed({**FLOAT8, "strategy": "channel"}), "fp8", None),
        (compressed({**FLOAT8, "strategy": "block", "block_structure": [128, 128]}), "fp8_block", None),
        (compressed({**FLOAT4, "strategy": "tensor_group", "group_size": 16}, FLOAT4), "nvfp4", None),
        (compressed({**FLOAT4, "strategy": "group", "group_size": 32}, None), "mxfp4", None),
        (compressed({**INT4, "strategy": "group", "group_size": 32}, None), "int4", None),
    ],
)
def test_kinds_that_are_taken(table: dict[str, object], dtype: str, kv_dtype: str | None):
    assert quantisation_of(table, "config: quantization_config", DENSE) == (dtype, (), kv_dtype)


@pytest.mark.parametrize(
    "table",
    [
        {"quant_method": "fp8", "weight_block_size": [64, 128]},
        {"quant_method": "awq", "bits": 4},
        {"quant_method": "modelopt", "quant_algo": "W4A16_NVFP4"},
        {"quant_algo": "MIXED_PRECISION"},
        {"quant_algo": "FP8_PB_WO"},
        {"bits": 4},
        {"quant_method": "compressed-tensors"},
        {"quant_method": "compressed-tensors", "config_groups": {}},
        {"quant_method": "compressed-tensors", "config_groups": {"group_0": "fp8"}},
        {"quant_method": "compressed-tensors", "config_groups": groups() | {"group_1": groups(FLOAT4)["group_0"]}},
        compressed({**FLOAT8, "strategy": "block"}),
        compressed(INT4),
        compressed({**FLOAT4, "group_size": 32}, FLOAT4),
        compressed({**FLOAT4, "strategy": "group", "group_size": 16}, None),
        compressed(activations=None),
        {"quant_method": "fp8", "kv_cache_scheme": {"num_bits": 4, "type": "float"}},
        {"quant_algo": "FP8", "kv_cache_quant_algo": "NVFP4"},
        {"quant_method": "fp8", "ignore": [7]},
        {"quant_method": "fp8", "ignore": ["re:("]},
        {"quant_method": "fp8", "ignore": ["re:(?!mlp)"]},
        {"quant_method": "fp8", "ignore": ["re:(.{99}){99}"]},
        {"quant_method": "fp8", "ignore": [f"*{i}" for i in range(10_000)]},
        {"quantization": "FP8"},
        "fp8",
    ],
)
def test_other_kinds_are_refused_by_field(table: object):
    with pytest.raises(EstimatorError) as caught:
        quantisation_of(table, "config: quantization_config", DENSE)
    assert caught.value.field == "config: quantization_config"
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        ([], ()),
        (["lm_head", "model.layers.0.mlp.gate", "gate", "e_score_correction_bias", "model.norm"], ()),
        (["model.layers.*.self_attn", "model.embed_tokens"], ATTENTION),
        (["*.self_attn*"], ATTENTION),
        ([f"language_model.model.layers.{i}.self_attn*" for i in range(27)], ATTENTION),
        (["re:.*self_attn.*", r"re:.*mlp\.(gate|up|gate_up|down)_proj.*"], (*ATTENTION, "mlp")),
        (["re:.*shared_experts.*"], ("shared_experts",)),
        # The only dense layer of all 27, and not layers 10 to 19.
        (["model.layers.0*"], ("mlp",)),
        ([f"model.layers.{i}.self_attn.q_b_proj" for i in range(27)], ("attention",)),
        ([f"model.layers.{i}.self_attn.q_b_proj" for i in range(13)], ()),
        (["model.layers.*.mlp.experts"], ("experts",)),
        # On these Python's re would spend years.
        (["re:(?:[a-z._0-9]+)+!", "*a" * 30 + "!", "re:.*shared_experts.*"], ("shared_experts",)),
    ],
)
@pytest.mark.parametrize("key", ["exclude_modules", "ignore", "modules_to_not_convert"])
def test_parts_that_are_left_alone(key: str, names: list[str], parts: tuple[str, ...]):
    assert quantisation_of(NVFP4 | {key: names}, "config", LATENT).unquantised == parts


def test_parts_that_are_no_target_are_left_alone():
    table = compressed(**{"ignore": ["lm_head"]}) | {"config_groups": groups(targets=["re:.*mlp.experts.*"])}
    assert quantisation_of(table, "config", EXPERTS).unquantised == ATTENTION


def test_every_part_has_a_type():
    model = load_model("gpt-oss-120b")
    parts = ("attention", "attention_output", "experts", "router", "lm_head")
    assert [model.part_dtype(part) for part in parts] == ["bf16", "bf16", "mxfp4", "bf16", "bf16"]
    assert model.resolve_dtype() == model.resolve_dtype("auto") == model.resolve_dtype("mxfp4") == "mxfp4"
    dense = load_model("Llama-3.1-8B")
    assert [dense.resolve_dtype(dtype) for dtype in ("auto", "fp16", "nvfp4")] == ["bf16", "fp16", "nvfp4"]
    assert [dense.part_dtype("mlp", dtype) for dtype in ("auto", "fp8", "fp16")] == ["bf16", "fp8", "fp16"]
    assert dense.part_dtype("lm_head", "fp16") == "fp16"
    for dtype in ("bf16", "int3"):
        with pytest.raises(EstimatorError, match=r"give auto or mxfp4|choose auto or one of"):
            model.part_dtype("experts", dtype)


@pytest.mark.parametrize(
    ("dtype", "size"), [("fp8", 1), ("fp8_block", 1), ("nvfp4", 9 / 16), ("mxfp4", 17 / 32), ("int4", 9 / 16)]
)
def test_bytes_of_matrices(dtype: str, size: float):
    model = load_model("Llama-3.1-8B")
    matrices = model.linear_flops_per_token // 2
    assert model.weight_bytes(1, "bf16") - model.weight_bytes(1, dtype) == np.floor((2 - size) * matrices)
