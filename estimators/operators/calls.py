"""One operator of an iteration, and what the lists of them are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from estimators.dtypes import DTYPE_BYTES, activation_dtype
from estimators.model_spec import ModelSpec
from estimators.profiles import COLLECTIVES, ELEMENTWISE
from estimators.weights import PARTS

Axis = Literal["tokens", "sequences", "engines", "decodes", "chunk", "history", "resumed", "decode", "prefill"]
#: Axes of one number; what grows along the two others is attention.
ROW_AXES: tuple[Axis, ...] = ("tokens", "sequences", "engines", "decodes", "chunk", "history", "resumed")
Operator = Literal[
    "gemm",
    "decode_attention",
    "prefill_attention",
    "latent_decode",
    "latent_prefill",
    "latent_bmm",
    "moe",
    "all_reduce",
    "all_gather",
    "reduce_scatter",
    "all_to_all",
    "bandwidth",
    "norm",
    "plain_norm",
    "rope",
    "kv_write",
    "activation",
    "plain_activation",
    "embedding",
    "add",
    "gating",
    "logits_cast",
    "sampling",
]
# The column that holds the rows.
_ROWS = {"gemm": "m", "moe": "tokens", "latent_bmm": "tokens", **dict.fromkeys(ELEMENTWISE, "tokens")}


@dataclass(frozen=True)
class OperatorCall:
    """One operator of an iteration, on one GPU.

    Attributes:
        name: what it does, such as ``"qkv_proj"``.
        operator: who knows its time: one of ``estimators.features.OPERATORS`` or ``"bandwidth"``
            (``bandwidth_seconds``).
        axis: what it grows with: all ``"tokens"`` of the iteration, the requests (``"sequences"``) in it, the tokens of
            all ``"engines"`` that share experts, its number of ``"decodes"``, those and the KV they read
            (``"decode"``), or, for each chunk of a prompt by itself, its tokens (``"chunk"``), those before it
            (``"history"``), its tokens if there are any before it (``"resumed"``), or both (``"prefill"``).
        shape: what is fixed. gemm: n, k. attention: q_heads, kv_heads, head_dim, window; latent attention: heads.
            latent_bmm: heads, n, k. moe: hidden, inter, topk, experts, local_experts, load. Collectives: gpus, elements
            per row. bandwidth: bytes per row, kernels. Element-wise: width. A row is one step along the axis.
        count: calls in one iteration; a fraction where part of a call's time is meant.
        dtype: what the estimator is told apart by: type of a product's weights, of the KV cache, of what is exchanged
            or moved.
        measured_as: one of ``ELEMENTWISE``, and
        width: its column, by which ``"bandwidth"`` is to be timed where that operator was measured; empty where nobody
            measures it.
    """

    name: str
    operator: Operator
    axis: Axis
    shape: Mapping[str, int] = field(hash=False)
    count: float
    dtype: str = "bf16"
    measured_as: Operator | Literal[""] = ""
    width: int = 0

    def measured(self) -> OperatorCall:
        """The same call as the operator that it is ``measured_as``."""
        assert self.measured_as
        return OperatorCall(self.name, self.measured_as, self.axis, {"width": self.width}, self.count, self.dtype)

    def columns(self, rows: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
        """Return the estimator's columns for ``rows`` steps along the axis (not of attention)."""
        if self.operator in COLLECTIVES:
            return {"gpus": np.full_like(rows, self.shape["gpus"]), "elements": rows * self.shape["elements"]}
        if self.operator in _ROWS:
            return {_ROWS[self.operator]: rows} | self.fixed(rows)
        raise ValueError(f"operator {self.operator} has no columns that follow from rows alone")

    def fixed(self, rows: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
        """Return the columns of the shape, as many rows as ``rows`` has."""
        return {name: np.full(rows.shape, value, dtype=np.int64) for name, value in self.shape.items()}


@dataclass(frozen=True)
class Types:
    """Types of what an iteration moves.

    Attributes:
        attention: of the matrices before the attention of the layers.
        attention_output: of those behind it.
        mlp: of the dense MLPs' matrices.
        experts: of the routed experts'.
        shared_experts: of those of the experts that every token passes.
        kv: of the KV cache.
        activations: of all else.
    """

    attention: str
    attention_output: str
    mlp: str
    experts: str
    shared_experts: str
    kv: str
    activations: str

    @classmethod
    def of(cls, model: ModelSpec, dtype: str, kv_dtype: str) -> Types:
        """Types of a model whose weights are of type ``dtype``, which is no ``"auto"``."""
        parts = {part: model.part_dtype(part, dtype) for part in PARTS}
        return cls(**parts, kv=model.kv_cache_dtype(kv_dtype, dtype), activations=activation_dtype(dtype))

    @property
    def size(self) -> int:
        """Bytes of one activation."""
        return int(DTYPE_BYTES[self.activations])

    @property
    def kv_size(self) -> int:
        """Bytes of one number in the KV cache."""
        return int(DTYPE_BYTES[self.kv])


def gemm(name: str, axis: Axis, n: int, k: int, count: int, dtype: str) -> OperatorCall:
    """Product of as many rows as the axis says with a matrix of ``k`` by ``n`` of type ``dtype``."""
    return OperatorCall(name, "gemm", axis, {"n": n, "k": k}, count, dtype)


def moves(
    name: str,
    axis: Axis,
    num_bytes: int,
    count: int,
    types: Types,
    measured_as: Operator | Literal[""] = "",
    width: int = 0,
    kernels: int = 1,
) -> OperatorCall:
    """Element-wise kernels that move so many bytes for each row; or one ``measured_as`` of so many numbers a row."""
    shape = {"bytes": num_bytes, "kernels": kernels}
    return OperatorCall(name, "bandwidth", axis, shape, count, types.activations, measured_as, width)


def cache_write(width: int, types: Types, count: int) -> OperatorCall:
    """Writing so many numbers of each token to the KV cache; measured only where that keeps their type."""
    measured: Operator | Literal[""] = "kv_write" if types.kv == types.activations else ""
    return moves("kv_write", "tokens", (types.size + types.kv_size) * width, count, types, measured, width)


def collective(
    name: str, operator: Operator, axis: Axis, gpus: int, elements: int, count: float, types: Types
) -> OperatorCall:
    """One of ``COLLECTIVES`` over so many activations for each row."""
    return OperatorCall(name, operator, axis, {"gpus": gpus, "elements": elements}, count, types.activations)
