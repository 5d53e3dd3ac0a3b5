"""Builds iteration tables: a model's operators, timed by estimators over the whole grid."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from estimators import cache as table_cache
from estimators import coverage, monotone, operators
from estimators import layout as table_layout
from estimators.coverage import outside_profiles, profiled_axes
from estimators.devices import DeviceSpec, load_device
from estimators.errors import EstimatorError
from estimators.layout import FloatArray, IntArray, PrefillRule, TableLayout, log_index, log_points
from estimators.model_spec import ModelSpec
from estimators.models import load_model
from estimators.monotone import smooth_rows
from estimators.operators import OperatorCall, bandwidth_seconds, iteration_calls
from estimators.tables import IterationTables

# Decode attention is evaluated for every number of decodes up to 2 ** (this + 1) and for 2 ** this of them per octave
# beyond, and interpolated between: 64 steps per octave are finer than what a batch of that size resolves.
_DECODE_BITS = 6
# Tokens are evaluated one by one up to here and for 2 ** _TOKEN_BITS of them per octave beyond, with linear
# interpolation between: below 1 % from a prediction for each, on average, and below 8 % at the worst.
_EXACT_TOKENS = 16384
_TOKEN_BITS = 6
# Prefill does not fall along chunks from here on. A chunk of one token, the only shorter one that was measured, takes
# FlashAttention 2 up to a tenth longer than one of 16.
_SHORTEST_SMOOTHED = 16
# Rows through the estimators in one build: 20 trees take about 0.4 s for each million on two cores.
_MOST_ROWS = 3_000_000
# Values in the tables, 512 MiB.
_MOST_VALUES = 1 << 26


class Estimators(Protocol):
    """Who knows the time of operators on one device in one dtype, such as ``OperatorEstimators``."""

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
    pp: int,
    stage: int,
    kv_dtype: str,
) -> IterationTables:
    """Build tables or load them from the cache; the arguments are those of ``IterationTables.build``."""
    spec = model if isinstance(model, ModelSpec) else load_model(model)
    gpu = device if isinstance(device, DeviceSpec) else load_device(device)
    spec.check_tensor_parallel(tp, gpu.gpus_per_node)
    part = spec.pipeline_stage(pp, stage)
    if tp > gpu.gpus_per_node:
        wrong = f"is more than the {gpu.gpus_per_node} GPUs of a {gpu.name} node"
        raise EstimatorError("tp", tp, wrong, spec.tensor_parallel_mend(gpu.gpus_per_node))
    _check_size(layout, tp)
    calls = iteration_calls(spec, tp, dtype, pp, stage, kv_dtype)
    dtypes = sorted({call.dtype for call in calls if call.operator != "bandwidth"})
    known = {kind: estimators if estimators is not None else _load_estimators(gpu.name, kind) for kind in dtypes}

    kinds = {"dtype": dtype, "kv_dtype": spec.kv_cache_dtype(kv_dtype, dtype)}
    provenance = {"model": spec.name, "device": gpu.name, "tp": tp, **kinds, "stage": part._asdict()}

    def build() -> IterationTables:
        return _build(calls, gpu, layout, prefill_rule, known, provenance)

    if not cache:
        return build()
    parts = {
        "estimators": {kind: of.hash for kind, of in known.items()},
        "model": asdict(spec),
        "device": asdict(gpu),
        "tp": tp,
        **kinds,
        # Not which stage of how many: stages that hold the same take the same time, and share an entry.
        "stage": part._asdict(),
        "layout": asdict(layout),
        "prefill_rule": prefill_rule,
    }
    # The code that turns predictions into tables is part of the key: an edited constant must not meet old tables.
    files = (__file__, coverage.__file__, monotone.__file__, operators.__file__, table_layout.__file__)
    sources = [Path(file) for file in files]
    return table_cache.cached(table_cache.content_key(parts, sources), build)


def _load_estimators(device: str, dtype: str) -> Estimators:
    from estimators.estimator import OperatorEstimators

    estimators: Estimators = OperatorEstimators.load(device, dtype)
    return estimators


def _build(
    calls: tuple[OperatorCall, ...],
    device: DeviceSpec,
    layout: TableLayout,
    prefill_rule: PrefillRule,
    estimators: Mapping[str, Estimators],
    provenance: Mapping[str, Any],
) -> IterationTables:
    token_s, sequence_s = _row_tables(calls, device, layout, estimators)
    decode_s, prefill_s = _decode_table(calls, layout, estimators), _prefill_table(calls, layout, estimators)
    # One kernel serves the decodes and the chunks of an iteration, so its launch is paid once per iteration, with the
    # tokens, and not again by every chunk: what the emptiest attention costs moves from the two attention tables to the
    # token table. An iteration of decodes only, or of one chunk, costs what it did.
    launch = min(decode_s[1:].min(), prefill_s[:, 1:].min())
    token_s[1:] += launch
    decode_s[1:] -= launch
    prefill_s[:, 1:] -= launch
    measured = {kind: of.profiled for kind, of in estimators.items()}
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
        provenance={
            "source": "operator estimators",
            **provenance,
            "estimators": {kind: of.hash for kind, of in estimators.items()},
            "version": table_cache.FORMAT_VERSION,
            "profiled": profiled_axes(calls, measured),
            "outside_profiles": outside_profiles(calls, measured),
            "history_is": "modelled",
            "attention_launch_s": float(launch),
        },
    )


def _row_tables(
    calls: tuple[OperatorCall, ...], device: DeviceSpec, layout: TableLayout, estimators: Mapping[str, Estimators]
) -> tuple[FloatArray, FloatArray]:
    """Seconds by tokens and by sequences, with 0 for none; one prediction per operator and dtype."""
    rows = {"tokens": _token_steps(layout), "sequences": np.arange(1, layout.max_sequences + 1)}
    tables = {axis: np.zeros(steps.size) for axis, steps in rows.items()}
    for call in calls:
        if call.operator == "bandwidth":
            seconds = bandwidth_seconds(rows[call.axis] * call.shape["bytes"], device, call.shape["kernels"])
            tables[call.axis] += call.count * seconds
    for operator, dtype in product(("gemm", "all_reduce"), estimators):
        chosen = [call for call in calls if (call.operator, call.dtype) == (operator, dtype)]
        if not chosen:
            continue
        columns = [call.columns(rows[call.axis]) for call in chosen]
        together = {name: np.concatenate([part[name] for part in columns]) for name in columns[0]}
        seconds = estimators[dtype].predict(operator, together)
        ends = np.cumsum([rows[call.axis].size for call in chosen])
        for call, part in zip(chosen, np.split(seconds, ends[:-1]), strict=True):
            tables[call.axis] += call.count * part
    tokens = np.interp(np.arange(1, layout.max_tokens + 1), rows["tokens"], tables["tokens"])
    return np.append(0.0, tokens), np.append(0.0, tables["sequences"])


def _decode_table(
    calls: tuple[OperatorCall, ...], layout: TableLayout, estimators: Mapping[str, Estimators]
) -> FloatArray:
    """Seconds by (decodes, kv points); row 0 is 0."""
    call = next(call for call in calls if call.operator == "decode_attention")
    batch, points = _decode_batches(layout), log_points(layout.kv_points, layout.kv_bits)
    # A batch of n reads n tokens at least and n times the longest context at most. Other cells take the nearest of
    # these, with a point to spare on either side for interpolation.
    longest = min(layout.max_kv, max(layout.max_history, layout.max_chunk))
    first = np.clip(log_index(batch, layout.kv_bits)[0], 1, layout.kv_points - 1)
    last = np.minimum(log_index(batch * longest, layout.kv_bits)[0] + 2, layout.kv_points - 1)
    column = np.clip(np.arange(layout.kv_points), first[:, None], last[:, None])
    cells, position = np.unique(np.arange(batch.size)[:, None] * layout.kv_points + column, return_inverse=True)
    requests, kv = batch[cells // layout.kv_points], points[cells % layout.kv_points]
    columns = {"batch": requests, "kv": np.maximum(1.0, kv / requests), **_heads(call, cells.size)}
    seconds = call.count * estimators[call.dtype].predict("decode_attention", columns)
    coarse = seconds[position.reshape(column.shape)]
    for row, (start, end) in enumerate(zip(first, last, strict=True)):  # No more than what was evaluated.
        coarse[row, start : end + 1] = smooth_rows(coarse[row : row + 1, start : end + 1])
    coarse = np.take_along_axis(coarse, column, axis=1)
    return np.concatenate([np.zeros((1, layout.kv_points)), _between(coarse, batch, layout.max_sequences)])


def _between(coarse: FloatArray, batch: IntArray, largest: int) -> FloatArray:
    """Rows for 1 .. ``largest`` decodes, interpolated between those of ``batch``."""
    wanted = np.arange(1, largest + 1)
    below = np.searchsorted(batch, wanted, side="right") - 1
    above = np.minimum(below + 1, batch.size - 1)
    weight = (wanted - batch[below]) / np.maximum(batch[above] - batch[below], 1)
    return np.asarray(coarse[below] + (coarse[above] - coarse[below]) * weight[:, None])


def _prefill_table(
    calls: tuple[OperatorCall, ...], layout: TableLayout, estimators: Mapping[str, Estimators]
) -> FloatArray:
    """Seconds by (history points, chunk points); the column of chunk 0 is 0."""
    call = next(call for call in calls if call.operator == "prefill_attention")
    history, chunk = np.meshgrid(
        log_points(layout.history_points, layout.history_bits),
        log_points(layout.chunk_points, layout.chunk_bits)[1:],
        indexing="ij",
    )
    size = history.size
    columns = {"batch": np.ones(size, np.int64), "chunk": chunk.ravel(), "history": history.ravel()}
    seconds = call.count * estimators[call.dtype].predict("prefill_attention", {**columns, **_heads(call, size)})
    table = np.zeros((layout.history_points, layout.chunk_points))
    table[:, 1:] = seconds.reshape(history.shape)
    table[:, _SHORTEST_SMOOTHED:] = smooth_rows(table[:, _SHORTEST_SMOOTHED:])
    table[:, 1:] = smooth_rows(table[:, 1:].T).T
    return table


def _token_steps(layout: TableLayout) -> IntArray:
    """Numbers of tokens that are evaluated, ascending, the largest included."""
    if layout.max_tokens <= _EXACT_TOKENS:
        return np.arange(1, layout.max_tokens + 1)
    count = int(log_index(layout.max_tokens, _TOKEN_BITS)[0]) + 1
    beyond = log_points(count, _TOKEN_BITS)
    steps = np.append(np.arange(1, _EXACT_TOKENS + 1), beyond[beyond > _EXACT_TOKENS])
    return np.union1d(steps, layout.max_tokens)


def _decode_batches(layout: TableLayout) -> IntArray:
    """Numbers of decodes that are evaluated, ascending, the largest included."""
    count = int(log_index(layout.max_sequences, _DECODE_BITS)[0]) + 1
    return np.union1d(log_points(count, _DECODE_BITS)[1:], layout.max_sequences)


def _heads(call: OperatorCall, rows: int) -> dict[str, IntArray]:
    return {name: np.full(rows, value, dtype=np.int64) for name, value in call.shape.items()}


def _check_size(layout: TableLayout, tp: int) -> None:
    limits = [("values", layout.size, _MOST_VALUES)]
    if layout.size <= _MOST_VALUES:  # Else even counting the rows takes too long.
        limits.append(("estimator rows", _count_rows(layout, tp), _MOST_ROWS))
    for what, needed, most in limits:
        if needed > most:
            mend = f"lower max_tokens, max_sequences or max_model_len until {most} are enough"
            raise EstimatorError("layout", needed, f"{what} are too many for one build", mend)


def _count_rows(layout: TableLayout, tp: int) -> int:
    """Most rows that a build sends through the estimators."""
    linear = (4 + 3 * (tp > 1)) * _token_steps(layout).size + 2 * layout.max_sequences
    return linear + _decode_batches(layout).size * layout.kv_points + layout.history_points * layout.chunk_points
