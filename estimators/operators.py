"""Which operators one iteration runs, and what the element-wise ones cost.

The list follows what vLLM runs for a dense model inside a CUDA graph: the residual addition is fused into the norm,
rotation works in place on queries and keys, activation and gating are one kernel. Matrix products, attention and
all-reduce are left to learned estimators; everything else moves bytes and follows ``bandwidth_seconds``.

Products of fp8 weights take bf16 activations and were measured together with the kernel that quantises them, so that
kernel is no call of its own here. vLLM's compiler fuses all but one of the four in a layer into the norm or activation
before, which this leaves out: 2 us for each with few tokens, up to 60 us with 8,192.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators.devices import DeviceSpec
from estimators.model_spec import DTYPE_BYTES, ModelSpec, Stage, activation_dtype

Axis = Literal["tokens", "sequences", "decode", "prefill"]

# Duration of an element-wise kernel that has next to nothing to do, as a GPU profiler reports it. Measured: 2 to 3 us
# in the layer profiles of vLLM 0.19 on two GPUs of the Ada and Blackwell generations.
KERNEL_SECONDS = 2.5e-6
# From the end of one kernel to the start of the next that depends on it inside a CUDA graph; profilers leave it out.
# ASSUMPTION: with the figure above it makes the 3 us that others found for small kernels inside engines.
GRAPH_GAP_SECONDS = 0.5e-6
# Share of the nominal memory bandwidth that streaming kernels reach. Measured: 0.9 to 1.0 (additions over 50 MB and
# more on A100 and H100, activations over 130 MB on the two GPUs above).
MEMORY_EFFICIENCY = 0.93
# Element-wise kernels read what the kernel before has just written, so part of it is still in the second-level cache:
# all of it while a kernel moves little, none at 1 / this many cache sizes. Fitted on the layer profiles above (0.42).
CACHE_DECAY = 0.4

# vLLM samples greedily in about ten kernels, two of which move the logits: 2 + 4 bytes per logit to make them float32,
# 4 to find the largest. Other sampling (temperature, top-k, top-p) takes a few such passes more and is not modelled.
_SAMPLING_KERNELS = 5
# An all-gather in units of the all-reduce of its result: half the traffic, in practice 0.6 to 0.75 of the time (NCCL on
# H100, 2 and 8 GPUs, from a million elements).
_GATHER_SHARE = 0.65
_LOGIT_BYTES = 4
# The LM head of a large vocabulary is wider than any product in the catalogues: it is timed as this many columns at
# most, so often as it takes. Its time is that of reading the weights, which the parts share out.
_WIDEST_PRODUCT = 65536


@dataclass(frozen=True)
class OperatorCall:
    """One operator of an iteration, on one GPU.

    Attributes:
        name: what it does, such as ``"qkv_proj"``.
        operator: who knows its time: ``"gemm"``, ``"prefill_attention"``, ``"decode_attention"``, ``"all_reduce"``
            (learned) or ``"bandwidth"`` (``bandwidth_seconds``).
        axis: what it grows with: all ``"tokens"`` of the iteration, ``"sequences"`` in it, its ``"decode"`` requests
            and the KV they read, or its ``"prefill"`` chunks.
        shape: what is fixed. gemm: n, k. attention: q_heads, kv_heads, head_dim. all_reduce: gpus, elements per row.
            bandwidth: bytes per row, kernels. A row is one step along the axis.
        count: calls in one iteration; a fraction where part of a call's time is meant.
        dtype: what the estimator is told apart by: type of a product's weights, of the KV cache, of what is reduced.
    """

    name: str
    operator: Literal["gemm", "prefill_attention", "decode_attention", "all_reduce", "bandwidth"]
    axis: Axis
    shape: Mapping[str, int] = field(hash=False)
    count: float
    dtype: str = "bf16"

    def columns(self, rows: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
        """Return the estimator's columns for ``rows`` steps along the axis (gemm and all_reduce only)."""
        if self.operator == "gemm":
            return {"m": rows, "n": np.full_like(rows, self.shape["n"]), "k": np.full_like(rows, self.shape["k"])}
        if self.operator == "all_reduce":
            return {"gpus": np.full_like(rows, self.shape["gpus"]), "elements": rows * self.shape["elements"]}
        raise ValueError(f"operator {self.operator} has no columns that follow from rows alone")


def bandwidth_seconds(num_bytes: ArrayLike, device: DeviceSpec, kernels: int = 1) -> NDArray[np.float64]:
    """Time of element-wise kernels inside a CUDA graph, seconds.

    A fixed part per kernel plus the bytes at a mixture of cache and memory speed. A sum, not the larger of the two:
    both fit the profiles at the ends, the sum fits better between.

    Args:
        num_bytes: read and written by all ``kernels`` together.
        device: whose bandwidths count.
        kernels: how many launches.
    """
    moved = np.asarray(num_bytes, dtype=np.float64)
    cached = np.maximum(0.0, 1.0 - CACHE_DECAY * moved / device.l2_bytes)
    from_memory = (1.0 - cached) / (MEMORY_EFFICIENCY * device.memory_bandwidth)
    fixed = kernels * (KERNEL_SECONDS + GRAPH_GAP_SECONDS)
    return np.asarray(fixed + moved * (cached / device.l2_bandwidth + from_memory), dtype=np.float64)


@dataclass(frozen=True)
class _Types:
    """Types of what an iteration moves; ``size`` and ``kv_size`` in bytes per element.

    Attributes:
        weights: of the matrices of the layers.
        kv: of the KV cache.
        activations: of all else.
    """

    weights: str
    kv: str
    activations: str

    @property
    def size(self) -> int:
        return DTYPE_BYTES[self.activations]

    @property
    def kv_size(self) -> int:
        return DTYPE_BYTES[self.kv]


def iteration_calls(
    model: ModelSpec, tp: int = 1, dtype: str = "bf16", pp: int = 1, stage: int = 0, kv_dtype: str = "auto"
) -> tuple[OperatorCall, ...]:
    """List the operators of one iteration over the layers of a pipeline stage on one of its ``tp`` GPUs.

    Args:
        model: what runs.
        tp: GPUs that share each layer.
        dtype: of the weights of the layers, and with them of the rest but for fp8, see ``activation_dtype``.
        pp: number of pipeline stages.
        stage: which of them.
        kv_dtype: of the KV cache, see ``ModelSpec.kv_cache_dtype``.

    Raises:
        EstimatorError: when ``tp`` or ``pp`` do not fit the model or a dtype is not one that it can have.
    """
    model.check_dtype(dtype)
    types = _Types(dtype, model.kv_cache_dtype(kv_dtype, dtype), activation_dtype(dtype))
    part = model.pipeline_stage(pp, stage)
    layers = (*_attention_calls(model, tp, types, part.layers), *_mlp_calls(model, tp, types, part.layers))
    return (*_outer_calls(model, tp, types, part), *layers)


def _attention_calls(model: ModelSpec, tp: int, types: _Types, layers: int) -> list[OperatorCall]:
    """Calls of the attention half of every layer."""
    hidden, size = model.hidden_size, types.size
    q_heads, kv_heads, head_dim = model.q_heads_per_gpu(tp), model.kv_heads_per_gpu(tp), model.head_dim
    heads = {"q_heads": q_heads, "kv_heads": kv_heads, "head_dim": head_dim}
    # Norm over the sum with the residual: reads both, writes both.
    calls = [_moves("input_norm", "tokens", 4 * hidden * size, layers)]
    calls.append(_gemm("qkv_proj", "tokens", (q_heads + 2 * kv_heads) * head_dim, hidden, layers, types.weights))
    if model.qk_norm:
        calls.append(_moves("qk_norm", "tokens", 2 * (q_heads + kv_heads) * head_dim * size, layers, kernels=2))
    calls.append(_moves("rope", "tokens", 2 * (q_heads + kv_heads) * model.rotary_dim * size, layers))
    calls.append(_moves("kv_write", "tokens", 2 * (size + types.kv_size) * kv_heads * head_dim, layers))
    calls.append(OperatorCall("decode_attention", "decode_attention", "decode", heads, layers, types.kv))
    calls.append(OperatorCall("prefill_attention", "prefill_attention", "prefill", heads, layers, types.kv))
    calls.append(_gemm("o_proj", "tokens", hidden, q_heads * head_dim, layers, types.weights))
    if tp > 1:
        calls.append(_all_reduce("attention_all_reduce", "tokens", tp, hidden, layers, types))
    return calls


def _mlp_calls(model: ModelSpec, tp: int, types: _Types, layers: int) -> list[OperatorCall]:
    """Calls of the MLP half of every layer."""
    hidden, inner, size = model.hidden_size, model.intermediate_size // tp, types.size
    calls = []
    if model.parallel_attention_mlp:  # Attention and MLP share the input norm; residual, both outputs in, sum out.
        calls.append(_moves("residual_add", "tokens", 4 * hidden * size, layers))
    else:
        calls.append(_moves("post_attention_norm", "tokens", 4 * hidden * size, layers))
    width = 2 * inner if model.gated_mlp else inner
    calls.append(
        _gemm("gate_up_proj" if model.gated_mlp else "up_proj", "tokens", width, hidden, layers, types.weights)
    )
    calls.append(_moves("act", "tokens", (width + inner) * size, layers))
    calls.append(_gemm("down_proj", "tokens", hidden, inner, layers, types.weights))
    if tp > 1:
        calls.append(_all_reduce("mlp_all_reduce", "tokens", tp, hidden, layers, types))
    return calls


def _outer_calls(model: ModelSpec, tp: int, types: _Types, stage: Stage) -> list[OperatorCall]:
    """Calls outside the layers."""
    return [
        *(_first_calls(model, tp, types) if stage.first else _input_calls(model, tp, types)),
        *(_last_calls(model, tp, types) if stage.last else ()),
    ]


def _first_calls(model: ModelSpec, tp: int, types: _Types) -> list[OperatorCall]:
    """Calls of the first stage before its layers."""
    hidden = model.hidden_size
    calls = [_moves("embedding", "tokens", 2 * hidden * types.size, 1)]
    if tp > 1:
        # The table is split by rows: each GPU looks up its own and the sum is the embedding.
        calls.append(_all_reduce("embedding_all_reduce", "tokens", tp, hidden, 1, types))
    return calls


def _input_calls(model: ModelSpec, tp: int, types: _Types) -> list[OperatorCall]:
    """Calls of a later stage before its layers.

    Each GPU of the stage before has sent a part of every tensor to its counterpart here, and these share the parts.
    """
    if tp == 1:
        return []
    share = _GATHER_SHARE * model.tensors_between_layers
    return [_all_reduce("input_gather", "tokens", tp, model.hidden_size, share, types)]


def _last_calls(model: ModelSpec, tp: int, types: _Types) -> list[OperatorCall]:
    """Calls of the last stage after its layers."""
    hidden, vocabulary, logits = model.hidden_size, model.vocabulary_per_gpu(tp), model.vocab_size
    parts, cast = -(-vocabulary // _WIDEST_PRODUCT), (types.size + _LOGIT_BYTES) * logits
    calls = [_moves("final_norm", "tokens", 4 * hidden * types.size, 1)]
    calls.append(_gemm("lm_head", "sequences", -(-vocabulary // parts), hidden, parts, types.activations))
    if tp > 1:
        calls.append(_all_reduce("logits_gather", "sequences", tp, vocabulary * tp, _GATHER_SHARE, types))
    calls.append(_moves("logits_cast", "sequences", cast, 1, kernels=_SAMPLING_KERNELS))
    calls.append(_moves("sample", "sequences", _LOGIT_BYTES * logits, 1, kernels=_SAMPLING_KERNELS))
    return calls


def _gemm(name: str, axis: Axis, n: int, k: int, count: int, dtype: str) -> OperatorCall:
    return OperatorCall(name, "gemm", axis, {"n": n, "k": k}, count, dtype)


def _all_reduce(name: str, axis: Axis, gpus: int, elements: int, count: float, types: _Types) -> OperatorCall:
    return OperatorCall(name, "all_reduce", axis, {"gpus": gpus, "elements": elements}, count, types.activations)


def _moves(name: str, axis: Axis, num_bytes: int, count: int, kernels: int = 1) -> OperatorCall:
    return OperatorCall(name, "bandwidth", axis, {"bytes": num_bytes, "kernels": kernels}, count)
