"""Vidur's per-operator tables from our own estimators, so that its rules run without one of its profiles."""

from __future__ import annotations

import os

import numpy as np

from estimators.coverage import measured_by, outside_profiles
from estimators.devices import DeviceSpec, load_device
from estimators.dtypes import activation_dtype, weight_dtype_bytes
from estimators.errors import EstimatorError
from estimators.layout import FloatArray, log_index, log_points
from estimators.model_spec import ModelSpec
from estimators.models import load_model
from estimators.operators import OperatorCall, bandwidth_seconds, iteration_calls
from estimators.row_tables import Estimators, measured_calls
from estimators.vidur_model import check_vidur_model
from estimators.vidur_tables import TOKEN_OPERATORS, OperatorTables

#: Which of our calls make up an operator of Vidur's. Our norms add the residual, so ``add`` is left for models whose
#: attention and MLP run side by side.
_CALLS = {
    "attn_pre_proj": ("qkv_proj", "qk_norm"),
    "attn_post_proj": ("o_proj",),
    "attn_rope": ("rope",),
    "attn_kv_cache_save": ("kv_write",),
    "input_layernorm": ("input_norm",),
    "mlp_up_proj": ("gate_up_proj", "up_proj"),
    "mlp_act": ("act",),
    "mlp_down_proj": ("down_proj",),
    "post_attention_layernorm": ("post_attention_norm",),
    "add": ("residual_add",),
    "all_reduce": ("attention_all_reduce",),
}
_OPTIONAL = ("post_attention_layernorm", "add")
# Vidur rounds tokens up to a multiple of this before it looks them up.
_TOKEN_STEP = 8
# Evaluated one by one up to here, then 2 ** _BITS times per octave with linear interpolation between.
_EXACT = 16384
_BITS = 6


def build_operator_tables(
    model: str | os.PathLike[str] | ModelSpec,
    device: str | DeviceSpec,
    *,
    tp: int = 1,
    pp: int = 1,
    dtype: str = "bf16",
    max_tokens: int = 4096,
    max_batch: int = 128,
    max_context: int = 4096,
    max_chunk: int = 4096,
    kv_granularity: int = 64,
    estimators: Estimators | None = None,
) -> OperatorTables:
    """Build tables with the keys that Vidur's have.

    Args:
        model: name, ``config.json`` or spec of a dense model.
        device: name or spec of the GPU.
        tp: GPUs that share each layer.
        pp: pipeline stages.
        dtype: of weights, activations and KV cache; not fp8, in which these differ.
        max_tokens: most tokens of a batch.
        max_batch: most decodes of a batch.
        max_context: longest mean context of the decodes, and largest sum of the chunks' histories.
        max_chunk: longest equivalent chunk.
        kv_granularity: steps of contexts and histories.
        estimators: who knows the time of operators; the package's own when not given.

    Raises:
        EstimatorError: unknown model or device, a model that cannot be split that way, or one that is not dense.
    """
    spec = model if isinstance(model, ModelSpec) else load_model(model)
    check_vidur_model(spec)
    gpu = device if isinstance(device, DeviceSpec) else load_device(device)
    if activation_dtype(dtype) != dtype:
        raise EstimatorError("dtype", dtype, "has no operators that compose as Vidur's do", "choose bf16")
    if estimators is None:
        from estimators.device_estimators import estimators_of

        estimators = estimators_of(gpu, dtype)
    calls = {call.name: call for call in measured_calls(iteration_calls(spec, tp, dtype), {dtype: estimators})}
    token_ms = {}
    for operator, names in _CALLS.items():
        chosen = [calls[name] for name in names if name in calls]
        if not chosen and operator in TOKEN_OPERATORS and operator not in _OPTIONAL:
            raise EstimatorError("model", spec.name, f"has no {operator}, as all of Vidur's have", "take a dense one")
        if chosen or operator in TOKEN_OPERATORS:
            token_ms[operator] = 1e3 * _token_seconds(chosen, max_tokens, gpu, estimators)
    if pp > 1:
        latency_s, bandwidth = gpu.link(inside_node=tp * pp <= gpu.gpus_per_node)
        num_bytes = np.arange(max_tokens + 1) * (spec.hidden_size * int(weight_dtype_bytes(dtype)))
        token_ms["send_recv"] = 1e3 * (latency_s + num_bytes / bandwidth)
    steps = np.arange(-(-max_context // kv_granularity) + 1) * kv_granularity
    return OperatorTables(
        token_ms=token_ms,
        decode_ms=1e3 * _decode_seconds(calls["decode_attention"], max_batch, steps, estimators),
        prefill_ms=1e3 * _prefill_seconds(calls["prefill_attention"], max_chunk, steps, estimators),
        kv_granularity=kv_granularity,
        provenance={
            "source": "operator estimators, composed as Vidur does",
            "model": spec.name,
            "device": gpu.name,
            "tp": tp,
            "dtype": dtype,
            "estimators": estimators.hash,
            "outside_profiles": outside_profiles(
                tuple(calls.values()), measured_by({dtype: estimators}, calls.values()), gpu
            ),
        },
    )


def _token_seconds(calls: list[OperatorCall], most: int, device: DeviceSpec, estimators: Estimators) -> FloatArray:
    """Seconds of one call of each, by tokens, shape (most + 1,)."""
    every, steps = np.arange(most + 1), _steps(most, _TOKEN_STEP)
    total: FloatArray = np.zeros(most + 1)
    for call in calls:
        if call.operator == "bandwidth":
            total += bandwidth_seconds(every * call.shape["bytes"], device, call.shape["kernels"])
        else:
            total += np.interp(every, steps, estimators.predict(call.operator, call.columns(steps)))
    return total


def _steps(most: int, step: int) -> np.ndarray:
    """Numbers that are evaluated, ascending, the largest included: multiples of ``step``, then a log axis of them."""
    exact = np.arange(step, min(most, _EXACT) + step, step)
    if most <= _EXACT:
        return exact
    points = log_points(int(log_index(most, _BITS)[0]) + 2, _BITS)
    return np.union1d(exact, points[points > _EXACT])


def _decode_seconds(call: OperatorCall, most: int, steps: np.ndarray, estimators: Estimators) -> FloatArray:
    """Seconds of one call by (decodes, steps of the mean context); row 0 is 0."""
    batch, context = np.meshgrid(np.arange(1, most + 1), np.maximum(steps, 1), indexing="ij")
    columns = {"batch": batch.ravel(), "kv": context.ravel(), **_heads(call, batch.size)}
    seconds = estimators.predict("decode_attention", columns).reshape(batch.shape)
    return np.concatenate([np.zeros((1, len(steps))), seconds])


def _prefill_seconds(call: OperatorCall, most: int, steps: np.ndarray, estimators: Estimators) -> FloatArray:
    """Seconds of one call by (steps of the history, chunk); column 0 is 0."""
    chunks = log_points(int(log_index(most, _BITS)[0]) + 2, _BITS)[1:]
    history, chunk = np.meshgrid(steps, chunks, indexing="ij")
    columns = {"batch": np.ones(chunk.size, np.int64), "chunk": chunk.ravel(), "history": history.ravel()}
    seconds = estimators.predict("prefill_attention", {**columns, **_heads(call, chunk.size)}).reshape(chunk.shape)
    table = np.zeros((len(steps), most + 1))
    for row, known in zip(table, seconds, strict=True):
        row[1:] = np.interp(np.arange(1, most + 1), chunks, known)
    return table


def _heads(call: OperatorCall, rows: int) -> dict[str, np.ndarray]:
    return {name: np.full(rows, value, dtype=np.int64) for name, value in call.shape.items()}
