"""Which quantised checkpoints are taken."""

import pytest

from estimators.errors import EstimatorError
from estimators.quantisation import quantised_dtypes

FLOAT8 = {"num_bits": 8, "type": "float"}


def groups(weights: object = FLOAT8, activations: object = FLOAT8) -> dict[str, object]:
    return {"group_0": {"weights": weights, "input_activations": activations, "targets": ["Linear"]}}


@pytest.mark.parametrize(
    ("table", "kv_dtype"),
    [
        ({"quant_method": "fp8", "activation_scheme": "dynamic"}, None),
        ({"quant_method": "fp8", "activation_scheme": "static", "weight_block_size": None}, None),
        ({"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}, "fp8"),
        ({"quant_algo": "FP8", "kv_cache_scheme": FLOAT8, "config_groups": groups()}, "fp8"),
        ({"quant_algo": "FP8", "kv_cache_scheme": "FP8"}, "fp8"),
        ({"producer": {}, "quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": None}}, None),
        ({"quant_method": "compressed-tensors", "config_groups": groups(), "kv_cache_scheme": FLOAT8}, "fp8"),
        ({"quant_method": "compressed-tensors", "config_groups": groups({**FLOAT8, "strategy": "channel"})}, None),
    ],
)
def test_fp8_with_a_scale_for_a_tensor_or_channel_is_taken(table: dict[str, object], kv_dtype: str | None):
    assert quantised_dtypes(table, "config: quantization_config") == ("fp8", kv_dtype)


@pytest.mark.parametrize(
    "table",
    [
        {"quant_method": "fp8", "weight_block_size": [128, 128]},
        {"quant_method": "awq", "bits": 4},
        {"quant_method": "modelopt", "quant_algo": "NVFP4"},
        {"quant_algo": "FP8_PB_WO"},
        {"bits": 4},
        {"quant_method": "compressed-tensors"},
        {"quant_method": "compressed-tensors", "config_groups": {}},
        {"quant_method": "compressed-tensors", "config_groups": {"group_0": "fp8"}},
        {"quant_method": "compressed-tensors", "config_groups": groups({**FLOAT8, "strategy": "block"})},
        {"quant_method": "compressed-tensors", "config_groups": groups({"num_bits": 4, "type": "int"})},
        {"quant_method": "compressed-tensors", "config_groups": groups(activations=None)},
        {"quant_method": "fp8", "kv_cache_scheme": {"num_bits": 4, "type": "float"}},
        {"quant_algo": "FP8", "kv_cache_quant_algo": "NVFP4"},
        {"quantization": "FP8"},
        "fp8",
    ],
)
def test_other_kinds_are_refused_by_field(table: object):
    with pytest.raises(EstimatorError) as caught:
        quantised_dtypes(table, "config: quantization_config")
    assert caught.value.field == "config: quantization_config"
    assert str(caught.value).endswith(".")
