"""Workloads change over time: the windows of a trace, and what it costs to keep one configuration through all of them.

A search over `windows_of` a trace has a row for each configuration and window. `regret` compares the configurations
that serve every window with a fleet that changes to the best in each, at no cost of changing. How many machines there
are follows the demand in either case: what is kept is the configuration, not their number.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fastsim.errors import ConfigError
from fastsim.measuring import seconds as read_seconds
from fastsim.searching.cases import find_best, find_goal
from fastsim.searching.mismatch import by_model, values_of

if TYPE_CHECKING:
    import polars as pl

    from traces import Workload

#: A search has as many workloads as there are windows.
MOST_WINDOWS = 1000


def windows_of(workload: "Workload", length: float | str) -> "dict[str, Workload]":
    """Cut a workload into windows of time, each a workload of its own that starts at 0.

    Windows begin with the first request. What is left at the end is a window if it is at least half as long as the
    others, else part of the last one. Windows of fewer than two requests, or whose requests all come at one time, have
    no rate, and are left out. A request that would wait for one of its session in an earlier window comes at its
    arrival time instead; a note of the window says how many do.

    Args:
        workload: what arrives.
        length: of a window, in seconds or as text such as ``"10min"``.

    Returns:
        The windows by name, such as ``"0-600 s"`` since the first request, in order.

    Raises:
        ConfigError: the length is no time above 0, or makes more than 1,000 windows.
    """
    length_s = read_seconds("length", length)
    if length_s <= 0 or workload.duration_s / length_s > MOST_WINDOWS:
        wrong = f"cuts {workload.duration_s:g} s into more than {MOST_WINDOWS:,} windows"
        raise ConfigError("length", length, wrong, "give a longer time, such as 10min")
    first_s, count = float(workload.arrival_s[0]), max(1, int(workload.duration_s / length_s + 0.5))
    edges_s = [length_s * i for i in range(count)]
    starts = [*np.searchsorted(workload.arrival_s - first_s, edges_s).tolist(), len(workload)]
    found = {}
    for i, begin_s in enumerate(edges_s):
        end_s = edges_s[i + 1] if i + 1 < count else workload.duration_s
        window = _cut(workload, starts[i], starts[i + 1], first_s + begin_s, f"{begin_s:g}-{end_s:.6g} s")
        if window is not None:
            found[window.provenance["window"]] = window
    return found


def _cut(workload: "Workload", start: int, stop: int, begin_s: float, name: str) -> "Workload | None":
    """Requests ``start`` to ``stop`` as a workload; None if they have no rate."""
    arrival_s = workload.arrival_s[start:stop] - begin_s
    if stop - start < 2 or arrival_s[-1] <= arrival_s[0]:
        return None
    columns: dict[str, Any] = {
        column: getattr(workload, column)[start:stop]
        for column in ("prompt_tokens", "output_tokens", "request_class", "session", "think_s")
    }
    alone = ~np.isnan(columns["think_s"]) & ~_follows(columns["session"])
    columns["think_s"] = np.where(alone, np.nan, columns["think_s"])
    notes = workload.notes
    if alone.any():
        notes += (f"{int(alone.sum())} requests would wait for one of an earlier window; they come at their arrival",)
    blocks = workload.blocks.gathered(np.arange(start, stop))
    provenance = {**workload.provenance, "window": name}
    return replace(
        workload, arrival_s=np.maximum(arrival_s, 0.0), **columns, blocks=blocks, notes=notes, provenance=provenance
    )


def _follows(session: np.ndarray) -> np.ndarray:
    """Which requests come after another of their session, bool [n]."""
    follows = np.ones(len(session), np.bool_)
    follows[np.unique(session, return_index=True)[1]] = False
    return follows


def regret(
    frame: "pl.DataFrame", weights: Mapping[str, float] | None = None, goal: str | None = None
) -> "pl.DataFrame":
    """What it costs to keep each configuration through all workloads, above changing to the best on each.

    Args:
        frame: of `fastsim.search`, of several workloads such as windows of a trace.
        weights: requests of each workload, or parts of all; None for as many in each.
        goal: ``"qps_per_dollar"`` or ``"capacity_qps"``; None for the first where a price is known.

    Returns:
        A row for each model and configuration that serves every workload which any configuration serves, those that
        cost least first: ``model``, ``config_id``, ``cost`` of a request (in dollars, or in seconds of a deployment),
        ``regret`` (0.1 for 10 % more than the best on each), and ``worst_on`` with its ``worst_factor``, the workload
        on which it does worst and its cost there relative to the best.

    Raises:
        ConfigError: an unknown goal, a missing column, or weights that do not go with the workloads.
    """
    import polars as pl

    goal = find_goal(frame, goal)
    found: list[dict[str, Any]] = []
    for model, group in by_model(frame).items():
        best = {case.workload: row[goal] for case in group if (row := find_best(case.rows, goal)) is not None}
        if not best:
            continue
        part = _parts(list(best), weights)
        values = {case.workload: values_of(case, goal) for case in group if case.workload in best}
        least = sum(part[name] / best[name] for name in best)
        kept = [_keep(config, values, best, part, least) for config in _in_all(values)]
        found += sorted(({"model": model, **row} for row in kept), key=lambda row: row["regret"])
    schema = {"model": pl.String, "config_id": pl.String, "cost": pl.Float64, "regret": pl.Float64}
    return pl.DataFrame(found, schema | {"worst_on": pl.String, "worst_factor": pl.Float64})


def _in_all(values: Mapping[str, Mapping[str, float]]) -> list[str]:
    """The configurations that serve every workload, in the order of the first."""
    first, *others = values.values()
    return [config for config in first if all(config in other for other in others)]


def _keep(
    config: str,
    values: Mapping[str, Mapping[str, float]],
    best: Mapping[str, float],
    part: Mapping[str, float],
    least: float,
) -> dict[str, Any]:
    """The row of one configuration."""
    cost = sum(part[name] / values[name][config] for name in best)
    factors = {name: best[name] / values[name][config] for name in best}
    worst_on = max(factors, key=lambda name: factors[name])
    return {
        "config_id": config,
        "cost": cost,
        "regret": cost / least - 1.0,
        "worst_on": worst_on,
        "worst_factor": factors[worst_on],
    }


def _parts(workloads: list[str], weights: Mapping[str, float] | None) -> dict[str, float]:
    """Parts of all requests, by workload."""
    given = {name: 1.0 if weights is None else weights.get(name, 0.0) for name in workloads}
    total = sum(given.values())
    if not (all(weight >= 0 for weight in given.values()) and 0 < total < np.inf):
        mend = "give each workload its number of requests"
        raise ConfigError("weights", dict(weights or {}), "are no parts of all requests", mend)
    return {name: weight / total for name, weight in given.items()}
