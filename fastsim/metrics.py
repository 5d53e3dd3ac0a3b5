"""Metrics of a run: quantiles of the latencies, and what the replicas did.

Up to `KEEP_LIMIT` requests quantiles are exact; above, and always for the time between tokens, they come from a
histogram with logarithmic buckets (relative error at most 0.4 %, `fastsim.kernel.histogram`).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastsim.kernel.histogram import NUM_BUCKETS, bucket_counts, bucket_values
from fastsim.kernel.slots import table_functions
from fastsim.ranks import Ranked

#: Above this many requests no row per request is kept.
KEEP_LIMIT = 2_000_000
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
#: Bins of a distribution: from its smallest value, but not below the ten-thousandth part of its largest.
_BINS, _SMALLEST = 16, 1e-4

Summary = dict[str, float | None]
Distribution = dict[str, list[Any]]


class Finished(NamedTuple):
    """What is read of completed requests in one pass over their records.

    Attributes:
        latencies: by metric, float64 [n] [s]: one value per request, but for ``tpot_s``, which is only defined for two
            output tokens and more.
        counts: the histogram of each, int64 [NUM_BUCKETS].
        prompt_tokens: of each request, int32 [n].
        output_tokens: the same.
        cached_tokens: of all [tokens].
        first_arrival_s: when the first arrived [s].
        last_completion_s: when the last completed [s].
    """

    latencies: dict[str, npt.NDArray[np.float64]]
    counts: dict[str, npt.NDArray[np.int64]]
    prompt_tokens: npt.NDArray[np.int32]
    output_tokens: npt.NDArray[np.int32]
    cached_tokens: int
    first_arrival_s: float
    last_completion_s: float


def read_finished(requests: np.ndarray) -> Finished:
    """Read REQUEST records of completed requests."""
    n = len(requests)
    columns, counts = np.empty((5, n)), np.zeros((5, NUM_BUCKETS), np.int64)
    tokens, totals = np.empty((2, n), np.int32), np.array([np.inf, -np.inf, 0.0])
    _, _, read_requests, _ = table_functions()
    several = read_requests(requests, columns, counts, tokens, totals)
    places = {"ttft_s": 0, "tpot_s": 4, "e2e_s": 1, "e2e_normalized_s": 2, "scheduling_delay_s": 3}
    return Finished(
        {name: columns[place, : several if name == "tpot_s" else n] for name, place in places.items()},
        {name: counts[place] for name, place in places.items()},
        tokens[0],
        tokens[1],
        int(totals[2]),
        float(totals[0]),
        float(totals[1]),
    )


def latencies(requests: np.ndarray) -> dict[str, npt.NDArray[np.float64]]:
    """The latencies in `Finished`, for REQUEST records of completed requests."""
    return read_finished(requests).latencies


def exact(values: npt.NDArray[np.float64], counts: npt.NDArray[np.int64] | None = None) -> Summary:
    """Mean and quantiles (linear interpolation) of some values, None of none; arguments as of `describe_values`."""
    return describe_values(values, counts)[0]


def describe_values(
    values: npt.NDArray[np.float64], counts: npt.NDArray[np.int64] | None = None
) -> tuple[Summary, Distribution]:
    """Mean, quantiles and distribution of some values.

    The distribution is how many values lie in each of some bins, which are equally wide in their logarithms: ``edges``,
    one more than bins, and ``counts``; what is below the first edge counts in the first bin. There are no bins of no
    values, and there is one where all are equal.

    Args:
        values: >= 0; float64 [n].
        counts: their histogram, if it is known; int64 [NUM_BUCKETS].
    """
    n = len(values)
    if n == 0:
        return dict.fromkeys(("mean", *QUANTILES)), {"edges": [], "counts": []}
    edges = _edges(float(values.min()), float(values.max()))
    ranked = Ranked(values, bucket_counts(values) if counts is None else counts, _ranks(n), edges[1:-1])
    return _summary(values.mean(), n, ranked.at), _distribution(edges, n, ranked.below)


def _ranks(n: int) -> npt.NDArray[np.int64]:
    """Ranks of n values between which the quantiles lie: those below, and the next ones."""
    below = (np.array(list(QUANTILES.values())) * (n - 1)).astype(np.int64)
    return np.concatenate([below, np.minimum(below + 1, n - 1)])


def _summary(mean: float, n: int, at: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.float64]]) -> Summary:
    """Mean and quantiles of n values, given a function from ranks to values; linear interpolation between ranks."""
    ranks = _ranks(n)
    low, high = at(ranks).reshape(2, -1)
    part = np.array(list(QUANTILES.values())) * (n - 1) - ranks[: len(QUANTILES)]
    quantiles = low + (high - low) * part
    return dict(zip(("mean", *QUANTILES), map(float, (mean, *quantiles)), strict=True))


def sketched(counts: npt.NDArray[np.int64], total: float) -> Summary:
    """Mean and quantiles of a histogram.

    Args:
        counts: int64 [NUM_BUCKETS].
        total: sum of the values, kept beside the histogram.
    """
    n = int(counts.sum())
    if n == 0:
        return dict.fromkeys(("mean", *QUANTILES))
    values, cumulated = bucket_values(), np.cumsum(counts)

    def at(ranks: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        return values[np.searchsorted(cumulated, ranks, side="right")]

    return _summary(total / n, n, at)


def sketched_distribution(counts: npt.NDArray[np.int64]) -> Distribution:
    """The distribution that `describe_values` returns, from a histogram alone; int64 [NUM_BUCKETS]."""
    values, cumulated = bucket_values(), np.append(0, np.cumsum(counts))
    present = values[counts > 0]
    if len(present) == 0:
        return {"edges": [], "counts": []}

    def below(edges: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        return cumulated[np.searchsorted(values, edges)]

    return _distribution(_edges(float(present[0]), float(present[-1])), int(cumulated[-1]), below)


def _edges(smallest: float, largest: float) -> npt.NDArray[np.float64]:
    """Edges of the bins of values that lie between two."""
    low = max(smallest, _SMALLEST * largest)
    return np.geomspace(low, largest, _BINS + 1) if low < largest else np.array([low, largest])


def _distribution(
    edges: npt.NDArray[np.float64], n: int, below: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.int64]]
) -> Distribution:
    """Bins of n values, given a function that says how many are less than each of some edges."""
    return {"edges": edges.tolist(), "counts": np.diff([0, *below(edges[1:-1]), n]).tolist()}


def summarize_latencies(
    finished: Finished, gaps: npt.NDArray[np.int64], tbt_sum_s: float, keep_requests: bool
) -> tuple[dict[str, Summary], dict[str, Distribution]]:
    """Summary and distribution of every latency.

    Args:
        finished: the requests.
        gaps: histogram of the times between tokens, int64 [NUM_BUCKETS].
        tbt_sum_s: sum of all times between tokens [s].
        keep_requests: exact quantiles rather than sketched ones.
    """
    result, distributions = {}, {}
    for name, values in finished.latencies.items():
        counts = finished.counts[name]
        if keep_requests:
            result[name], distributions[name] = describe_values(values, counts)
        else:
            result[name], distributions[name] = sketched(counts, float(values.sum())), sketched_distribution(counts)
    result["tbt_s"], distributions["tbt_s"] = sketched(gaps, tbt_sum_s), sketched_distribution(gaps)
    return result, distributions


def describe_classes(requests: np.ndarray, keep_requests: bool) -> dict[str, dict[str, Any]]:
    """What the requests of each class met with, by class as text.

    Args:
        requests: REQUEST records, all completed.
        keep_requests: exact quantiles rather than sketched ones.
    """
    result = {}
    for number in np.unique(requests["request_class"]):
        own = requests[requests["request_class"] == number]
        finished = read_finished(own)
        result[str(number)] = {
            "requests": len(own),
            **{
                name: exact(values, finished.counts[name])
                if keep_requests
                else sketched(finished.counts[name], float(values.sum()))
                for name, values in finished.latencies.items()
            },
            "preemptions": int(own["preemptions"].sum()),
            "hit_rate": finished.cached_tokens / int(finished.prompt_tokens.sum()),
        }
    return result


def describe_hits(cached_tokens: int, prompt_tokens: int) -> dict[str, float]:
    """How many of the prompt tokens requests found in the prefix cache when they were first scheduled, and the part."""
    return {"cached_tokens": cached_tokens, "prompt_tokens": prompt_tokens, "hit_rate": cached_tokens / prompt_tokens}


def describe_replica(replica: Any, stages: np.ndarray, makespan_s: float) -> dict[str, Any]:
    """What one replica did.

    Args:
        replica: one REPLICA record.
        stages: STAGE records of its pipeline stages.
        makespan_s: duration of the run [s].

    Returns:
        Times and counts by name. ``busy_s`` is summed over stages, ``active_s`` has any micro-batch in flight;
        ``utilization`` is the busy part of the run, idle time included, and ``bubble_fraction`` the waiting part of
        the active time. Means are over the active time: ``batch_size_mean`` of the requests in flight, in all
        micro-batches together (under parity in one of them), ``kv_use_mean`` of the part of the KV blocks in use.
    """
    busy, active = float(replica["busy_s"]), float(replica["active_s"])
    blocks = int(replica["num_blocks"])
    return {
        "requests": int(replica["completed"]),
        "iterations": int(replica["iteration"]),
        "busy_s": busy,
        "active_s": active,
        "utilization": _share(busy, len(stages) * makespan_s),
        "stages": [{"utilization": _share(float(stage["busy_s"]), makespan_s)} for stage in stages],
        "bubble_fraction": bubble_fraction(busy, len(stages) * active),
        "batch_size_mean": float(replica["running_seconds"]) / active if active > 0 else 0.0,
        "batch_tokens_max": int(replica["peak_batch_tokens"]),
        "kv_blocks": blocks,
        "kv_use_mean": float(replica["block_seconds"]) / active / blocks if active > 0 else 0.0,
        "kv_use_max": int(replica["peak_blocks"]) / blocks,
        "preemptions": int(replica["preemptions"]),
        "prefill_tokens": int(replica["prefill_tokens"]),
        "decode_tokens": int(replica["decode_tokens"]),
    }


#: How the engines of a replica add up; the rest are means over their active times.
_SUMS = ("requests", "iterations", "busy_s", "active_s", "kv_blocks", "preemptions", "prefill_tokens", "decode_tokens")
_LARGEST = ("batch_tokens_max", "kv_use_max")
_MEANS = ("batch_size_mean", "kv_use_mean")


def join_engines(engines: list[dict[str, Any]], each: int) -> list[dict[str, Any]]:
    """What replicas of several data-parallel engines did.

    Args:
        engines: what `describe_replica` says of each engine, those of a replica side by side.
        each: engines of a replica.

    Returns:
        One such description per replica: of several engines the sums, the largest, and the means over all of them, with
        what each did under ``engines``.
    """
    if each == 1:
        return engines
    return [_join(engines[first : first + each]) for first in range(0, len(engines), each)]


def _join(engines: list[dict[str, Any]]) -> dict[str, Any]:
    joined: dict[str, Any] = dict(engines[0])
    active = sum(engine["active_s"] for engine in engines)
    joined |= {name: sum(engine[name] for engine in engines) for name in _SUMS}
    joined |= {name: max(engine[name] for engine in engines) for name in _LARGEST}
    for name in _MEANS:
        joined[name] = sum(engine[name] * engine["active_s"] for engine in engines) / active if active > 0 else 0.0
    joined["utilization"] = sum(engine["utilization"] for engine in engines) / len(engines)
    joined["stages"] = [{"utilization": joined["utilization"]}]
    joined["bubble_fraction"] = bubble_fraction(joined["busy_s"], active)
    return joined | {"engines": engines}


def describe_pipeline(replicas: list[dict[str, Any]]) -> dict[str, Any]:
    """What the pipeline stages of all replicas did together.

    Args:
        replicas: what `describe_replica` says of each.

    Returns:
        ``stage_utilization``, by stage the mean over replicas, and ``bubble_fraction``.
    """
    utilization = [[stage["utilization"] for stage in replica["stages"]] for replica in replicas]
    busy, active = (sum(replica[name] for replica in replicas) for name in ("busy_s", "active_s"))
    return {
        "stage_utilization": np.mean(utilization, axis=0).tolist(),
        "bubble_fraction": bubble_fraction(busy, len(utilization[0]) * active),
    }


def bubble_fraction(busy_s: float, stage_active_s: float) -> float:
    """Part of the stages' time in which they wait while a micro-batch is in flight on another; 0 of no time.

    Args:
        busy_s: time in which stages work, summed over stages [s].
        stage_active_s: time with a micro-batch in flight, times the number of stages [s].
    """
    return 1.0 - _share(busy_s, stage_active_s) if stage_active_s > 0 else 0.0


def _share(part_s: float, whole_s: float) -> float:
    # The clock is a rounded sum of durations, and so is their own sum: together they may pass 1 by a rounding error.
    return min(1.0, part_s / whole_s) if whole_s > 0 else 0.0
