"""What is in the frame of a search: which columns are knobs, and which rows are alternatives to each other.

Rows are alternatives if they serve the same model under the same workload: nobody swaps a model of 70 B parameters for
one of 7 B because it is cheaper. Of these only those are compared whose capacity is known: status ``"ok"``.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from fastsim.errors import ConfigError
from fastsim.searching.frames import BEFORE, BEHIND
from fastsim.searching.tasks import OK

if TYPE_CHECKING:
    import polars as pl

#: Columns that are no knob: what was found, which model is served, and marks of `fastsim.searching.pareto`.
NOT_KNOBS = (*BEFORE, "model", *BEHIND, "pareto", "tied")
#: What can be the best of, the more the better: requests per dollar, or per second.
GOALS = ("qps_per_dollar", "capacity_qps")


class Case(NamedTuple):
    """Rows that are alternatives to each other.

    Attributes:
        model: that they serve; None where the frame has no such column.
        workload: that they serve it under.
        rows: all of them, those without a capacity included, in the order of the frame.
    """

    model: str | None
    workload: str
    rows: "pl.DataFrame"

    @property
    def title(self) -> str:
        """What it is called in a heading."""
        return title_of(self.model, self.workload)


def title_of(model: str | None, workload: str) -> str:
    """What a model under a workload is called in a heading."""
    return ", ".join(name for name in (model, workload) if name is not None)


def cases(frame: "pl.DataFrame") -> list[Case]:
    """The alternatives in a frame, in the order of their first rows.

    Raises:
        ConfigError: the frame is not one of a search.
    """
    check(frame)
    keys = [name for name in ("model", "workload") if name in frame.columns]
    parts = frame.partition_by(keys, maintain_order=True)
    return [Case(part["model"][0] if len(keys) > 1 else None, part["workload"][0], part) for part in parts]


def check(frame: "pl.DataFrame", columns: Sequence[str] = ()) -> None:
    """Refuse a frame without the columns that every search has, or without others that are needed.

    Raises:
        ConfigError: as said.
    """
    needed = ("config_id", "workload", "status", "capacity_qps", "qps_low", "qps_high", *columns)
    missing = [name for name in needed if name not in frame.columns]
    if missing:
        wrong = f"has no column {', '.join(missing)}"
        raise ConfigError("frame", None, wrong, "give what fastsim.search returned, or its configurations.parquet")


def find_goal(frame: "pl.DataFrame", goal: str | None = None) -> str:
    """What is compared: the goal given, else requests per dollar where any price is known, else QPS.

    Raises:
        ConfigError: an unknown goal.
    """
    if goal is None:
        priced = GOALS[0] in frame.columns and frame[GOALS[0]].null_count() < len(frame)
        return GOALS[0] if priced else GOALS[1]
    if goal not in GOALS:
        raise ConfigError("goal", goal, "is nothing to be the best of", f"give one of {', '.join(GOALS)}")
    check(frame, [goal])
    return goal


def compared(rows: "pl.DataFrame", goal: str) -> "pl.DataFrame":
    """The rows whose goal is known, 0 included."""
    import polars as pl

    return rows.filter((pl.col("status") == OK) & pl.col(goal).is_finite())


def find_best(rows: "pl.DataFrame", goal: str) -> dict[str, Any] | None:
    """The row with most of a goal, of equals the one of most capacity, else the first; None where no row has any."""
    import polars as pl

    known = compared(rows, goal).filter(pl.col(goal) > 0)
    if known.is_empty():
        return None
    most = known.filter(pl.col(goal) == pl.col(goal).max())
    return most.row(most["capacity_qps"].arg_max() or 0, named=True)


def knobs_of(frame: "pl.DataFrame") -> list[str]:
    """The columns that are knobs and have several values, in order."""
    return [name for name in frame.columns if name not in NOT_KNOBS and frame[name].n_unique() > 1]


def free_knobs_of(frame: "pl.DataFrame") -> list[str]:
    """The same without the replicas where they follow from a number of GPUs and what a replica takes of them."""
    knobs = knobs_of(frame)
    sizes = [name for name in ("tensor_parallel", "pipeline_parallel", "data_parallel") if name in knobs]
    if "replicas" in knobs and sizes and frame[sizes].n_unique() == frame[[*sizes, "replicas"]].n_unique():
        knobs.remove("replicas")
    return knobs


def knobs_in_words(row: Mapping[str, Any], knobs: Sequence[str]) -> str:
    """The settings of a row, such as ``"h100_sxm, tp 2, sarathi, chunk_size 512"``; options it lacks are left out."""
    return ", ".join(_settings(row, knobs)) or "as given"


def _settings(row: Mapping[str, Any], knobs: Sequence[str]) -> Iterator[str]:
    for knob in knobs:
        if row[knob] is not None:
            named = knob in _SPEAK_FOR_THEMSELVES
            yield setting(row[knob]) if named else f"{short_name(knob)} {setting(row[knob])}"


#: Knobs whose values are names that need none beside them.
_SPEAK_FOR_THEMSELVES = ("device", "scheduler", "router", "engine", "dtype")
_SHORT = {"tensor_parallel": "tp", "pipeline_parallel": "pp", "data_parallel": "dp", "expert_parallel": "ep"}


def short_name(knob: str) -> str:
    """What a knob is called in a line of text: its last part, or two letters for the parallel ones."""
    return _SHORT.get(knob, knob.rpartition(".")[2])


def setting(value: Any) -> str:
    """A value of a knob as text; ``"-"`` for none."""
    if value is None:
        return "-"
    return f"{value:g}" if isinstance(value, float) and math.isfinite(value) else str(value)
