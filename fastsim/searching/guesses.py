"""Where to begin the search for a capacity: a rate that is near it, so that few probes are needed.

It decides nothing else. The system is given the first requests of the workload at one time, which says how many a
second it completes when it is never idle; where more than that arrive, delays grow in proportion, and so it follows at
which rate a quantile of them reaches its limit in a run of this length. Where something else binds, a search over the
first requests comes near it.
"""

import numpy as np

from fastsim.searching.brackets import find_bracket
from fastsim.searching.limits import Limit
from fastsim.searching.probes import Prober

#: Requests at one time that show how many are completed in a second.
_HEAD = 1024
#: Rate at which all of them arrive at one time, for all that matters [requests/s].
_AT_ONCE_QPS = 1e6
#: Part of the completions that are left out at the beginning and at the end, where batches fill and empty.
_EDGES = 0.2
#: Requests of a search over the first ones, which a workload of several times as many is worth; and how it goes.
_PILOT, _WORTH_IT, _PILOT_TOLERANCE, _PILOT_STEP = 1024, 4, 0.05, 0.1


def guess_qps(prober: Prober) -> float:
    """A rate near the capacity [requests/s]."""
    n = len(prober.workload)
    busy_qps = busiest_qps(prober, min(n, _HEAD))
    if busy_qps is None:
        return float(prober.workload.qps or 1.0)
    guess = _where_delays_reach(prober.limits, busy_qps, n)
    if n < _WORTH_IT * _PILOT or prober.counts_some:
        return guess
    pilot = prober.of_head(_PILOT)
    if pilot.workload.qps is None:
        return guess
    begin = _where_delays_reach(prober.limits, busy_qps, _PILOT)
    holding = [probe.qps for probe in find_bracket(pilot, begin, _PILOT_TOLERANCE, _PILOT_STEP) if probe.holds]
    return min([guess, max(holding)]) if holding else guess


def busiest_qps(prober: Prober, n: int) -> float | None:
    """Of the first n requests, those completed in a second when all arrive at one time; None where no time passes."""
    head = prober.workload.head(n)
    state, _ = prober.run(head if head.qps is None else head.scaled(_AT_ONCE_QPS))
    completed_s = np.sort(state.requests["completed_s"])
    first, last = int(_EDGES * (n - 1)), int((1 - _EDGES) * (n - 1))
    if completed_s[last] > completed_s[first]:
        return float((last - first) / (completed_s[last] - completed_s[first]))
    return float(n / completed_s[-1]) if completed_s[-1] > 0 else None


def _where_delays_reach(limits: "tuple[Limit, ...]", busy_qps: float, n: int) -> float:
    """The rate at which delays that grow as requests pile up reach a limit in a run of n requests [requests/s]."""
    guesses = []
    for limit in limits:
        if limit.metric in ("scheduling_delay_s", "ttft_s") and limit.part:
            # The quantile is of those that come last: it is that part of n (1 / busy - 1 / qps).
            guesses.append(busy_qps / max(1 - busy_qps * limit.limit / (limit.part * n), 0.2))
    return min(guesses, default=busy_qps)
