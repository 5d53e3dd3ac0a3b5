"""The Python side of `fastsim.kernel.series`, ``visits`` and ``notes``: their places, and reading them after a run."""

from typing import Any

import numpy as np
import numpy.typing as npt

from fastsim.kernel import notes
from fastsim.kernel.prepare_clients import Clients
from fastsim.kernel.series import COLUMNS, EDGES, FIRST_WIDTH_S, HEADER, NUM_COLUMNS, ORIGIN_S, WIDTH_S, track_size
from fastsim.kernel.state import State
from fastsim.kernel.visits import CHUNK_TOKENS, DECODES, DECODES_ALONE, SEQUENCES, TOKENS, visits_size


def num_tracks(replicas: np.ndarray) -> int:
    """Tracks of an engine: by its clock; and by the device's, or by that of each of several stages."""
    if replicas["most_edges"][0] == 0:
        return 0
    num_stages = int(replicas["num_stages"][0])
    return 1 + (num_stages if num_stages > 1 else int(replicas["async_scheduling"][0]))


def stack_size(replicas: np.ndarray, ring: int) -> int:
    """Integers of the stack of gaps of a cohort whose calendar has so many places."""
    return notes.STACK_HEADER + 2 * ring if replicas["most_edges"][0] > 0 else 0


def num_recorded_integers(replicas: np.ndarray, layout: Any, num_requests: int) -> int:
    """Integers that visits and notes need, for all replicas together."""
    if replicas["most_edges"][0] == 0:
        return 0
    return visits_size(layout.max_sequences, layout.max_tokens) + notes.SIZE * num_requests


def place_recorded(replicas: np.ndarray, layout: Any, begin: int) -> None:
    """Write where visits and notes begin into the records, in place."""
    if replicas["most_edges"][0] > 0:
        replicas["visits"] = begin
        replicas["visited_sequences"], replicas["visited_tokens"] = layout.max_sequences, layout.max_tokens
        replicas["notes"] = begin + visits_size(layout.max_sequences, layout.max_tokens)


def first_sent_s(workload: Any, pending: np.ndarray) -> float:
    """When the first request is sent, at which the bins begin [s]."""
    if len(pending) > 0:
        return float(np.nanmin(pending["sent_s"]))
    return float(workload.arrival_s.min())


def place_tracks(replicas: np.ndarray, stages: np.ndarray, integers: npt.NDArray[np.int64], origin_s: float) -> None:
    """Write where the tracks begin into the records, and begin the tracks; in place."""
    size, tracks = track_size(int(replicas["most_edges"][0])), num_tracks(replicas)
    for records in (replicas, stages):
        records["next_edge_s"] = np.inf
    replicas["next_work_edge_s"] = np.inf
    if tracks == 0:
        return
    first_edge_s = origin_s + FIRST_WIDTH_S
    replicas["next_edge_s"] = first_edge_s
    if replicas["num_stages"][0] > 1:
        stages["next_edge_s"] = first_edge_s
        stages["track"] = (replicas["track"][:, None] + size * np.arange(1, tracks)).ravel()
    elif tracks == 2:
        replicas["next_work_edge_s"] = first_edge_s
        replicas["work_track"] = replicas["track"] + size
    for track in (replicas["track"][:, None] + size * np.arange(tracks)).ravel():
        integers[track + ORIGIN_S : track + HEADER] = np.array([origin_s, FIRST_WIDTH_S, 0.0]).view(np.int64)


def sums_at_edges(state: State, end_s: float) -> tuple[npt.NDArray[np.float64], dict[str, npt.NDArray[np.float64]]]:
    """What was summed up by the edges of bins that are the same for all engines, the first edge at 0 sums.

    The width of the bins is the smallest power of two, from FIRST_WIDTH_S on, of which so many as were asked for reach
    to end_s.

    Args:
        state: after a run that recorded.
        end_s: when nothing happens any more [s].

    Returns:
        The edges [bins + 1] [s], and by name in COLUMNS the sums up to each, [engines, bins + 1].
    """
    replicas, integers = state.replicas, state.integers
    most, tracks = int(replicas["most_edges"][0]), num_tracks(replicas)
    tracked = replicas["track"][:, None] + track_size(most) * np.arange(tracks)
    origin_s = float(integers[tracked[0, 0] + ORIGIN_S : tracked[0, 0] + ORIGIN_S + 1].view(np.float64)[0])
    width_s = FIRST_WIDTH_S
    while origin_s + most * width_s < end_s:
        width_s *= 2
    bins = max(1, int(np.ceil((end_s - origin_s) / width_s)))
    sums = np.zeros((len(replicas), bins + 1, NUM_COLUMNS))
    whole = whole_sums(replicas, np.atleast_2d(state.stages.reshape(len(replicas), -1)["busy_s"]))
    for engine in range(len(replicas)):
        for track, ends in zip(tracked[engine], whole[engine], strict=True):
            sums[engine] += sums_of_track(integers, int(track), ends, width_s, bins)
    edges_s = origin_s + width_s * np.arange(bins + 1, dtype=np.float64)
    return edges_s, {name: sums[:, :, i] for i, name in enumerate(COLUMNS)}


def sums_of_track(
    integers: npt.NDArray[np.int64], track: int, ends: npt.NDArray[np.float64], width_s: float, bins: int
) -> npt.NDArray[np.float64]:
    """The sums of a track at edges of a width that is at least its own, from 0 on, [bins + 1, NUM_COLUMNS]."""
    every = round(width_s / float(integers[track + WIDTH_S : track + WIDTH_S + 1].view(np.float64)[0]))
    edges = int(integers[track + EDGES])
    first = track + HEADER
    noted = integers[first : first + edges * NUM_COLUMNS].view(np.float64).reshape(edges, NUM_COLUMNS)
    noted = noted[every - 1 :: every][: bins - 1]
    sums = np.tile(ends, (bins + 1, 1))
    sums[0] = 0.0
    sums[1 : 1 + len(noted)] = noted
    return sums


def whole_sums(replicas: np.ndarray, stage_busy_s: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The sums of whole runs by track, [engines, tracks, NUM_COLUMNS]; each is in one track, or those of the stages."""
    names = {"iterations": "iteration"}
    all_sums = np.stack([replicas[names.get(name, name)].astype(np.float64) for name in COLUMNS], axis=-1)
    tracks = num_tracks(replicas)
    whole = np.zeros((len(replicas), tracks, NUM_COLUMNS))
    by_clock = [COLUMNS.index(name) for name in ("block_seconds", "preemptions")]
    by_work = [i for i in range(NUM_COLUMNS) if i not in by_clock]
    if replicas["num_stages"][0] > 1:
        by_clock += [COLUMNS.index(name) for name in ("active_s", "running_seconds")]
        by_work = [COLUMNS.index(name) for name in ("iterations", "prefill_tokens", "decode_tokens")]
        whole[:, 1:, COLUMNS.index("busy_s")] = stage_busy_s
    whole[:, 0, by_clock] = all_sums[:, by_clock]
    whole[:, min(1, tracks - 1), by_work] = all_sums[:, by_work]
    return whole


def histograms(state: State) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]]:
    """How many batches had each number, and their seconds: the histograms of `fastsim.kernel.visits`, in order."""
    replica = state.replicas[0]
    begin, found = int(replica["visits"]), []
    sequences, tokens = int(replica["visited_sequences"]) + 1, int(replica["visited_tokens"]) + 1
    lengths = {DECODES_ALONE: sequences, SEQUENCES: sequences, DECODES: sequences, TOKENS: tokens, CHUNK_TOKENS: tokens}
    for histogram in range(len(lengths)):
        pairs = state.integers[begin : begin + 2 * lengths[histogram]].reshape(-1, 2)
        found.append((pairs[:, 0].copy(), pairs[:, 1].copy().view(np.float64)))
        begin += 2 * lengths[histogram]
    return found


def request_notes(state: State) -> npt.NDArray[np.int64]:
    """The notes of the requests, a view of the pool, [n, `fastsim.kernel.notes.SIZE`]."""
    begin = int(state.replicas["notes"][0])
    return state.integers[begin : begin + notes.SIZE * len(state.requests)].reshape(-1, notes.SIZE)


def order_notes(state: State, clients: Clients) -> None:
    """Bring the notes into the order of the workload, in place; the requests must still be in that of their arrival."""
    as_sent = len(state.pending) == 0 and clients.ingress_s == clients.ingress_s_per_token == 0
    if state.replicas["notes"][0] > 0 and not as_sent:
        noted, rows = request_notes(state), state.requests["row"]
        noted[rows] = noted.copy()


def preempted_s(state: State) -> npt.NDArray[np.float64]:
    """How long each request waited to be scheduled again after preemptions [s]."""
    return request_notes(state)[:, notes.PREEMPTED_S].copy().view(np.float64)


def preempted_prefill_s(state: State) -> npt.NDArray[np.float64]:
    """How much of `preempted_s` was before the first token of each request [s]."""
    return request_notes(state)[:, notes.PREEMPTED_PREFILL_S].copy().view(np.float64)


def worst_tbt_s(state: State) -> npt.NDArray[np.float64]:
    """The longest time between two tokens of each request, NaN for those with one [s]."""
    worst = request_notes(state)[:, notes.WORST_TBT_S].copy().view(np.float64)
    return np.where(state.requests["output_tokens"] > 1, worst, np.nan)


def engine_of(state: State) -> npt.NDArray[np.int64]:
    """Which REPLICA record served each request."""
    return request_notes(state)[:, notes.ENGINE]
