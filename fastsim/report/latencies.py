"""Which part of the requests was served within how long: the distributions of their latencies."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastsim.report.charts import FloatArray, Line, LineChart
from fastsim.report.quantities import written
from fastsim.report.runs import Run
from fastsim.report.scales import Scale, from_zero

#: Column of requests.parquet, name, and meaning.
_LATENCIES = (
    ("ttft_s", "TTFT", "time to first token"),
    ("tpot_s", "TPOT", "time per output token after the first"),
    ("e2e_s", "E2E", "arrival to last token"),
    ("worst_tbt_s", "Worst TBT", "longest time between two tokens of a request"),
    ("scheduling_delay_s", "Scheduling delay", "arrival to first iteration"),
)
#: Parts of the requests for which values are told: 1 % apart, and closer at the ends.
LEVELS = np.array([0, 0.001, 0.005, *(i / 100 for i in range(1, 100)), 0.995, 0.999, 1])
#: The axis is logarithmic if the slowest request takes more times as long as the median.
_LONG_TAIL = 8.0
#: An objective is drawn if it is at most so many times as long as the slowest request takes.
_FAR = 2.0


def distributions(runs: Sequence[Run]) -> list[LineChart]:
    """A chart for each latency that any run has, of the requests that its summary is of."""
    charts = []
    for column, title, meaning in _LATENCIES:
        lines = []
        for number, run in enumerate(runs):
            values = _values(run, column)
            if len(values) > 0:
                lines.append(Line(number, "", np.quantile(values, LEVELS), LEVELS))
        if lines:
            note = f"{meaning}: part of the requests within it"
            asked = sorted(_limits(runs, column))
            axis = _axis([line.x for line in lines], asked)
            limits = [(value, f"objective {written(value, 's')}") for value in asked if axis.low <= value <= axis.high]
            charts.append(LineChart(title, note, axis, Scale(0.0, 1.0, "share"), lines, True, limits))
    return charts


def _values(run: Run, column: str) -> FloatArray:
    """Those of the requests that have this latency [s]."""
    if run.requests is None or column not in run.requests.columns:
        return np.empty(0)
    values: FloatArray = run.requests[column].drop_nulls().to_numpy()
    return values[np.isfinite(values)]


def _axis(quantiles: Sequence[FloatArray], limits: Sequence[float]) -> Scale:
    """An axis that holds the quantiles, and limits that are not far beyond them."""
    slowest = max(float(of_run[-1]) for of_run in quantiles)
    largest = max([slowest, *(limit for limit in limits if limit <= _FAR * slowest)])
    median = min(float(of_run[len(of_run) // 2]) for of_run in quantiles)
    if median <= 0 or largest < _LONG_TAIL * median:
        return from_zero(largest, "s")
    # Not from the fastest of all: a request that waits for nothing has a delay of 0.
    lowest = min(float(of_run[LEVELS.searchsorted(0.01)]) for of_run in quantiles)
    return Scale(max(lowest, median / 100), largest, "s", logarithmic=True)


def _limits(runs: Sequence[Run], column: str) -> set[float]:
    """Objectives on this latency, of any class of any run [s]."""
    classes: list[Mapping[str, Any]] = [
        described for run in runs for described in run.summary.get("slo", {}).get("classes", {}).values()
    ]
    return {
        described["objectives"][column]["limit_s"] for described in classes if column in described.get("objectives", {})
    }
