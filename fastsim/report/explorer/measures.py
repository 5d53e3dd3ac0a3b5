"""What a search knows of a configuration in numbers, and what its space varies."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastsim.searching.cases import free_knobs_of, setting, title_of

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
        values: in order, as text; `NO_VALUE`, of configurations that have no such option, is the last.
        places: which of them each row of the frame has [rows].
    """

    name: str
    values: tuple[str, ...]
    places: tuple[int, ...]


#: What an axis shows for configurations that have no such option.
NO_VALUE = setting(None)


def knobs(frame: "pl.DataFrame") -> list[Axis]:
    """The axes that tell the alternatives of a case apart."""
    return [_axis(name, frame[name]) for name in free_knobs_of(frame)]


def cases(frame: "pl.DataFrame") -> list[str]:
    """The case of each row in words: its workload, and its model where there are several [rows]."""
    workloads = frame["workload"].to_list()
    if "model" not in frame.columns or frame["model"].n_unique() == 1:
        return workloads
    models = frame["model"].to_list()
    short = {model: model.rpartition("/")[2] for model in models}
    if len(set(short.values())) < len(short):
        short = {model: model for model in models}
    return [title_of(short[model], workload) for model, workload in zip(models, workloads, strict=True)]


def _axis(name: str, column: "pl.Series") -> Axis:
    values = column.to_list()
    distinct = {setting(value): value for value in values}
    # Numbers ascend, other values stay in the order in which the space names them.
    if column.dtype.is_numeric():
        distinct = dict(sorted(distinct.items(), key=lambda pair: (pair[1] is None, pair[1] or 0)))
    texts = sorted(distinct, key=lambda text: text == NO_VALUE)
    place = {text: i for i, text in enumerate(texts)}
    return Axis(name, tuple(texts), tuple(place[setting(value)] for value in values))
