"""What a search found, as one JSON-able object: the best, what ties with it, what matters, what a mistake costs."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fastsim.searching.cases import NOT_KNOBS, Case, cases, check, compared, find_best, find_goal, knobs_of
from fastsim.searching.drift import regret
from fastsim.searching.limits import Limit, read_limits
from fastsim.searching.mismatch import mismatch
from fastsim.searching.pareto import pareto, ties
from fastsim.searching.sensitivity import sensitivity
from fastsim.searching.texts import METRICS
from fastsim.searching.words import words

if TYPE_CHECKING:
    import polars as pl

__all__ = ["describe", "words"]

#: What is less the better, and so is compared with the goal in a Pareto front.
COSTS = ("ttft_p90_s", "tpot_p90_s")


def describe(
    frame: "pl.DataFrame",
    slo: Mapping[str, Any] | Sequence[Limit] | None = None,
    half_width: float | Mapping[str, float] = 0.0,
) -> dict[str, Any]:
    """Everything that a search has to say about its frame.

    Args:
        frame: of `fastsim.search`.
        slo: what held at capacity, as `fastsim.search` takes it, or the limits that it read.
        half_width: what else makes capacities uncertain, as `ties` takes it.

    Returns:
        ``goal``, the column that is compared; ``slo``, the limits; ``knobs``, those that have several values;
        ``status``, how many rows have which; ``cases``, for each model and workload what `describe_case` says; and
        ``mismatch`` and ``regret``, the rows of the functions of these names (of ``regret`` those of the best ten
        configurations of each model), empty where there is one workload.

    Raises:
        ConfigError: the frame is not one of a search, or a limit is none.
    """
    import polars.selectors as cs

    check(frame)
    limits = read_limits(slo) if slo is None or isinstance(slo, Mapping) else slo
    frame = frame.with_columns(cs.float().fill_nan(None))
    goal = find_goal(frame)
    knobs = knobs_of(frame)
    marked = ties(pareto(frame, COSTS, goal), half_width, goal)
    weights = sensitivity(frame, goal).to_dicts()
    several = frame["workload"].n_unique() > 1
    kept = regret(frame, goal=goal) if several else None
    return {
        "goal": goal,
        "slo": [asdict(limit) for limit in limits],
        "knobs": knobs,
        "status": dict(Counter(frame["status"].to_list())),
        "cases": [describe_case(case, goal, knobs, weights) for case in cases(marked)],
        "mismatch": mismatch(frame, goal).to_dicts() if several else [],
        "regret": [] if kept is None else kept.group_by("model", maintain_order=True).head(10).to_dicts(),
    }


def describe_case(case: Case, goal: str, knobs: Sequence[str], weights: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What is to be said of one model and workload.

    Args:
        case: with the columns ``pareto`` and ``tied``.
        goal: that is compared.
        knobs: columns that tell configurations apart.
        weights: rows of `sensitivity`.

    Returns:
        ``model``, ``workload``; the numbers of ``configurations`` and of those ``compared``; ``best``, a configuration,
        or None; ``ties``, the others that cannot be told from it; ``pareto``, the front, the most of the goal first;
        and ``sensitivity``, by knob its ``share`` and for each of its ``values`` what is reached.
    """
    known = compared(case.rows, goal)
    best = find_best(known, goal)
    by_goal = known.sort(goal, descending=True, maintain_order=True)
    tied = [configuration(row, knobs) for row in by_goal.filter("tied").iter_rows(named=True)]
    return {
        "model": case.model,
        "workload": case.workload,
        "configurations": len(case.rows),
        "compared": len(known),
        "best": None if best is None else configuration(best, knobs),
        "ties": [] if best is None else [one for one in tied if one["config_id"] != best["config_id"]],
        "pareto": [configuration(row, knobs) for row in by_goal.filter("pareto").iter_rows(named=True)],
        "sensitivity": _by_knob(case, weights),
    }


def configuration(row: Mapping[str, Any], knobs: Sequence[str]) -> dict[str, Any]:
    """A row without what all rows have: its id, its knobs, and what was found."""
    found = [name for name in NOT_KNOBS if name in row and (name in METRICS or name in _ALSO)]
    return {"config_id": row["config_id"], "knobs": {knob: row[knob] for knob in knobs}} | {n: row[n] for n in found}


_ALSO = ("gpus", "qps_low", "qps_high", "binding", "long_enough")


def _by_knob(case: Case, weights: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for row in weights:
        if row["model"] == case.model and row["workload"] == case.workload:
            of_knob = found.setdefault(row["knob"], {"share": row["share"], "values": []})
            of_knob["values"].append({name: row[name] for name in ("value", "best", "reach", "config_id")})
    return found
