"""How far the metrics of a run may be off because it is one of many that could have been.

Latencies of neighbouring requests resemble each other, so that the usual formula for independent values would promise
too much. There are two ways round it, both with Student's t at 95 %:

* *batch means*: the requests of one run, in order of arrival, are cut into 20 batches, each so long that it hardly
  knows of the one before it. Whether it does is tested: a metric is called correlated where the batches' correlation
  with the one before is above 1.645 / sqrt(20), and then its interval is too narrow and the run too short;
* *seeds*: the whole run is repeated with other seeds, which share nothing. That is free of the assumption.

What is wrong in every run alike, such as predicted operator times, is in neither: `fastsim.intervals` is about that.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastsim.metrics import QUANTILES, latencies
from fastsim.windows import measured

if TYPE_CHECKING:
    from fastsim.config import SimulationConfig

LEVEL = 0.95
BATCHES = 20
#: So many values of a batch must lie beyond a quantile, or about its mean.
_LEAST = 10

Values = npt.NDArray[np.float64]


def batch_means(config: "SimulationConfig", requests: np.ndarray, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Intervals of the latencies of one run.

    Args:
        config: what was simulated.
        requests: REQUEST records after the run, in the order of the workload.
        metrics: the section of that name of its summary.

    Returns:
        ``metrics`` by name and statistic, each with ``estimate``, ``low`` and ``high``, or None where batches are too
        short for it, and which of them are ``correlated``.
    """
    finished = requests[measured(config, requests)]
    finished = finished[~np.isnan(finished["completed_s"])]
    finished = finished[np.argsort(finished["arrival_s"], kind="stable")]
    found: dict[str, Any] = {}
    correlated = []
    for name, values in latencies(finished).items():
        length = len(values) // BATCHES
        batches = values[len(values) - BATCHES * length :].reshape(BATCHES, length)  # those left over are the earliest
        found[name] = {}
        for statistic, of_batches in _statistics(batches).items():
            found[name][statistic] = _interval(metrics[name][statistic], of_batches)
            if found[name][statistic] is not None and _lag_one(of_batches) > 1.645 / math.sqrt(BATCHES):
                correlated.append(f"{name} {statistic}")
    return {"method": "batch means", "level": LEVEL, "batches": BATCHES, "metrics": found, "correlated": correlated}


def over_seeds(summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Intervals of the metrics of runs that differ in their seeds alone, about their means over seeds.

    Args:
        summaries: of these runs, 2 or more.

    Returns:
        As `batch_means`, of every number in the sections ``metrics`` and ``slo``.
    """
    seeds = [summary["config"]["seed"] for summary in summaries]
    found = {
        section: _of_tables([summary[section] for summary in summaries])
        for section in ("metrics", "slo")
        if section in summaries[0]
    }
    return {"method": "seeds", "level": LEVEL, "repeats": len(summaries), "seeds": seeds} | found


def half_width(found: Mapping[str, float] | None) -> float | None:
    """Half of an interval relative to its estimate, such as 0.05 for plus or minus 5 %."""
    if found is None or found["estimate"] == 0:
        return None
    return (found["high"] - found["low"]) / 2 / abs(found["estimate"])


def _statistics(batches: Values) -> dict[str, Values]:
    """The mean and the quantiles of each batch [BATCHES, length]; none of a statistic that it is too short for."""
    length = batches.shape[1]
    empty = np.zeros(0)
    found = {"mean": batches.mean(axis=1) if length >= _LEAST else empty}
    for name, q in QUANTILES.items():
        enough = length * (1 - q) >= _LEAST * (1 - 1e-9)  # 1 - 0.99 is less than a hundredth
        found[name] = np.quantile(batches, q, axis=1) if enough else empty
    return found


def _of_tables(tables: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Intervals of all numbers of equal tables, in tables of the same form."""
    found: dict[str, Any] = {}
    for key, value in tables[0].items():
        column = [table.get(key) for table in tables]
        if isinstance(value, Mapping):
            found[key] = _of_tables([entry if isinstance(entry, Mapping) else {} for entry in column])
        elif isinstance(value, int | float) and not isinstance(value, bool):
            known = np.array([entry for entry in column if entry is not None], np.float64)
            found[key] = _interval(float(known.mean()), known if len(known) == len(column) else known[:0])
    return found


def _interval(estimate: float | None, values: Values) -> dict[str, float] | None:
    """Student's interval about an estimate from independent values of what it estimates; None of fewer than two."""
    if estimate is None or len(values) < 2:
        return None
    half = _student(len(values) - 1) * float(values.std(ddof=1)) / math.sqrt(len(values))
    return {"estimate": estimate, "low": estimate - half, "high": estimate + half}


def _student(degrees: int) -> float:
    """The two-sided quantile of Student's t at `LEVEL`."""
    from scipy.special import stdtrit  # numba and scikit-learn bring it along

    return float(stdtrit(degrees, (1 + LEVEL) / 2))


def _lag_one(values: Values) -> float:
    """Correlation of each value with the one before; 0 where all are equal."""
    off = values - values.mean()
    square = float(off @ off)
    return float(off[1:] @ off[:-1]) / square if square > 0 else 0.0
