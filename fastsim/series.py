"""What a run with ``record_metrics`` did over time: one row per engine and bin, of the kernel's sums and the requests.

All bins are of one width, a power of two of seconds, and begin when the first request is sent. The sums of a bin are
exact: an iteration that passes an edge counts on both sides in proportion to its time there. Work counts while the
device does it, and where there are several stages iterations and tokens while the first one does.
"""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fastsim.config import SimulationConfig
from fastsim.kernel.prepare_series import engine_of, sums_at_edges

if TYPE_CHECKING:
    import polars as pl

    from fastsim.kernel.state import State

FloatArray = npt.NDArray[np.float64]

#: Most bins of an engine, and of all of them together.
_MOST_BINS, _MOST_BINS_OF_ALL = 512, 1 << 19


def record_bins(config: SimulationConfig) -> int:
    """Most bins of time of an engine: an even number; 0 if nothing is recorded."""
    if not config.record_metrics:
        return 0
    return max(2, min(_MOST_BINS, _MOST_BINS_OF_ALL // (config.replicas * config.data_parallel) // 2 * 2))


def describe_over_time(state: "State", engines: int) -> "pl.DataFrame":
    """What happened in each bin of time.

    Args:
        state: after a run that recorded, its requests as their clients see them.
        engines: data-parallel engines of a replica.

    Returns:
        One row per engine and bin, by replica, engine and time: ``replica`` (and ``engine``, where replicas have
        several), ``start_s``, ``end_s``; of the engine ``utilization`` (part of the time of its stages in which they
        work), ``active`` (part of the time with a batch in flight), ``iterations_per_s``, ``prefill_tokens_per_s``,
        ``decode_tokens_per_s``, ``running_mean`` (requests in batches), ``kv_use_mean`` (part of the KV blocks) and
        ``preemptions``; of its requests the numbers ``arrivals``, ``first_tokens``, ``completions`` and
        ``completed_output_tokens`` (of the requests that complete in the bin), ``queue_mean`` (sent and not yet
        scheduled for the first time) and ``outstanding_mean`` (sent and not completed). Means are over the whole bin.
    """
    import polars as pl

    requests, replicas = state.requests, state.replicas
    end_s = float(max(replicas["clock_s"].max(), requests["completed_s"].max()))
    edges, sums = sums_at_edges(state, end_s)
    width_s, bins = edges[1] - edges[0], len(edges) - 1
    gained = {name: np.diff(values, axis=1) for name, values in sums.items()}
    stage_s = width_s * replicas["num_stages"][0]
    replica, engine = np.divmod(np.arange(len(replicas)), engines)
    columns = {
        "replica": np.repeat(replica, bins),
        **({"engine": np.repeat(engine, bins)} if engines > 1 else {}),
        "start_s": np.tile(edges[:-1], len(replicas)),
        "end_s": np.tile(edges[1:], len(replicas)),
        "utilization": gained["busy_s"] / stage_s,
        "active": gained["active_s"] / width_s,
        "iterations_per_s": gained["iterations"] / width_s,
        "prefill_tokens_per_s": gained["prefill_tokens"] / width_s,
        "decode_tokens_per_s": gained["decode_tokens"] / width_s,
        "running_mean": gained["running_seconds"] / width_s,
        "kv_use_mean": gained["block_seconds"] / width_s / replicas["num_blocks"][:, None],
        "preemptions": np.rint(gained["preemptions"]).astype(np.int64),
        **count_requests(requests, edges, engine_of(state), len(replicas)),
    }
    return pl.DataFrame({name: values.ravel() for name, values in columns.items()})


def count_requests(
    requests: np.ndarray, edges: FloatArray, owner: npt.NDArray[np.int64], engines: int
) -> dict[str, npt.NDArray[np.generic]]:
    """What happened to the requests in each bin of time, by what is counted, [engines, bins].

    Args:
        requests: REQUEST records, all completed [n].
        edges: of the bins [bins + 1] [s].
        owner: number of the engine of each [n].
        engines: how many there are.
    """
    times = {name: np.ascontiguousarray(requests[name]) for name in ("arrival_s", "scheduled_s", "completed_s")}
    times["first_token_s"] = np.ascontiguousarray(requests["first_token_s"])
    places = {name: place_of(time_s, edges, owner) for name, time_s in times.items()}
    shape = (engines, len(edges) - 1)

    def count(name: str, weights: npt.NDArray[np.generic] | None = None) -> npt.NDArray[np.generic]:
        return np.bincount(places[name], weights, shape[0] * shape[1]).reshape(shape)

    def passed(name: str) -> FloatArray:
        """Seconds since the event of each request, in each bin."""
        left_s = np.tile(edges[1:], engines)[places[name]] - times[name]
        before = np.cumsum(count(name), axis=1) - count(name)
        return np.asarray(before * np.diff(edges) + count(name, left_s))

    width_s = edges[1] - edges[0]
    sent_s = passed("arrival_s")
    return {
        "arrivals": count("arrival_s"),
        "first_tokens": count("first_token_s"),
        "completions": count("completed_s"),
        "completed_output_tokens": count("completed_s", requests["output_tokens"]).astype(np.int64),
        "queue_mean": np.maximum(0.0, (sent_s - passed("scheduled_s")) / width_s),
        "outstanding_mean": np.maximum(0.0, (sent_s - passed("completed_s")) / width_s),
    }


def place_of(time_s: FloatArray, edges: FloatArray, owner: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Place of the bin that each time lies in among those of all engines; the last bin includes its end."""
    bins = len(edges) - 1
    place = np.clip(((time_s - edges[0]) / (edges[1] - edges[0])).astype(np.int64), 0, bins - 1)
    return np.asarray(owner * bins + place)
