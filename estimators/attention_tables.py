"""Tables of two axes: decodes and what they read, and chunks and what precedes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from estimators.layout import FloatArray, IntArray, TableLayout, log_index, log_points
from estimators.monotone import smooth_rows
from estimators.operators import OperatorCall
from estimators.profiles import runs_per_request
from estimators.row_tables import Clock

# Decodes are evaluated for every number of them up to 2 ** (this + 1) and for 2 ** this of them per octave beyond, and
# interpolated between: 64 steps per octave are finer than what a batch of that size resolves.
_DECODE_BITS = 6
# Prefill does not fall along chunks from here on. A chunk of one token, the only shorter one that was measured, takes
# FlashAttention 2 up to a tenth longer than one of 16.
_SHORTEST_SMOOTHED = 16


def shares_launch(calls: Iterable[OperatorCall], clock: Clock) -> bool:
    """Whether one kernel serves the decodes and all chunks of an iteration.

    Not so in latent attention, where they take different ways. MODELLED: its chunks, which do share a kernel, are timed
    as if each had its own, too. Nor where a loop runs kernels for each request, which the profile's kernels say.
    """

    def alone(call: OperatorCall) -> bool:
        if call.operator not in ("decode_attention", "prefill_attention"):
            return call.operator == "latent_decode"
        return runs_per_request(clock.metadata(call).get("kernels", ()))

    return not any(alone(call) for call in calls)


def decode_calls_seconds(calls: Sequence[OperatorCall], clock: Clock, batch: IntArray, mean: FloatArray) -> FloatArray:
    """Seconds of all calls that ``batch`` decodes of a ``mean`` context make, both of shape (rows,).

    Over a sliding window all decodes are taken to be as long as their mean, so a batch reads what it does where all of
    them are on one side of the window; where they are on both sides it reads too much. MODELLED.
    """
    total = np.zeros(batch.size)
    for call in calls:
        if call.axis == "decode":
            kv = np.minimum(mean, call.shape.get("window") or np.inf)
            total += call.count * clock.predict(call, {"batch": batch, "kv": kv, **call.fixed(batch)})
    counted = [(call, batch) for call in calls if call.axis == "decodes"]
    for (call, _), seconds in zip(counted, clock.rows(counted), strict=True):
        total += call.count * seconds
    return total


def prefill_calls_seconds(
    calls: Sequence[OperatorCall], clock: Clock, history: IntArray, chunk: IntArray
) -> FloatArray:
    """Seconds of all calls that single chunks after their histories make, both of shape (rows,).

    Over a sliding window of W a query sees W keys at most, so that no more than W tokens before the chunk matter.
    """
    total = np.zeros(chunk.size)
    for call in calls:
        if call.axis == "prefill":
            seen = np.minimum(history, call.shape.get("window") or np.inf).astype(np.int64)
            pairs, place = np.unique(np.stack([seen, chunk]), axis=1, return_inverse=True)
            columns = {"chunk": pairs[1], **call.fixed(pairs[1]), "history": pairs[0], "batch": np.ones_like(pairs[1])}
            total += call.count * clock.predict(call, columns)[place.ravel()]
    rows = {"chunk": chunk, "history": history, "resumed": np.where(history > 0, chunk, 0)}
    for axis, all_rows in rows.items():
        few, place = np.unique(all_rows, return_inverse=True)
        counted = [(call, few) for call in calls if call.axis == axis]
        for (call, _), seconds in zip(counted, clock.rows(counted), strict=True):
            total += call.count * seconds[place.ravel()]
    return total


def decode_table(calls: Sequence[OperatorCall], layout: TableLayout, clock: Clock) -> FloatArray:
    """Seconds by (decodes, kv points); row 0 is 0."""
    batch, points = decode_batches(layout), log_points(layout.kv_points, layout.kv_bits)
    # A batch of n reads n tokens at least and n times the longest context at most. Other cells take the nearest of
    # these, with a point to spare on either side for interpolation.
    longest = min(layout.max_kv, max(layout.max_history, layout.max_chunk))
    first = np.clip(log_index(batch, layout.kv_bits)[0], 1, layout.kv_points - 1)
    last = np.minimum(log_index(batch * longest, layout.kv_bits)[0] + 2, layout.kv_points - 1)
    column = np.clip(np.arange(layout.kv_points), first[:, None], last[:, None])
    cells, position = np.unique(np.arange(batch.size)[:, None] * layout.kv_points + column, return_inverse=True)
    requests, kv = batch[cells // layout.kv_points], points[cells % layout.kv_points]
    seconds = decode_calls_seconds(calls, clock, requests, np.maximum(1.0, kv / requests))
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


def prefill_table(calls: Sequence[OperatorCall], layout: TableLayout, clock: Clock) -> FloatArray:
    """Seconds by (history points, chunk points); the column of chunk 0 is 0."""
    history, chunk = np.meshgrid(
        log_points(layout.history_points, layout.history_bits),
        log_points(layout.chunk_points, layout.chunk_bits)[1:],
        indexing="ij",
    )
    table = np.zeros((layout.history_points, layout.chunk_points))
    table[:, 1:] = prefill_calls_seconds(calls, clock, history.ravel(), chunk.ravel()).reshape(history.shape)
    table[:, _SHORTEST_SMOOTHED:] = smooth_rows(table[:, _SHORTEST_SMOOTHED:])
    table[:, 1:] = smooth_rows(table[:, 1:].T).T
    return table


def decode_batches(layout: TableLayout) -> IntArray:
    """Numbers of decodes that are evaluated, ascending, the largest included."""
    count = int(log_index(layout.max_sequences, _DECODE_BITS)[0]) + 1
    return np.union1d(log_points(count, _DECODE_BITS)[1:], layout.max_sequences)
