"""How far the metrics of a run may be off because operator times are predicted.

Beside the tables of estimates there are `MEMBERS` others of each model, as likely by what the estimators got wrong on
shapes that they had not seen. Each serves the same workload, and the spread of a metric over these runs is its
interval. What no shape tells is in none of them: the CPU's time, rules of an engine, operators that are modelled
(docs/estimators.md).
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from estimators.members import COVERAGE, DEVIATIONS
from estimators.regressors import MEMBERS
from fastsim.errors import ConfigError

if TYPE_CHECKING:
    from fastsim.config import SimulationConfig

__all__ = ["COVERAGE", "MEMBERS", "check_intervals", "describe_intervals", "half_width", "interval"]

#: Latencies with an interval for the mean and each quantile, and rates with one.
LATENCIES = ("ttft_s", "tpot_s", "tbt_s", "e2e_s")
RATES = ("throughput_requests_per_s", "throughput_output_tokens_per_s", "throughput_tokens_per_s")

Interval = list[float] | None


def check_intervals(config: "SimulationConfig", tables: object) -> None:
    """Refuse intervals where there are no other tables than those of the run.

    Args:
        config: what serves.
        tables: what `simulate` was given.

    Raises:
        ConfigError: tables were given, or the run follows Vidur's rules.
    """
    mend = "leave out the intervals"
    if config.parity is not None:
        raise ConfigError("intervals", None, f"do not exist under parity = {config.parity!r}", f"{mend}, or parity")
    if tables is not None:
        wrong = "are of tables that the estimators predict, and tables were given"
        raise ConfigError("intervals", None, wrong, f"{mend}, or the tables")


def describe_intervals(metrics: Mapping[str, Any], members: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Intervals of the metrics of a run.

    Args:
        metrics: the section of that name of the run's summary.
        members: the same of each run with other tables.

    Returns:
        ``coverage``, the number of ``members``, and ``metrics`` as those of the summary: [low, high] for every number,
        None where there is none.
    """
    found: dict[str, Any] = {
        name: {
            statistic: interval(value, [member[name][statistic] for member in members])
            for statistic, value in metrics[name].items()
        }
        for name in LATENCIES
    }
    found |= {name: interval(metrics[name], [member[name] for member in members]) for name in RATES}
    return {"coverage": COVERAGE, "members": len(members), "metrics": found}


def interval(estimate: float | None, members: Sequence[float | None]) -> Interval:
    """[low, high] about an estimate, a factor to either side; None where a logarithm does not exist.

    The factor is the exponential of 1.645 times the standard deviation of the members' logarithms, taken about that of
    the estimate and with n - 1 degrees of freedom: members are made to cover held-out errors by this very rule, about
    their own mean, which is the estimate.
    """
    values = [value for value in (estimate, *members) if value is not None and value > 0]
    if estimate is None or len(values) <= len(members):
        return None
    off = [math.log(value / estimate) for value in values[1:]]
    factor = math.exp(DEVIATIONS * math.sqrt(math.fsum(x * x for x in off) / (len(off) - 1)))
    return [estimate / factor, estimate * factor]


def half_width(found: Interval) -> float | None:
    """Half of an interval relative to its middle, such as 0.05 for plus or minus 5 %."""
    return None if found is None else math.sqrt(found[1] / found[0]) - 1.0
