"""What can be measured for a model: the points of its own shapes, at every size that a serving engine may ask for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import numpy as np

from estimators.errors import EstimatorError
from estimators.model_spec import ModelSpec
from estimators.operators import ROW_AXES, OperatorCall, iteration_calls
from estimators.profiles import COLLECTIVES, columns_of

Kind = tuple[str, str]
"""An operator and the type it is measured in."""

_CAPTURED, _CAPTURE_STEP = 512, 8  # vLLM captures CUDA graphs for batches of 1, 2, 4, 8, 16, ..., 512
_TILE = 128  # rows that one thread block of a product works on
#: Columns along which an operator's time grows while its shape stays.
GROWING = ("m", "tokens", "batch", "kv", "chunk", "history")


@dataclass(frozen=True, order=True)
class Point:
    """One call of one operator.

    Attributes:
        operator: a key of ``profiles.COLUMNS`` or ``profiles.OTHER_COLUMNS``.
        dtype: one of its ``profiles.DTYPES``.
        values: of its columns, in the order of ``profiles.columns_of``.
    """

    operator: str
    dtype: str
    values: tuple[int, ...]

    @classmethod
    def of(cls, operator: str, dtype: str, columns: Mapping[str, int]) -> Point:
        """A point from its columns in any order."""
        return cls(operator, dtype, tuple(int(columns[name]) for name in columns_of(operator)))

    @property
    def columns(self) -> dict[str, int]:
        """The values by the names of their columns."""
        return dict(zip(columns_of(self.operator), self.values, strict=True))

    @property
    def shape(self) -> tuple[int, ...]:
        """The values that the model fixes, without those that grow with a batch."""
        return tuple(value for name, value in self.columns.items() if name not in GROWING)

    @property
    def size(self) -> tuple[int, ...]:
        """The values that grow with a batch."""
        return tuple(value for name, value in self.columns.items() if name in GROWING)


@dataclass(frozen=True)
class Limits:
    """How large batches get; the defaults are those of ``fastsim run``.

    Attributes:
        max_tokens: tokens in one iteration.
        max_num_seqs: requests in one iteration.
        max_model_len: tokens of the longest request; of a model that takes fewer, those.
        block_size: tokens of a block of the KV cache.
    """

    max_tokens: int = 2048
    max_num_seqs: int = 128
    max_model_len: int = 8192
    block_size: int = 16

    def check(self) -> None:
        """Refuse limits that are not numbers of 1 or more, naming the field."""
        for name, value in vars(self).items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise EstimatorError(name, value, "is not a limit", "give 1 or more")
        if self.max_tokens < self.max_num_seqs:
            wrong = f"is less than max_num_seqs = {self.max_num_seqs}"
            raise EstimatorError("max_tokens", self.max_tokens, wrong, f"give {self.max_num_seqs} or more")


def candidates(
    model: ModelSpec, tps: Sequence[int], dtype: str, limits: Limits, memory_bytes: int | None = None
) -> dict[Kind, dict[Point, float]]:
    """All points of a model, the full grid of which a profile measures a part.

    Args:
        model: whose shapes count.
        tps: how many GPUs share a layer: each gives shapes of its own, all measured on one device.
        dtype: of the weights, see ``iteration_calls``.
        limits: how large batches get.
        memory_bytes: of the device; decodes that read more KV than can be kept beside the weights are left out.

    Returns:
        By operator and type the points, sorted, with the number of their calls in one iteration. Collectives, which one
        device cannot do, are not among them.

    Raises:
        EstimatorError: for a tp that does not fit the model, or a type that its weights do not come in.
    """
    limits.check()
    capped = replace(limits, max_model_len=min(limits.max_model_len, model.max_position_embeddings))
    found: dict[Kind, dict[Point, float]] = {}
    for tp in tps:
        most_kv = _most_kv(model, tp, dtype, memory_bytes)
        for call in iteration_calls(model, tp, dtype):
            for point in _points(call, capped, most_kv):
                counts = found.setdefault((point.operator, point.dtype), {})
                counts[point] = counts.get(point, 0.0) + call.count / len(tps)
    return {kind: dict(sorted(found[kind].items())) for kind in sorted(found)}


def _most_kv(model: ModelSpec, tp: int, dtype: str, memory_bytes: int | None) -> float:
    """Tokens that the KV cache of a whole engine holds, which no batch of decodes can exceed."""
    if memory_bytes is None:
        return np.inf
    left = memory_bytes - model.weight_bytes(tp, dtype)
    return max(1.0, left / model.kv_bytes_per_token(tp, model.kv_cache_dtype("auto", model.resolve_dtype(dtype))))


def _points(call: OperatorCall, limits: Limits, most_kv: float) -> Iterable[Point]:
    """Every point of one call."""
    if call.operator in COLLECTIVES:
        return
    if call.operator == "bandwidth":
        if not call.measured_as:
            return
        call = call.measured()
    make = partial(Point.of, call.operator, call.dtype)
    window = call.shape.get("window") or limits.max_model_len
    if call.axis in ROW_AXES:
        steps = np.asarray(_rows(call.axis, limits), dtype=np.int64)
        columns = call.columns(steps)
        for i in range(steps.size):
            yield make({name: values[i] for name, values in columns.items()})
    elif call.axis == "decode":
        lengths = _coarse(min(limits.max_model_len, window))
        for batch, kv in product(_coarse(limits.max_num_seqs), lengths):
            if batch * kv <= most_kv:
                yield make({"batch": batch, "kv": kv, **call.shape})
    else:
        histories = [0, *_coarse(min(limits.max_model_len - 1, window))]
        for chunk, history in product(_coarse(min(limits.max_tokens, limits.max_model_len)), histories):
            if history + chunk <= limits.max_model_len:
                yield make({"batch": 1, "chunk": chunk, "history": history, **call.shape})


def _rows(axis: str, limits: Limits) -> list[int]:
    """Sizes along an axis of one number: powers of two and their middles, captured batches, and both sides of tiles."""
    tokens = min(limits.max_tokens, limits.max_model_len)
    most = {"sequences": limits.max_num_seqs, "decodes": limits.max_num_seqs, "history": limits.max_model_len - 1}
    most |= {"chunk": tokens, "resumed": tokens}
    end = most.get(axis, limits.max_tokens)
    steps = {*_coarse(end), *range(_CAPTURE_STEP, min(end, _CAPTURED) + 1, _CAPTURE_STEP)}
    for edge in range(_TILE, end, _TILE):
        steps |= {edge, edge + 1}
    return sorted(steps)


def _coarse(most: int) -> list[int]:
    """1, 2, 3, 4, 6, 8, 12, ... and ``most``."""
    powers = [1 << i for i in range(most.bit_length())]
    return sorted({*powers, *(3 * power // 2 for power in powers[1:] if 3 * power // 2 <= most), most})
