"""Which quantised checkpoints can be simulated: fp8 weights and activations, one scale for a tensor or a row of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from estimators.errors import EstimatorError

_MEND = "choose bf16 weights, or fp8 weights and activations that are scaled per tensor or channel"


def quantised_dtypes(quantisation: Any, field: str) -> tuple[str, str | None]:
    """Types of the weights and of the KV cache that a checkpoint's ``quantization_config`` states.

    The forms are those of NVIDIA's Model Optimizer (also its ``hf_quant_config.json``), compressed-tensors and vLLM's
    own fp8. That activations are scaled as they come or by fixed factors makes no difference here.

    Args:
        quantisation: the parsed table.
        field: what errors call it.

    Returns:
        ``"fp8"``, and ``"fp8"`` or None where the KV cache is not quantised.

    Raises:
        EstimatorError: other weights than fp8, activations that are not, or scales per block.
    """
    table = quantisation.get("quantization", quantisation) if isinstance(quantisation, Mapping) else None
    if not isinstance(table, Mapping):
        raise EstimatorError(field, quantisation, "is not a table", "correct the file")
    method = str(table.get("quant_method", "modelopt")).lower()
    if method.startswith("modelopt"):
        fits = str(table.get("quant_algo", "")).upper() == "FP8"
    elif method == "compressed-tensors":
        groups = table.get("config_groups")
        fits = isinstance(groups, Mapping) and bool(groups) and all(_is_fp8(group) for group in groups.values())
    else:
        fits = method == "fp8" and not table.get("weight_block_size")
    if not fits:
        kind = table.get("quant_algo") or method
        raise EstimatorError(field, kind, "means quantised weights of a kind that is not simulated", _MEND)
    cache = table.get("kv_cache_quant_algo") or table.get("kv_cache_scheme")
    if not cache:
        return "fp8", None
    if not (_is_float8(cache) or str(cache).upper() == "FP8"):
        wrong = "means a quantised KV cache of a kind that is not simulated"
        raise EstimatorError(field, cache, wrong, "choose one in fp8 or unquantised")
    return "fp8", "fp8"


def _is_fp8(group: Any) -> bool:
    if not isinstance(group, Mapping) or not isinstance(weights := group.get("weights"), Mapping):
        return False
    whole = weights.get("strategy", "tensor") in ("tensor", "channel")
    return whole and _is_float8(weights) and _is_float8(group.get("input_activations"))


def _is_float8(scheme: Any) -> bool:
    return isinstance(scheme, Mapping) and scheme.get("num_bits") == 8 and scheme.get("type") == "float"
