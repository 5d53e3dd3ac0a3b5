"""How far a capacity may be off because operator times are predicted, and whether two can be told apart all the same.

Each configuration is searched once more with each of the other tables that its estimators' held-out errors make as
likely (`fastsim.intervals`). Member k of the tables of one configuration and member k of those of another are wrong in
the same way where they come from the same estimators, such as those of one device. So the ratio of two capacities is
known better than either: it is taken member by member. What is in no table (CPU time, rules of an engine) is left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastsim.intervals import MEMBERS, Interval, check_intervals, half_width, interval

if TYPE_CHECKING:
    from fastsim.config import SimulationConfig
    from traces import Workload


@dataclass(frozen=True)
class Spread:
    """A capacity, and what it would be with other tables that are as likely.

    Attributes:
        qps: the capacity [requests/s].
        members: with each of the others, `fastsim.intervals.MEMBERS` of them [requests/s].
    """

    qps: float
    members: tuple[float, ...]

    @property
    def interval(self) -> Interval:
        """[low, high] about the capacity [requests/s], at the coverage of `fastsim.intervals`; None where one is 0."""
        return interval(self.qps, self.members)

    @property
    def half_width(self) -> float | None:
        """Half of that relative to its middle, as `fastsim.searching.pareto.ties` takes it; None where one is 0."""
        return half_width(self.interval)

    def ratio(self, other: "Spread") -> Interval:
        """[low, high] about this capacity over another's; None where one is 0.

        The two can be told apart if 1 is outside.
        """
        pairs = zip(self.members, other.members, strict=True)
        ratios = [own / others if others > 0 else None for own, others in pairs]
        return interval(self.qps / other.qps if other.qps > 0 else None, ratios)


def spread_of(
    config: "SimulationConfig",
    workload: "Workload",
    slo: Mapping[str, Any] | None = None,
    *,
    tolerance: float = 1e-3,
    max_requests: int | None = None,
) -> Spread:
    """The capacity of a configuration with its tables, and with each of the others: six times the work of `capacity`.

    Args:
        config: what serves.
        workload: what arrives.
        slo: as `fastsim.capacity` takes it.
        tolerance: of each capacity, relative; what it leaves open is in the spread too.
        max_requests: simulate only so many requests from the workload's beginning.

    Raises:
        ConfigError: as `fastsim.capacity`, or there are no other tables for the configuration.
        estimators.EstimatorError: as `fastsim.capacity`.
    """
    from fastsim.machine import tables_for
    from fastsim.searching.capacity import capacity

    check_intervals(config, None)
    found: list[float] = []
    for member in range(MEMBERS + 1):
        tables = tables_for(config, workload.block_tokens > 0, member)
        # Capacities are near each other, so that the search for the next begins at the last.
        near = workload.scaled(found[-1]) if found and found[-1] > 0 else workload
        at = capacity(config, near, slo, tables=tables, tolerance=tolerance, max_requests=max_requests)
        found.append(at.qps)
    return Spread(found[0], tuple(found[1:]))
