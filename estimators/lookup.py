"""What one iteration consists of, operator by operator: how long each takes, and where that is known from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from estimators.attention_tables import decode_calls_seconds, prefill_calls_seconds, shares_launch
from estimators.build import Deployment, load_estimators
from estimators.coverage import measured_by, outside_shape
from estimators.devices import DeviceSpec, load_device
from estimators.errors import EstimatorError
from estimators.layout import IntArray
from estimators.model_spec import ModelSpec
from estimators.models import load_model
from estimators.operators import OperatorCall
from estimators.row_tables import Clock, Estimators, between_nodes, measured_calls

#: Name of what decodes and chunks of one iteration save together: their attention is launched once.
SHARED_LAUNCHES = "shared_launches"


@dataclass(frozen=True)
class OperationTime:
    """One operator of an iteration.

    Attributes:
        name: what it does, such as ``"qkv_proj"``.
        operator: what kind it is, such as ``"gemm"``.
        dtype: of the weights, of the KV cache, or of what is exchanged.
        layers: calls in the iteration; a fraction where part of a call's time is meant.
        seconds_each: of one call.
        seconds: of all.
        share: of the iteration, 0 to 1.
        source: where its time is known from.
        inside: whether its shape and size lie within what was measured; None for what no measurement is behind.
    """

    name: str
    operator: str
    dtype: str
    layers: float
    seconds_each: float
    seconds: float
    share: float
    source: str
    inside: bool | None


def operation_times(
    model: str | os.PathLike[str] | ModelSpec,
    device: str | DeviceSpec,
    deployment: Deployment | None = None,
    *,
    decodes: int = 0,
    kv: int = 0,
    chunks: Sequence[tuple[int, int]] = (),
    tokens: int | None = None,
    engine_tokens: int | None = None,
    estimators: Estimators | None = None,
    member: int = 0,
) -> list[OperationTime]:
    """List the operators of one iteration in their order, each timed by itself.

    The sum of their seconds is what ``IterationTables.iteration_time_s`` tells, but for the tables' interpolation.

    Args:
        model: a name, the path of a ``config.json``, or a ModelSpec.
        device: a name, the directory of a profile, or a DeviceSpec.
        deployment: how the model is split and in which types; one GPU in bf16 when None.
        decodes: decodes of the batch.
        kv: tokens that they read in total.
        chunks: (history, chunk) of the prompts in the batch.
        tokens: all tokens of the batch; one per decode and the chunks when None. More where the engine pads.
        engine_tokens: tokens of all engines that share experts; as many for each as this one has when None.
        estimators: who knows the time of operators; the shipped ones when None.
        member: see ``IterationTables.build``.

    Raises:
        EstimatorError: naming the argument that is wrong.
    """
    spec = model if isinstance(model, ModelSpec) else load_model(model)
    gpu = device if isinstance(device, DeviceSpec) else load_device(device)
    deployment = deployment or Deployment()
    _check_batch(decodes, kv, chunks)
    calls = deployment.calls(spec)
    known = load_estimators(calls, gpu, estimators)
    calls, clock = measured_calls(calls, known), Clock(gpu, known, member)
    if tokens is None:
        tokens = decodes + sum(chunk for _, chunk in chunks)
    if engine_tokens is None:
        engine_tokens = deployment.data_parallel * tokens
    batch = _Batch(tokens, decodes + len(chunks), engine_tokens, decodes, kv, tuple(chunks))
    timed = [(call, batch.seconds(call, clock)) for call in calls]
    saved = _shared_launches(calls, clock, batch)
    total = sum(call.count * each for call, each in timed) - saved
    rows = [
        OperationTime(
            call.name,
            call.operator,
            call.dtype,
            call.count,
            each,
            call.count * each,
            call.count * each / total,
            _source(call, clock),
            _inside(call, clock, batch),
        )
        for call, each in timed
        if each > 0
    ]
    if saved:
        rows.append(
            OperationTime(SHARED_LAUNCHES, "attention", "", 1, -saved, -saved, -saved / total, "modelled", None)
        )
    return rows


@dataclass(frozen=True)
class _Batch:
    tokens: int
    sequences: int
    engines: int
    decodes: int
    kv: int
    chunks: tuple[tuple[int, int], ...]

    def seconds(self, call: OperatorCall, clock: Clock) -> float:
        """Seconds of one call of an operator, added up over the chunks where each has its own."""
        if call.axis in ("tokens", "sequences", "engines"):
            return float(clock.rows([(call, np.array([getattr(self, call.axis)]))])[0][0])
        if call.axis in ("decodes", "decode"):
            if not self.decodes:
                return 0.0
            batch, mean = np.array([self.decodes]), np.array([max(1.0, self.kv / self.decodes)])
            return float(decode_calls_seconds([call], clock, batch, mean)[0]) / call.count
        if not self.chunks:
            return 0.0
        return float(prefill_calls_seconds([call], clock, *_columns(self.chunks)).sum()) / call.count

    def columns(self, call: OperatorCall) -> dict[str, tuple[float, float]]:
        """Least and largest value of each of an operator's columns that is not part of its shape."""
        if call.axis == "decode":
            mean = max(1.0, self.kv / max(1, self.decodes))
            kv = min(mean, call.shape.get("window") or mean)
            return {"batch": (self.decodes, self.decodes), "kv": (kv, kv)}
        if call.axis in ("prefill", "chunk", "history", "resumed"):
            history, chunk = _columns(self.chunks)
            rows = history[history > 0] if call.axis == "history" else chunk
            seen = rows.astype(np.float64)
            if call.axis == "prefill":  # A history counts by the keys that it adds.
                seen += np.minimum(history, call.shape.get("window") or np.inf)
            return {name: (rows.min(), seen.max()) for name in ("chunk", "m")}
        rows_of = getattr(self, call.axis)
        size = rows_of * call.shape.get("elements", 1)
        return {name: (size, size) for name in ("m", "tokens", "elements")}


def _columns(chunks: Sequence[tuple[int, int]]) -> tuple[IntArray, IntArray]:
    pairs = np.array(chunks, dtype=np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def _shared_launches(calls: Sequence[OperatorCall], clock: Clock, batch: _Batch) -> float:
    """What the tables take off because the attention of decodes and all chunks is one launch."""
    parts = len(batch.chunks) + (batch.decodes > 0)
    if parts < 2 or not shares_launch(calls, clock):
        return 0.0
    one, none = np.ones(1, np.int64), np.zeros(1, np.int64)
    decode = decode_calls_seconds(calls, clock, one, np.ones(1))
    return (parts - 1) * float(min(decode[0], prefill_calls_seconds(calls, clock, none, one)[0]))


def _source(call: OperatorCall, clock: Clock) -> str:
    """Where the time of a call comes from, in a few words."""
    if call.operator == "bandwidth":
        return "bandwidth model"
    if between_nodes(call, clock.device):
        return "network model"
    metadata = clock.metadata(call)
    words = [str(metadata[key]) for key in ("engine", "source") if metadata.get(key)]
    return ", ".join(words) or "estimators given"


def _inside(call: OperatorCall, clock: Clock, batch: _Batch) -> bool | None:
    """Whether shape and size of a call lie within what was measured."""
    if call.operator == "bandwidth" or between_nodes(call, clock.device):
        return None
    measured = measured_by(clock.estimators, (call,))
    ranges = measured[call.dtype].get(call.operator, {})
    if outside_shape(call, measured):
        return False
    sizes = batch.columns(call).items()
    return all(ranges[name][0] <= low and high <= ranges[name][1] for name, (low, high) in sizes if name in ranges)


def _check_batch(decodes: int, kv: int, chunks: Sequence[tuple[int, int]]) -> None:
    """Raise ``EstimatorError`` unless there is something to do and every number is one of tokens."""
    if not decodes and not chunks:
        raise EstimatorError("decodes", decodes, "leaves nothing to do without chunks", "give decodes or chunks")
    if decodes < 0 or kv < decodes or (kv and not decodes):
        raise EstimatorError("kv", kv, f"is not what {decodes} decodes read", "give a token for each or more")
    for history, chunk in chunks:
        if history < 0 or chunk < 1:
            raise EstimatorError("chunks", (history, chunk), "is no chunk of a prompt", "give (0 or more, 1 or more)")
