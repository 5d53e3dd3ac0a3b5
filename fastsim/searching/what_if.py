"""What changes when one configuration takes the place of another, in words."""

from typing import TYPE_CHECKING, Any

from fastsim.errors import ConfigError
from fastsim.searching.cases import check, find_goal, knobs_of, setting, short_name
from fastsim.searching.pareto import intervals
from fastsim.searching.tasks import OK
from fastsim.searching.texts import METRICS, amount

if TYPE_CHECKING:
    import polars as pl

#: Of a change, relative: less is 0.0 %.
_SHOWN = 5e-4


def what_if(frame: "pl.DataFrame", before: str, after: str) -> str:
    """Say what changes when ``after`` takes the place of ``before``, on every workload that both were run on.

    Args:
        frame: of `fastsim.search`.
        before: ``config_id`` of the configuration in use.
        after: ``config_id`` of the other.

    Returns:
        Several lines: the knobs that differ, and for each workload what capacity, cost and latencies become.

    Raises:
        ConfigError: the frame has no such configuration, or no workload on which both were run.
    """
    check(frame)
    for name, config in (("before", before), ("after", after)):
        if config not in frame["config_id"]:
            raise ConfigError(name, config, "is no config_id of this search", "give one of its column config_id")
    pairs = [
        pair for part in frame.partition_by("workload", maintain_order=True) if (pair := _pair(part, before, after))
    ]
    if not pairs:
        raise ConfigError("after", after, f"was run on no workload that {before} was run on", "give another")
    old, new = pairs[0]
    knobs = [name for name in ("model", *knobs_of(frame)) if name in frame.columns and old[name] != new[name]]
    changes = [f"{short_name(knob)} {setting(new[knob])} instead of {setting(old[knob])}" for knob in knobs]
    lines = [f"{after} in place of {before}: {', '.join(changes) or 'the same knobs'}"]
    for pair in pairs:
        lines += _changes(frame, *pair)
    return "\n".join(lines)


def _pair(part: "pl.DataFrame", before: str, after: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The rows of both; None unless there are both."""
    rows = {row["config_id"]: row for row in part.iter_rows(named=True) if row["config_id"] in (before, after)}
    return (rows[before], rows[after]) if before in rows and after in rows else None


def _changes(frame: "pl.DataFrame", before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Lines about one workload."""
    heading = f"on {after['workload']}"
    for row in (after, before):
        if row["status"] != OK:
            return [f"{heading}: {row['config_id']} has no capacity: {row['reason']}"]
    lines = [f"{heading}, which the search cannot tell apart" if _overlap(before, after, find_goal(frame)) else heading]
    for column, metric in METRICS.items():
        old, new = before.get(column), after.get(column)
        if old is not None and new is not None:
            change = f" ({new / old - 1:+.1%})" if old > 0 and abs(new / old - 1) >= _SHOWN else ""
            lines.append(f"  {metric.name:26}{amount(column, old):>12} -> {amount(column, new)}{change}")
    formerly = "" if before["binding"] == after["binding"] else f"; before: {before['binding']}"
    return [*lines, f"  {'held back by':26}{after['binding']}{formerly}"]


def _overlap(one: dict[str, Any], other: dict[str, Any], goal: str) -> bool:
    """Whether the intervals of a goal of two rows have a point in common."""
    import polars as pl

    low, high = intervals(pl.DataFrame([one, other], strict=False, infer_schema_length=None), goal)
    return bool(low[0] <= high[1] and low[1] <= high[0])
