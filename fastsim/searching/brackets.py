"""Bracketing and bisection: the highest rate at which something holds that holds at every lower one."""

import math
from collections.abc import Callable

from fastsim.searching.probes import Probe

#: The first step away from a guess; each further one is twice as long [natural logarithm of the rate].
_FIRST_STEP = 0.04
#: Where the search for a rate that holds ends [part of the rate first tried].
_LOWEST = 1e-5
#: Requests arrive at one time, for all that matters, where they do within this part of the time they are served in, or
#: at this rate [requests/s].
_AT_ONE_TIME, _FASTEST_QPS = 0.01, 1e7


def find_bracket(
    probe: Callable[[float], Probe], first_qps: float, tolerance: float, step: float = _FIRST_STEP
) -> list[Probe]:
    """Probe until a rate holds and one above it, by at most the tolerance, does not.

    Steps away from the first rate double, in its logarithm, until the verdict changes; then the bracket is halved. It
    ends without a bracket where nothing holds, or everything does.

    Args:
        probe: tells whether a rate holds.
        first_qps: where to begin [requests/s].
        tolerance: largest difference between the ends of the bracket [part of the lower].
        step: the first one [natural logarithm of the rate].
    """
    probes: list[Probe] = []

    def holds(qps: float) -> bool:
        probes.append(probe(qps))
        return probes[-1].holds

    low, high = 0.0, math.inf
    qps = first_qps
    while True:
        if holds(qps):
            low = max(low, qps)
            if high < math.inf or _is_at_one_time(probes[-1]):
                break
            qps *= math.exp(step)
        else:
            high = min(high, qps)
            if low > 0 or qps < _LOWEST * first_qps:
                break
            qps *= math.exp(-step)
        step *= 2
    while low > 0 and high < math.inf and high > low * (1 + tolerance):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if holds(middle) else (low, middle)
    return probes


def _is_at_one_time(probe: Probe) -> bool:
    """Whether requests come so fast that faster makes no difference, or no time passes while they are served."""
    arriving_s, makespan_s = probe.metrics["arriving_s"], probe.metrics["makespan_s"]
    return arriving_s < _AT_ONE_TIME * makespan_s or probe.qps > _FASTEST_QPS
