"""Metrics of a run: quantiles of the latencies, and what the replicas did.

Up to `KEEP_LIMIT` requests quantiles are exact; above, and always for the time between tokens, they come from a
histogram with logarithmic buckets (relative error at most 0.4 %, `fastsim.kernel.histogram`).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsim.kernel.histogram import NUM_BUCKETS, bucket_counts, bucket_values
from fastsim.kernel.slots import table_functions

#: Above this many requests no row per request is kept.
KEEP_LIMIT = 2_000_000
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
#: Bins of a distribution: from its smallest value, but not below the ten-thousandth part of its largest.
_BINS, _SMALLEST = 16, 1e-4

Summary = dict[str, float | None]
Distribution = dict[str, list[Any]]


def latencies(requests: np.ndarray) -> dict[str, npt.NDArray[np.float64]]:
    """Latencies of completed requests, by metric [s].

    Args:
        requests: REQUEST records.

    Returns:
        float64 arrays: one value per request, but for ``tpot_s``, which is only defined for two output tokens and more.
    """
    columns = np.empty((5, len(requests)))
    *_, read_latencies = table_functions()
    several = read_latencies(requests, columns)
    ttft_s, e2e_s, e2e_normalized_s, scheduling_delay_s, tpot_s = columns
    return {
        "ttft_s": ttft_s,
        "tpot_s": tpot_s[:several],
        "e2e_s": e2e_s,
        "e2e_normalized_s": e2e_normalized_s,
        "scheduling_delay_s": scheduling_delay_s,
    }


def exact(values: npt.NDArray[np.float64]) -> Summary:
    """Mean and quantiles (linear interpolation) of some values, which are sorted in place; None of none."""
    if len(values) == 0:
        return dict.fromkeys(("mean", *QUANTILES))
    # Sorting is vectorised in numpy, and where measured three times as fast as the selection in np.quantile.
    mean = values.mean()
    values.sort()
    return _summary(mean, len(values), values.__getitem__)


def _summary(mean: float, n: int, at: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.float64]]) -> Summary:
    """Mean and quantiles of n values, given a function from ranks to values; linear interpolation between ranks."""
    ranks = np.array(list(QUANTILES.values())) * (n - 1)
    below = ranks.astype(np.int64)
    low, high = at(below), at(np.minimum(below + 1, n - 1))
    quantiles = low + (high - low) * (ranks - below)
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


def distribution_of(ascending: npt.NDArray[np.float64], counts: npt.NDArray[np.int64] | None = None) -> Distribution:
    """How many values lie in each of some bins that are equally wide in their logarithms.

    Args:
        ascending: values >= 0, ascending; float64 [n].
        counts: how often each occurs, once when None; int64 [n].

    Returns:
        ``edges``, one more than bins, and ``counts``; what is below the first edge counts in the first bin. No bins of
        no values, and one bin where all are equal.
    """
    present = ascending if counts is None else ascending[counts > 0]
    if len(present) == 0:
        return {"edges": [], "counts": []}
    low, high = max(float(present[0]), _SMALLEST * float(present[-1])), float(present[-1])
    edges = np.geomspace(low, high, _BINS + 1) if low < high else np.array([low, high])
    ends = np.searchsorted(ascending, edges[1:-1])
    below = ends if counts is None else np.append(0, np.cumsum(counts))[ends]
    total = len(ascending) if counts is None else int(counts.sum())
    return {"edges": edges.tolist(), "counts": np.diff([0, *below, total]).tolist()}


def summarize_latencies(
    requests: np.ndarray, integers: npt.NDArray[np.int64], tbt_sum_s: float, keep_requests: bool
) -> tuple[dict[str, Summary], dict[str, Distribution]]:
    """Summary and distribution of every latency.

    Args:
        requests: REQUEST records, all completed.
        integers: the integer pool of the run, which begins with the histogram of time between tokens.
        tbt_sum_s: sum of all times between tokens [s].
        keep_requests: exact quantiles rather than sketched ones.
    """
    result, distributions = {}, {}
    for name, values in latencies(requests).items():
        if keep_requests:
            result[name] = exact(values)  # which sorts them
            distributions[name] = distribution_of(values)
        else:
            counts = bucket_counts(values)
            result[name] = sketched(counts, float(values.sum()))
            distributions[name] = distribution_of(bucket_values(), counts)
    gaps = integers[:NUM_BUCKETS]
    result["tbt_s"] = sketched(gaps, tbt_sum_s)
    distributions["tbt_s"] = distribution_of(bucket_values(), gaps)
    return result, distributions


def _of_values(values: npt.NDArray[np.float64], keep_requests: bool) -> Summary:
    return exact(values) if keep_requests else sketched(bucket_counts(values), float(values.sum()))


def describe_classes(requests: np.ndarray, keep_requests: bool) -> dict[str, dict[str, Any]]:
    """What the requests of each class met with, by class as text.

    Args:
        requests: REQUEST records, all completed.
        keep_requests: exact quantiles rather than sketched ones.
    """
    request_class, several = requests["request_class"], requests["output_tokens"] > 1
    columns = latencies(requests)
    result = {}
    for number in np.unique(request_class):
        own = request_class == number
        result[str(number)] = {
            "requests": int(np.count_nonzero(own)),
            **{
                name: _of_values(values[own[several] if name == "tpot_s" else own], keep_requests)
                for name, values in columns.items()
            },
            "preemptions": int(requests["preemptions"][own].sum()),
            "hit_rate": describe_hits(requests[own])["hit_rate"],
        }
    return result


def describe_hits(requests: np.ndarray) -> dict[str, float]:
    """What requests found in the prefix cache when they were first scheduled.

    Args:
        requests: REQUEST records.

    Returns:
        ``cached_tokens`` of the ``prompt_tokens``, and their ratio ``hit_rate``.
    """
    cached, prompt = (int(requests[name].sum(dtype=np.int64)) for name in ("cached_tokens", "prompt_tokens"))
    return {"cached_tokens": cached, "prompt_tokens": prompt, "hit_rate": cached / prompt}


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
