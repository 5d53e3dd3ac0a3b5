"""What ``fastsim search`` prints: the best under each workload, the ten best side by side, and what never ran."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

_TOP = 10
#: Reasons that are written out.
_MOST_REASONS = 5
#: Width of the longest bar [characters], and what it is drawn with.
_WIDTH, BAR = 12, "█"
_STATUS = {
    "does_not_fit": "do not fit",
    "refused": "were refused",
    "failed": "failed",
    "dropped": "were dropped by the strategy",
}


def render_search(frame: "pl.DataFrame", record: Mapping[str, Any], with_bars: bool = True) -> str:
    """A search as text, several lines.

    Args:
        frame: of a `fastsim.searching.runner.SearchResult`.
        record: its record.
        with_bars: draw requests per dollar, in a character that not every terminal has.
    """
    counts = record["counts"]
    lines = [
        f"{counts['configurations']:,} configurations, {len(record['workloads']):,} "
        f"{_plural('workload', len(record['workloads']))}, strategy {record['strategy']}: {counts['runs']:,} "
        f"{_plural('run', counts['runs'])} of {counts['probes']:,} simulations with "
        f"{counts['simulated_requests']:,} requests in {record['wall_s']:.1f} s",
    ]
    if counts["resumed"]:
        lines.append(f"{counts['resumed']:,} of the runs were in the journal")
    for workload in record["workloads"]:
        if not record["best"].get(workload):
            lines += ["", f"{workload}: no configuration that could be run keeps the limits at any rate"]
        for model in record["best"].get(workload, ()):
            lines += ["", *_of_case(frame, record["axes"], workload, model, with_bars)]
    return "\n".join([*lines, *_not_run(frame)])


def _of_case(frame: "pl.DataFrame", axes: Sequence[str], workload: str, model: str, with_bars: bool) -> list[str]:
    """The best of a model under a workload, and those that follow."""
    import polars as pl

    able = frame.filter((pl.col("workload") == workload) & (pl.col("status") == "ok") & (pl.col("capacity_qps") > 0))
    name = workload
    if "model" in axes:
        able, name = able.filter(pl.col("model") == model), f"{model} under {workload}"
        axes = [axis for axis in axes if axis != "model"]
    order = able.sort("qps_per_dollar", "capacity_qps", descending=True, nulls_last=True, maintain_order=True)
    rows = order.head(_TOP).to_dicts()
    top = rows[0]
    lines = [
        f"{name}: best is {top['config_id']} with {_number(top['qps_per_dollar'])} requests per $, "
        f"{top['capacity_qps']:.3g} requests/s at ${top['price_per_hour']:.2f} an hour",
        f"  {_axes(top, axes)}",
        f"  beyond that rate: {top['binding']}",
        *(["  the workload is too short to tell whether that rate lasts"] if top["long_enough"] is False else []),
        "",
        f"  {'config':12}{'requests/$':>12}{'requests/s':>12}{'TTFT p90':>10}{'TPOT p90':>10}{'MFU':>6}",
    ]
    most = top["qps_per_dollar"] or 1.0
    for row in rows:
        bar = f"  {_bar((row['qps_per_dollar'] or 0.0) / most)}" if with_bars else "  "
        times = f"{_time(row['ttft_p90_s']):>10}{_time(row['tpot_p90_s']):>10}"
        used = "-" if row["mfu"] is None else f"{row['mfu']:.0%}"
        lines.append(
            f"  {row['config_id']:12}{_number(row['qps_per_dollar']):>12}{row['capacity_qps']:>12.3g}{times}{used:>6}"
            f"{bar}  {_axes(row, axes)}"
        )
    return lines


def _not_run(frame: "pl.DataFrame") -> list[str]:
    """Lines about rows without a capacity to be compared: how many, and the reasons."""
    lines: list[str] = []
    for status, what in _STATUS.items():
        rows = frame.filter(frame["status"] == status)
        if rows.is_empty():
            continue
        lines += ["", f"{len(rows):,} of {len(frame):,} {what}:"]
        reasons = Counter(rows["reason"]).most_common()
        lines += [f"  {count:,} x {reason}" for reason, count in reasons[:_MOST_REASONS]]
        if len(reasons) > _MOST_REASONS:
            lines.append(f"  and {len(reasons) - _MOST_REASONS:,} other reasons, in the column reason")
    return lines


def _axes(row: Mapping[str, Any], axes: Sequence[str]) -> str:
    """The values of a configuration in words."""
    given = [f"{axis} {row[axis]}" for axis in axes if row[axis] is not None]
    return ", ".join(given) or "the only configuration"


def _bar(part: float) -> str:
    return f"{BAR * max(1, round(part * _WIDTH)):{_WIDTH}}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def _plural(noun: str, count: int) -> str:
    return noun if count == 1 else f"{noun}s"
