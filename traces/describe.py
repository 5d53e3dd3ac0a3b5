"""What a workload is like: rates, lengths, burstiness, and how much of its text was seen before."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from traces.prefix_reuse import prefix_reuse
from traces.workload import Workload

QUANTILES: Final = (0.1, 0.5, 0.9, 0.99)
#: Lengths of the windows whose requests are counted [s].
WINDOWS_S: Final = (1, 10, 60)
_RATE_BINS: Final = 60


def describe(workload: Workload) -> dict[str, Any]:
    """Statistics of a workload, JSON-able.

    ``interarrival_cv`` is the standard deviation of the intervals between arrivals over their mean: 1 for Poisson.
    ``index_of_dispersion`` is the variance of the number of requests in a window over its mean, by the length of the
    window in seconds, counted from time 0 and without the last, unfinished one: 1 for Poisson at any length, so what
    rises with the length is a rate that changes. ``prompt_to_output`` is that of the sums, its ``p50`` and ``std`` are
    those of single requests. ``prefix_reuse`` is what an endless cache would find of all prompt tokens. None stands for
    what the workload is too short for, or has not.

    Args:
        workload: the requests.
    """
    gaps_s = np.diff(workload.arrival_s)
    spread = bool(len(gaps_s)) and gaps_s.max() > 0
    ratio = workload.prompt_tokens / workload.output_tokens
    classes, counts = np.unique(workload.request_class, return_counts=True)
    in_sessions = workload.session[workload.session >= 0]
    num_sessions = len(np.unique(in_sessions))
    return {
        "requests": len(workload),
        "duration_s": workload.duration_s,
        "qps": workload.qps,
        "prompt_tokens": statistics(workload.prompt_tokens),
        "output_tokens": statistics(workload.output_tokens),
        "total_tokens": statistics(workload.prompt_tokens + workload.output_tokens),
        "prompt_to_output": {
            "of_sums": float(workload.prompt_tokens.sum() / workload.output_tokens.sum()),
            "p50": float(np.median(ratio)),
            "std": float(ratio.std()),
        },
        "interarrival_cv": float(gaps_s.std() / gaps_s.mean()) if spread else None,
        "index_of_dispersion": {str(window_s): _dispersion(workload.arrival_s, window_s) for window_s in WINDOWS_S},
        "prefix_reuse": prefix_reuse(workload) if workload.block_tokens else None,
        "block_tokens": workload.block_tokens or None,
        "sessions": num_sessions or None,
        "turns_per_session": len(in_sessions) / num_sessions if num_sessions else None,
        "classes": {str(name): int(count) for name, count in zip(classes, counts, strict=True)},
        "objectives": [vars(objective) for objective in workload.objectives],
        "histograms": {
            "prompt_tokens": octaves(workload.prompt_tokens),
            "output_tokens": octaves(workload.output_tokens),
            "requests_over_time": _over_time(workload.arrival_s) if spread else None,
        },
        "provenance": dict(workload.provenance),
        "notes": list(workload.notes),
    }


def statistics(values: NDArray[np.int64]) -> dict[str, float]:
    """Mean, ends and quantiles of numbers."""
    quantiles = np.quantile(values, QUANTILES, method="inverted_cdf")
    named = {f"p{100 * level:g}": float(value) for level, value in zip(QUANTILES, quantiles, strict=True)}
    return {"mean": float(values.mean()), "min": float(values.min()), **named, "max": float(values.max())}


def octaves(values: NDArray[np.int64]) -> dict[str, list[int]]:
    """How many values there are from 1, 2, 4, ... up to twice as much; from the first cell with any to the last."""
    counts = np.bincount(np.frexp(values.astype(np.float64))[1] - 1)
    first = int(np.flatnonzero(counts)[0])
    return {"from": [2**place for place in range(first, len(counts))], "requests": counts[first:].tolist()}


def _dispersion(arrival_s: NDArray[np.float64], window_s: int) -> float | None:
    """Variance over mean of the requests in windows; None where there are not two whole ones."""
    num_windows = arrival_s[-1] // window_s
    if not 2 <= num_windows < 1e8:
        return None
    counts = np.bincount((arrival_s // window_s).astype(np.int64))[:-1]
    return float(counts.var() / counts.mean()) if counts.any() else None


def _over_time(arrival_s: NDArray[np.float64]) -> dict[str, list[float]]:
    """How many requests arrive in each sixtieth of the time, and where these begin [s]."""
    counts, edges = np.histogram(arrival_s, _RATE_BINS)
    return {"from_s": edges[:-1].tolist(), "requests": counts.tolist(), "width_s": [float(edges[1] - edges[0])]}
