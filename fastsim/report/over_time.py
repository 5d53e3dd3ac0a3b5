"""What runs did over time: charts of their timeseries.parquet."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastsim.report.charts import FloatArray, Line, LineChart
from fastsim.report.runs import Run
from fastsim.report.scales import Scale, from_zero

#: More points than this cannot be told apart: neighbouring bins are joined.
_MOST_POINTS = 140


@dataclass(frozen=True)
class _Chart:
    """A chart: ``lines`` are labels with their columns, the first one drawn dashed if there are two.

    Numbers per bin become rates. What is not ``of_all`` engines together is the mean over them.
    """

    title: str
    note: str
    unit: str
    lines: tuple[tuple[str, str], ...]
    of_all: bool = False
    counted: bool = False


_CHARTS = (
    _Chart(
        "Requests",
        "sent and completed, per second",
        "per s",
        (("sent", "arrivals"), ("completed", "completions")),
        True,
        True,
    ),
    _Chart("Queue", "requests sent and not yet scheduled", "", (("", "queue_mean"),)),
    _Chart("Batch", "requests in the batch", "", (("", "running_mean"),)),
    _Chart("KV cache", "part of the blocks in use", "share", (("", "kv_use_mean"),)),
    _Chart(
        "Tokens",
        "processed per second",
        "per s",
        (("prefill", "prefill_tokens_per_s"), ("decode", "decode_tokens_per_s")),
        True,
    ),
    _Chart("Busy", "part of the time in which the GPUs work", "share", (("", "utilization"),)),
    _Chart("Preemptions", "per second", "per s", (("", "preemptions"),), True, True),
)


def charts_over_time(runs: Sequence[Run]) -> list[LineChart]:
    """The charts that any run has something for, their time from the first request of each run."""
    series = {number: _Series(run) for number, run in enumerate(runs) if run.timeseries is not None}
    several = any(of_run.engines > 1 for of_run in series.values())
    charts = []
    for spec in _CHARTS:
        lines = [
            of_run.line(number, spec, i)
            for number, of_run in series.items()
            for i, (_, column) in enumerate(spec.lines)
            if column in of_run.columns
        ]
        largest = max((float((line.y if line.high is None else line.high).max()) for line in lines), default=0.0)
        if not lines or (spec.title == "Preemptions" and largest == 0):
            continue
        note = spec.note
        if several:
            note += (
                ", all engines together" if spec.of_all else ", mean over engines; shaded from the least to the most"
            )
        end_s = max(of_run.end_s for of_run in series.values())
        charts.append(LineChart(spec.title, note, _time_axis(end_s), from_zero(largest, spec.unit), lines))
    return charts


def _time_axis(end_s: float) -> Scale:
    return Scale(0.0, end_s, "s")


class _Series:
    """The bins of one run, joined to at most `_MOST_POINTS`."""

    def __init__(self, run: Run) -> None:
        assert run.timeseries is not None
        owners = [name for name in ("replica", "engine") if name in run.timeseries.columns]
        frame = run.timeseries.sort([*owners, "start_s"])
        self.engines = len(frame.select(owners).unique())
        bins = len(frame) // self.engines
        self.columns = {
            name: frame[name].to_numpy().astype(np.float64).reshape(self.engines, bins) for name in frame.columns
        }
        start, end = self.columns["start_s"][0], self.columns["end_s"][0]
        self._firsts = np.arange(0, bins, -(-bins // _MOST_POINTS))
        starts = start[self._firsts] - start[0]
        self._widths = np.append(starts[1:], end[-1] - start[0]) - starts
        self._seconds = end - start
        self._middles = starts + self._widths / 2
        self.end_s = float(end[-1] - start[0])

    def line(self, run: int, chart: _Chart, i: int) -> Line:
        """One line of a chart: a mean over the time of each joined bin."""
        label, column = chart.lines[i]
        values = self.columns[column] * (1.0 if chart.counted else self._seconds)
        joined: FloatArray = np.add.reduceat(values, self._firsts, axis=1) / self._widths
        dashed = len(chart.lines) > 1 and i == 0
        if chart.of_all:
            return Line(run, label, self._middles, joined.sum(axis=0), dashed)
        spread = (joined.min(axis=0), joined.max(axis=0)) if self.engines > 1 else (None, None)
        return Line(run, label, self._middles, joined.mean(axis=0), dashed, *spread)
