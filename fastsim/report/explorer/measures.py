"""What a search knows of a configuration in numbers, and what its space varies."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Measure:
    """One number of a configuration at a rate.

    Attributes:
        column: of configurations.parquet.
        label: what it is called.
        unit: see `fastsim.report.quantities.written`.
        better: +1 if more of it is, -1 if less.
    """

    column: str
    label: str
    unit: str
    better: int


#: Those that follow from the rate and the price; the script computes them in this order.
OF_RATE = (
    Measure("qps_per_dollar", "Requests per dollar", "", 1),
    Measure("capacity_qps", "Rate", "QPS", 1),
    Measure("price_per_hour", "Price per hour", "$", -1),
    Measure("gpus", "GPUs", "", -1),
)
_LATENCIES = (
    ("ttft", "TTFT"),
    ("tpot", "TPOT"),
    ("tbt", "TBT"),
    ("e2e", "E2E"),
    ("scheduling_delay", "Scheduling delay"),
)
_QUANTILES = ("mean", "p50", "p75", "p90", "p95", "p99", "max")
#: Those that are simulated.
_SIMULATED = (
    *(
        Measure(f"{key}_{quantile}_s", f"{label}, {quantile}", "s", -1)
        for key, label in _LATENCIES
        for quantile in _QUANTILES
    ),
    Measure("attainment", "Objectives met", "share", 1),
    Measure("mfu", "MFU", "share", 1),
)
#: What tells cases apart: configurations are alternatives to each other if they serve the same model, under the same
#: workload.
CASE = ("model", "workload")
#: Columns of configurations.parquet that are no axis of the space and no measure.
_OTHERS = (
    *("config_id", "workload", "status", "reason", "qps_low", "qps_high", "binding", "long_enough"),
    *("requests", "probes", "simulated_requests", "wall_s"),
)
_SHORT = {"tensor_parallel": "TP", "pipeline_parallel": "PP", "data_parallel": "DP", "expert_parallel": "EP"}


def simulated(frame: "pl.DataFrame") -> list[Measure]:
    """The simulated measures that a frame has values of."""
    return [one for one in _SIMULATED if one.column in frame.columns and frame[one.column].is_not_null().any()]


def probe_column(measure: Measure, columns: Sequence[str]) -> str | None:
    """The column of probes.parquet that has a measure, named like it or ``metric.quantile``; None without one."""
    metric, _, quantile = measure.column.removesuffix("_s").rpartition("_")
    return next((name for name in (measure.column, f"{metric}_s.{quantile}") if name in columns), None)


@dataclass(frozen=True)
class Axis:
    """Something that the space varies.

    Attributes:
        name: its column.
        values: in order, as text; of configurations that have no such option a dash, the last.
        places: which of them each row of the frame has [rows].
    """

    name: str
    values: tuple[str, ...]
    places: tuple[int, ...]

    @property
    def label(self) -> str:
        """What it is called on a chart: ``"TP"``, ``"scheduler.chunk_size"``."""
        return _SHORT.get(self.name, self.name.removesuffix(".name"))

    def told(self, row: int) -> str:
        """Its value in a row, so that it can be told from those of other axes; empty where there is none."""
        value = self.values[self.places[row]]
        if value == NO_VALUE:
            return ""
        number_like = value in ("true", "false") or value.replace(".", "").replace("-", "").isdigit()
        return f"{self.label.rpartition('.')[2]} {value}" if number_like else value.rpartition("/")[2] or value


#: What an axis shows for configurations that have no such option.
NO_VALUE = "\N{EN DASH}"


def axes(frame: "pl.DataFrame") -> list[Axis]:
    """What the space varies or names, a column each: also those that have one value."""
    known = {*_OTHERS, *(one.column for one in (*OF_RATE, *_SIMULATED))}
    return [_axis(name, frame[name]) for name in frame.columns if name not in known]


def varied(frame: "pl.DataFrame") -> list[Axis]:
    """The axes that tell the alternatives of a case apart."""
    return [axis for axis in axes(frame) if len(axis.values) > 1 and axis.name not in CASE]


def cases(frame: "pl.DataFrame") -> list[str]:
    """The case of each row in words: its workload, and its model where there are several [rows]."""
    workloads = frame["workload"].to_list()
    if "model" not in frame.columns or frame["model"].n_unique() == 1:
        return workloads
    models = [str(model) for model in frame["model"]]
    short = {model: model.rpartition("/")[2] for model in models}
    if len(set(short.values())) < len(short):
        short = {model: model for model in models}
    return [f"{short[model]}, {workload}" for model, workload in zip(models, workloads, strict=True)]


def _axis(name: str, column: "pl.Series") -> Axis:
    values = column.to_list()
    distinct = {_as_text(value): value for value in values}
    # Numbers ascend, other values stay in the order in which the space names them.
    if column.dtype.is_numeric():
        distinct = dict(sorted(distinct.items(), key=lambda pair: (pair[1] is None, pair[1] or 0)))
    texts = sorted(distinct, key=lambda text: text == NO_VALUE)
    place = {text: i for i, text in enumerate(texts)}
    return Axis(name, tuple(texts), tuple(place[_as_text(value)] for value in values))


def _as_text(value: object) -> str:
    if value is None:
        return NO_VALUE
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
