"""What is kept of the two runs of a scenario: the columns of the results."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from fastsim.report.quantities import NOTHING, significant, time_unit


@dataclass(frozen=True)
class Column:
    """One number of a scenario.

    Attributes:
        name: in files.
        label: in tables.
        unit: as in `fastsim.report.quantities.written`.
        path: its keys in the summary of a run.
        offline: of which run: that of requests which are all there at the start, or of those that arrive over time.
        brief: whether the table of the terminal has it.
    """

    name: str
    label: str
    unit: str
    path: str
    offline: bool = False
    brief: bool = True

    def of(self, summary: Mapping[str, Any]) -> float | None:
        """The number; None where the run has none."""
        value: Any = summary
        for key in self.path.split("."):
            value = value[key]
        return None if value is None else float(value)


COLUMNS: Final = (
    Column("ttft_p50_s", "TTFT p50", "s", "metrics.ttft_s.p50"),
    Column("ttft_p90_s", "TTFT p90", "s", "metrics.ttft_s.p90"),
    Column("ttft_p99_s", "TTFT p99", "s", "metrics.ttft_s.p99"),
    Column("tpot_p50_s", "TPOT p50", "s", "metrics.tpot_s.p50"),
    Column("tpot_p99_s", "TPOT p99", "s", "metrics.tpot_s.p99"),
    Column("tbt_p99_s", "TBT p99", "s", "metrics.tbt_s.p99"),
    Column("e2e_normalized_p50_s", "norm. p50", "s", "metrics.e2e_normalized_s.p50"),
    Column("scheduling_delay_p99_s", "delay p99", "s", "metrics.scheduling_delay_s.p99"),
    Column("requests_per_s", "req/s", "", "metrics.throughput_requests_per_s"),
    Column("output_tokens_per_s", "tokens/s", "", "metrics.throughput_output_tokens_per_s", brief=False),
    Column("goodput_requests_per_s", "goodput", "", "slo.goodput_requests_per_s"),
    Column("slo_attainment", "in time", "share", "slo.attainment", brief=False),
    Column("batch_size_mean", "batch", "", "metrics.batch_size_mean", brief=False),
    Column("mfu", "MFU", "share", "metrics.mfu"),
    Column("kv_use_mean", "KV use", "share", "metrics.kv_use_mean", brief=False),
    Column("preemptions", "preempt.", "", "metrics.preemptions"),
    Column("usd_per_million_output_tokens", "$/M out", "$", "metrics.cost_usd_per_million_output_tokens"),
    Column("offline_requests_per_s", "off. req/s", "", "metrics.throughput_requests_per_s", True, False),
    Column("offline_output_tokens_per_s", "off. tok/s", "", "metrics.throughput_output_tokens_per_s", True),
    Column("offline_batch_size_mean", "off. batch", "", "metrics.batch_size_mean", True, False),
    Column("offline_mfu", "off. MFU", "share", "metrics.mfu", True, False),
    Column("offline_preemptions", "off. preempt.", "", "metrics.preemptions", True, False),
    Column(
        "offline_usd_per_million_output_tokens",
        "off. $/M out",
        "$",
        "metrics.cost_usd_per_million_output_tokens",
        True,
    ),
)


def written(value: float | None, unit: str) -> str:
    """A number as a cell of a table: three digits, and all of those of counts."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if unit == "s":
        factor, name = time_unit(value)
        return f"{significant(value * factor, 3)} {name}" if value else "0 s"
    if unit == "share":
        return f"{100 * value:.1f}%"
    return f"{value:,.2f}" if unit == "$" else significant(value, 3)
