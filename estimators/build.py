"""Builds iteration tables: a model's operators, timed by estimators over the whole grid."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from estimators import cache as table_cache
from estimators import layout as table_layout
from estimators import operators
from estimators.devices import DeviceSpec, load_device
from estimators.errors import EstimatorError
from estimators.layout import FloatArray, IntArray, PrefillRule, TableLayout, log_index, log_points
from estimators.model_spec import ModelSpec, weight_dtype_bytes
from estimators.models import load_model
from estimators.operators import OperatorCall, bandwidth_seconds, iteration_calls
from estimators.tables import IterationTables

# Decode attention is evaluated for every number of decodes up to 2 ** (this + 1) and for 2 ** this of them per octave
# beyond, and interpolated between: 64 steps per octave are finer than what a batch of that size resolves.
_DECODE_BITS = 6
# Rows through the estimators in one build: 30 trees take about a second for each million on two cores.
_MOST_ROWS = 3_000_000


class Estimators(Protocol):
    """Who knows the time of operators on one device with one dtype, such as ``OperatorEstimators``."""

    @property
    def hash(self) -> str:
        """Changes whenever a prediction may change."""

    @property
    def profiled(self) -> Mapping[str, Mapping[str, Any]]:
        """For each operator and column the [lowest, highest] value that was measured."""

    def predict(self, operator: str, columns: dict[str, NDArray[Any]]) -> FloatArray:
        """Return seconds, one per row of ``columns``."""


def build_tables(
    model: str | os.PathLike[str] | ModelSpec,
    device: str | DeviceSpec,
    tp: int,
    dtype: str,
    layout: TableLayout,
    prefill_rule: PrefillRule,
    cache: bool,
    estimators: Estimators | None,
) -> IterationTables:
    """Build tables or load them from the cache; the arguments are those of ``IterationTables.build``."""
    spec = model if isinstance(model, ModelSpec) else load_model(model)
    gpu = device if isinstance(device, DeviceSpec) else load_device(device)
    spec.check_tensor_parallel(tp)
    weight_dtype_bytes(dtype)
    if tp > gpu.gpus_per_node:
        mend = f"choose up to {gpu.gpus_per_node}"
        raise EstimatorError("tp", tp, f"is more than the {gpu.gpus_per_node} GPUs of a {gpu.name} node", mend)
    rows = _count_rows(layout, tp)
    if rows > _MOST_ROWS:
        mend = f"lower max_tokens, max_sequences or max_model_len until {_MOST_ROWS} are enough"
        raise EstimatorError("layout", rows, "estimator rows are too many for one build", mend)
    known = estimators if estimators is not None else _load_estimators(gpu.name, dtype)

    def build() -> IterationTables:
        return _build(spec, gpu, tp, dtype, layout, prefill_rule, known)

    if not cache:
        return build()
    parts = {
        "estimators": known.hash,
        "model": asdict(spec),
        "device": asdict(gpu),
        "tp": tp,
        "dtype": dtype,
        "layout": asdict(layout),
        "prefill_rule": prefill_rule,
    }
    # The code that turns predictions into tables is part of the key: an edited constant must not meet old tables.
    sources = [Path(module) for module in (__file__, operators.__file__, table_layout.__file__)]
    return table_cache.cached(table_cache.content_key(parts, sources), build)


def _load_estimators(device: str, dtype: str) -> Estimators:
    from estimators.estimator import OperatorEstimators

    estimators: Estimators = OperatorEstimators.load(device, dtype)
    return estimators


def _build(
    model: ModelSpec,
    device: DeviceSpec,
    tp: int,
    dtype: str,
    layout: TableLayout,
    prefill_rule: PrefillRule,
    estimators: Estimators,
) -> IterationTables:
    calls = iteration_calls(model, tp, dtype)
    token_s, sequence_s = _row_tables(calls, device, layout, estimators)
    decode_s, prefill_s = _decode_table(calls, layout, estimators), _prefill_table(calls, layout, estimators)
    # One kernel serves the decodes and the chunks of an iteration, so its launch is paid once per iteration, with the
    # tokens, and not again by every chunk: what the emptiest attention costs moves from the two attention tables to the
    # token table. An iteration of decodes only, or of one chunk, costs what it did.
    launch = min(decode_s[1:].min(), prefill_s[:, 1:].min())
    token_s[1:] += launch
    decode_s[1:] -= launch
    prefill_s[:, 1:] -= launch
    provenance = {
        "source": "operator estimators",
        "model": model.name,
        "device": device.name,
        "tp": tp,
        "dtype": dtype,
        "estimators": estimators.hash,
        "version": table_cache.FORMAT_VERSION,
        "profiled": _profiled(calls, estimators.profiled),
        "history_is": "modelled",
        "attention_launch_s": float(launch),
    }
    return IterationTables.from_arrays(
        token_s=token_s,
        sequence_s=sequence_s,
        decode_s=decode_s,
        prefill_s=prefill_s,
        max_kv=layout.max_kv,
        max_history=layout.max_history,
        max_chunk=layout.max_chunk,
        kv_bits=layout.kv_bits,
        history_bits=layout.history_bits,
        chunk_bits=layout.chunk_bits,
        prefill_rule=prefill_rule,
        provenance=provenance,
    )


def _row_tables(
    calls: tuple[OperatorCall, ...], device: DeviceSpec, layout: TableLayout, estimators: Estimators
) -> tuple[FloatArray, FloatArray]:
    """Seconds by tokens and by sequences, with 0 for none; one prediction per operator."""
    rows = {"tokens": np.arange(1, layout.max_tokens + 1), "sequences": np.arange(1, layout.max_sequences + 1)}
    tables = {axis: np.zeros(steps.size + 1) for axis, steps in rows.items()}
    for call in calls:
        if call.operator == "bandwidth":
            seconds = bandwidth_seconds(rows[call.axis] * call.shape["bytes"], device, call.shape["kernels"])
            tables[call.axis][1:] += call.count * seconds
    for operator in ("gemm", "all_reduce"):
        chosen = [call for call in calls if call.operator == operator]
        if not chosen:
            continue
        columns = [call.columns(rows[call.axis]) for call in chosen]
        together = {name: np.concatenate([part[name] for part in columns]) for name in columns[0]}
        seconds = estimators.predict(operator, together)
        ends = np.cumsum([rows[call.axis].size for call in chosen])
        for call, part in zip(chosen, np.split(seconds, ends[:-1]), strict=True):
            tables[call.axis][1:] += call.count * part
    return tables["tokens"], tables["sequences"]


def _decode_table(calls: tuple[OperatorCall, ...], layout: TableLayout, estimators: Estimators) -> FloatArray:
    """Seconds by (decodes, kv points); row 0 is 0."""
    call = next(call for call in calls if call.operator == "decode_attention")
    batch, points = _decode_batches(layout), log_points(layout.kv_points, layout.kv_bits)
    # A batch of n reads n tokens at least and n times the longest context at most. Other cells take the nearest of
    # these, with a point to spare on either side for interpolation.
    longest = min(layout.max_kv, max(layout.max_history, layout.max_chunk))
    first = np.maximum(log_index(batch, layout.kv_bits)[0], 1)
    last = np.minimum(log_index(batch * longest, layout.kv_bits)[0] + 2, layout.kv_points - 1)
    column = np.clip(np.arange(layout.kv_points), first[:, None], np.maximum(first, last)[:, None])
    cells, position = np.unique(np.arange(batch.size)[:, None] * layout.kv_points + column, return_inverse=True)
    requests, kv = batch[cells // layout.kv_points], points[cells % layout.kv_points]
    columns = {"batch": requests, "kv": np.maximum(1.0, kv / requests), **_heads(call, cells.size)}
    seconds = call.count * estimators.predict("decode_attention", columns)
    coarse = seconds[position.reshape(column.shape)]
    return np.concatenate([np.zeros((1, layout.kv_points)), _between(coarse, batch, layout.max_sequences)])


def _between(coarse: FloatArray, batch: IntArray, largest: int) -> FloatArray:
    """Rows for 1 .. ``largest`` decodes, interpolated between those of ``batch``."""
    wanted = np.arange(1, largest + 1)
    below = np.searchsorted(batch, wanted, side="right") - 1
    above = np.minimum(below + 1, batch.size - 1)
    weight = (wanted - batch[below]) / np.maximum(batch[above] - batch[below], 1)
    return np.asarray(coarse[below] + (coarse[above] - coarse[below]) * weight[:, None])


def _prefill_table(calls: tuple[OperatorCall, ...], layout: TableLayout, estimators: Estimators) -> FloatArray:
    """Seconds by (history points, chunk points); the column of chunk 0 is 0."""
    call = next(call for call in calls if call.operator == "prefill_attention")
    history, chunk = np.meshgrid(
        log_points(layout.history_points, layout.history_bits),
        log_points(layout.chunk_points, layout.chunk_bits)[1:],
        indexing="ij",
    )
    size = history.size
    columns = {"batch": np.ones(size, np.int64), "chunk": chunk.ravel(), "history": history.ravel()}
    seconds = call.count * estimators.predict("prefill_attention", {**columns, **_heads(call, size)})
    table = np.zeros((layout.history_points, layout.chunk_points))
    table[:, 1:] = seconds.reshape(history.shape)
    return table


def _decode_batches(layout: TableLayout) -> IntArray:
    """Numbers of decodes that are evaluated, ascending, the largest included."""
    count = int(log_index(layout.max_sequences, _DECODE_BITS)[0]) + 1
    return np.union1d(log_points(count, _DECODE_BITS)[1:], layout.max_sequences)


def _heads(call: OperatorCall, rows: int) -> dict[str, IntArray]:
    return {name: np.full(rows, value, dtype=np.int64) for name, value in call.shape.items()}


def _count_rows(layout: TableLayout, tp: int) -> int:
    """Most rows that a build sends through the estimators."""
    linear = (4 + 3 * (tp > 1)) * layout.max_tokens + 2 * layout.max_sequences
    return linear + _decode_batches(layout).size * layout.kv_points + layout.history_points * layout.chunk_points


def _profiled(
    calls: tuple[OperatorCall, ...], profiled: Mapping[str, Mapping[str, Any]]
) -> dict[str, list[int | float] | None]:
    """Ranges of the tables' axes that the estimators' measurements cover; None where they say nothing.

    ``decode_kv`` is the range of totals that the measured batches and contexts span, ``decode_context`` that of one
    request. No chunk over a history was measured: it is modelled by the measured chunk of as many query tiles and as
    long a loop over keys, so ``history`` is covered as far as the keys read were (``"history_is": "modelled"``).
    """

    def span(operator: str, column: str) -> list[Any] | None:
        found = profiled.get(operator, {}).get(column)
        return None if found is None else list(np.asarray(found).tolist())  # Plain numbers, for the JSON header.

    tokens = span("gemm", "m")
    reduced = span("all_reduce", "elements")
    width = next((call.shape["elements"] for call in calls if call.name == "attention_all_reduce"), None)
    if tokens and reduced and width:
        tokens = [max(tokens[0], -(-reduced[0] // width)), min(tokens[1], reduced[1] // width)]
    batch, context = span("decode_attention", "batch"), span("decode_attention", "kv")
    chunk = span("prefill_attention", "chunk")
    total = [batch[0] * context[0], batch[1] * context[1]] if batch and context else None
    return {
        "tokens": tokens,
        "sequences": span("gemm", "m"),
        "decodes": batch,
        "decode_context": context,
        "decode_kv": total,
        "history": [0, chunk[1] - 1] if chunk else None,
        "chunk": chunk,
    }
