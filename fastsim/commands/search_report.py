"""What ``fastsim search`` prints: what the frame tells, the ten best under each workload, and what never ran."""

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastsim.searching.cases import Case, cases, compared, knobs_in_words
from fastsim.searching.words import IN_FULL, words

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
    found = record["findings"]
    lines += ["", words(found, with_bars)]
    described = cases(frame)
    if len(described) <= IN_FULL:
        lines += [line for case in described for line in _top(case, found, with_bars)]
    return "\n".join([*lines, *_not_run(frame)])


def _top(case: Case, found: Mapping[str, Any], with_bars: bool) -> list[str]:
    """The best of a model and workload side by side; nothing where there are no two."""
    goal = found["goal"]
    known = compared(case.rows, goal)
    able = known.filter(known[goal] > 0).sort(goal, "capacity_qps", descending=True, maintain_order=True)
    rows = able.head(_TOP).to_dicts()
    if len(rows) < 2:
        return []
    heading = f"{'config':14}{'requests/$':>12}{'requests/s':>12}{'TTFT p90':>10}{'TPOT p90':>10}{'MFU':>6}"
    lines = ["", f"{case.title}: the best {len(rows)} of {len(able):,}", f"  {heading}"]
    for row in rows:
        bar = f"  {_bar(row[goal] / rows[0][goal])}" if with_bars else "  "
        times = f"{_time(row['ttft_p90_s']):>10}{_time(row['tpot_p90_s']):>10}"
        used = "-" if row["mfu"] is None else f"{row['mfu']:.0%}"
        lines.append(
            f"  {row['config_id']:14}{_number(row['qps_per_dollar']):>12}{row['capacity_qps']:>12.3g}{times}{used:>6}"
            f"{bar}  {knobs_in_words(row, found['knobs'])}"
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
