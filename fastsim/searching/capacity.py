"""The capacity of a configuration: the highest rate at which its objectives hold and no queue builds up."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from fastsim.errors import ConfigError
from fastsim.searching.limits import read_limits
from fastsim.searching.probes import PILED_UP, Probe, Prober

if TYPE_CHECKING:
    from fastsim.config import SimulationConfig
    from traces import Workload

#: The smallest and largest tolerance: the smallest is about what 100 M requests could tell.
_LEAST_TOLERANCE, _MOST_TOLERANCE = 1e-4, 0.5
#: The first step away from a guess; each further one is twice as long [natural logarithm of the rate].
_FIRST_STEP = 0.04
#: Where the search for a rate that holds ends [part of the rate first tried].
_LOWEST = 1e-5
#: Requests arrive at one time, for all that matters, where they do within this part of the time they are served in.
_AT_ONE_TIME = 0.01
#: A run is long if requests arrive for so many times as long as one is served.
_MANY = 20


@dataclass(frozen=True)
class Capacity:
    """What `capacity` found.

    Attributes:
        qps: the highest rate that was found to hold [requests/s]; 0 where none does. Where even all requests at one
            time hold, what the system then completes in a second.
        bracket: that rate, and the lowest that was found not to hold; infinite where all hold [requests/s].
        tolerance: the bracket's ends differ by at most this part.
        probes: every simulation, in the order they were made.
        long_enough: whether the workload is long enough for the rate to be one that lasts, see ``why``.
        why: says so in words.
        binding: what breaks just above that rate, in words.
        at_capacity: the probe at that rate: the highest that holds, or where none does the lowest.
    """

    qps: float
    bracket: tuple[float, float]
    tolerance: float
    probes: tuple[Probe, ...]
    long_enough: bool
    why: str
    binding: str
    at_capacity: Probe

    def as_dict(self) -> dict[str, Any]:
        """The same, JSON-able: an end of the bracket that is infinite is None."""
        found = asdict(self)
        found["bracket"] = [end if end < math.inf else None for end in self.bracket]
        found["probes"] = list(found["probes"])
        return found


def capacity(
    config: "SimulationConfig",
    workload: "Workload",
    slo: Mapping[str, Any] | None = None,
    *,
    tables: Any = None,
    tolerance: float = 0.01,
    max_requests: int | None = None,
) -> Capacity:
    """Find the highest rate at which limits hold and no queue builds up.

    All probes simulate the same requests, lengths and order alike, with their arrival times scaled to the rate: the
    verdict is about the workload as given, which is never looped.

    Args:
        config: what serves.
        workload: what arrives.
        slo: limits, see `fastsim.searching.limits.read_limits`; None for a 99th percentile of the scheduling delay of
            at most 5 s.
        tables: as `fastsim.simulate` takes them; looked up, or built and cached, when not given.
        tolerance: largest difference between the ends of the bracket [part of the lower].
        max_requests: simulate only so many requests from the workload's beginning.

    Returns:
        The capacity; the same arguments give the same one, but for wall times.

    Raises:
        ConfigError: a bad limit or tolerance, arrivals without a rate that could be changed, or as `fastsim.simulate`.
        estimators.EstimatorError: unknown model or device, or a model that cannot be split that way.
    """
    if not _LEAST_TOLERANCE <= tolerance <= _MOST_TOLERANCE:
        wrong = f"is not from {_LEAST_TOLERANCE:g} to {_MOST_TOLERANCE:g}"
        raise ConfigError("tolerance", tolerance, wrong, "give 0.01, say")
    if max_requests is not None:
        if max_requests < 2:
            raise ConfigError("max_requests", max_requests, "have no rate", "give 2 or more")
        workload = workload.head(min(max_requests, len(workload)))
    probe = Prober(config, workload, read_limits(slo), tables)
    probes = find_bracket(probe, float(workload.qps or 1.0), tolerance)
    return describe_capacity(probes, tolerance)


def find_bracket(probe: Callable[[float], Probe], first_qps: float, tolerance: float) -> list[Probe]:
    """Probe until a rate holds and one above it, by at most the tolerance, does not.

    Steps away from the first rate double, in its logarithm, until the verdict changes; then the bracket is halved. It
    ends without a bracket where nothing holds, or everything does.
    """
    probes: list[Probe] = []

    def holds(qps: float) -> bool:
        probes.append(probe(qps))
        return probes[-1].holds

    low, high = 0.0, math.inf
    qps, step = first_qps, _FIRST_STEP
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
    return probe.metrics["arriving_s"] < _AT_ONE_TIME * probe.requests / probe.metrics["throughput_requests_per_s"]


def describe_capacity(probes: list[Probe], tolerance: float) -> Capacity:
    """What the probes of `find_bracket` say."""
    holding = [probe for probe in probes if probe.holds]
    breaking = [probe for probe in probes if not probe.holds]
    if not holding:
        lowest = min(breaking, key=lambda probe: probe.qps)
        why = f"no rate holds: even at {lowest.qps:.3g} requests/s {lowest.binding}"
        return Capacity(0.0, (0.0, lowest.qps), tolerance, tuple(probes), True, why, lowest.binding, lowest)
    best = max(holding, key=lambda probe: probe.qps)
    if not breaking:
        why = "everything holds even where all requests arrive at one time: too few to overload the system"
        qps = best.metrics["throughput_requests_per_s"]
        return Capacity(qps, (qps, math.inf), tolerance, tuple(probes), False, why, best.binding, best)
    lowest = min((probe for probe in breaking if probe.qps > best.qps), key=lambda probe: probe.qps)
    is_long, why = _long_enough(best)
    return Capacity(best.qps, (best.qps, lowest.qps), tolerance, tuple(probes), is_long, why, lowest.binding, best)


def _long_enough(best: Probe) -> tuple[bool, str]:
    """Whether a run at capacity is long enough for its rate to be one that lasts, and why."""
    waiting_s, served_s, arriving_s = (best.metrics[name] for name in ("waiting_last_s", "served_s", "arriving_s"))
    if arriving_s < _MANY * served_s:
        return False, (
            f"too short: requests arrive for {arriving_s:.3g} s, and one is served for {served_s:.3g} s; the batch "
            f"fills and empties for much of the run ({_MANY} times as long would do)"
        )
    if waiting_s > PILED_UP * arriving_s:
        return False, (
            f"too short: at capacity the last tenth of the requests waits {waiting_s:.3g} s to be scheduled, "
            f"{waiting_s / arriving_s:.1%} of the time in which requests arrive; in a longer run it would wait longer"
        )
    return True, (
        f"long enough: requests arrive for {arriving_s:.3g} s, {arriving_s / served_s:.0f} times as long as one is "
        f"served, and the last tenth waits {waiting_s:.3g} s"
    )
