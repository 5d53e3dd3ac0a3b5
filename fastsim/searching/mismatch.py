"""What it costs to serve one workload with the configuration that is the best for another."""

from typing import TYPE_CHECKING, Any

from fastsim.searching.cases import Case, cases, compared, find_best, find_goal
from fastsim.searching.pareto import ties

if TYPE_CHECKING:
    import polars as pl


def mismatch(frame: "pl.DataFrame", goal: str | None = None) -> "pl.DataFrame":
    """The cost of each workload under the best configuration of each other, relative to its own best.

    Args:
        frame: of `fastsim.search`, of several workloads.
        goal: ``"qps_per_dollar"`` or ``"capacity_qps"``; None for the first where a price is known.

    Returns:
        A row for each model and ordered pair of workloads that have a best configuration: ``model`` (null where the
        frame has none), ``best_on`` and its ``config_id``, ``run_on``, ``value`` of the goal there, the ``best`` value
        there, ``factor`` = best / value, at least 1, and ``least_factor``, the least one of all that are tied with the
        best on the first workload: which of these is called the best is chance. Null where a configuration serves
        nothing within the limits, or its capacity is not known.

    Raises:
        ConfigError: an unknown goal, or a missing column.
    """
    import polars as pl

    goal = find_goal(frame, goal)
    found: list[dict[str, Any]] = []
    for model, group in by_model(ties(frame, goal=goal)).items():
        bests = {case.workload: best for case in group if (best := find_best(case.rows, goal)) is not None}
        values = {case.workload: values_of(case, goal) for case in group}
        tied = {case.workload: case.rows.filter("tied")["config_id"].to_list() for case in group}
        for best_on, chosen in bests.items():
            for run_on, best in bests.items():
                known = [values[run_on][config] for config in tied[best_on] if config in values[run_on]]
                value = values[run_on].get(chosen["config_id"])
                found.append(
                    {
                        "model": model,
                        "best_on": best_on,
                        "config_id": chosen["config_id"],
                        "run_on": run_on,
                        "value": value,
                        "best": best[goal],
                        "factor": None if value is None else best[goal] / value,
                        "least_factor": best[goal] / max(known) if known else None,
                    }
                )
    texts = dict.fromkeys(("model", "best_on", "config_id", "run_on"), pl.String)
    return pl.DataFrame(found, texts | dict.fromkeys(("value", "best", "factor", "least_factor"), pl.Float64))


def by_model(frame: "pl.DataFrame") -> dict[str | None, list[Case]]:
    """The cases of a frame, one for each workload, by their model."""
    found: dict[str | None, list[Case]] = {}
    for case in cases(frame):
        found.setdefault(case.model, []).append(case)
    return found


def values_of(case: Case, goal: str) -> dict[str, float]:
    """The goal by ``config_id``, of those that have any of it."""
    known = compared(case.rows, goal).select("config_id", goal).rows()
    return {config_id: float(value) for config_id, value in known if value > 0}
