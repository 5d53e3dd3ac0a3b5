"""How much each knob matters: what is reachable with each of its values, and its share of the variance.

*Reach* is what a user feels: the best of all configurations with that value of a knob, relative to the best of all.
A knob of which every value reaches nearly 1 can be left alone.

The *share* is how much of the variance of the goal over all configurations the knob explains by itself, in a model that
adds up one number for each value of each knob. On a full grid that is the main effect of an analysis of variance. Where
configurations are missing, because they do not fit, knobs explain some of it together; a knob then gets what it adds to
those before it, averaged over the orders in which knobs can be taken (Lindeman, Merenda and Gold's measure; Shapley's
value of R²). So shares are at least 0, and add up to R², at most 1. The rest is what only combinations explain:
simulations have no noise.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastsim.searching.cases import Case, cases, compared, find_best, find_goal, free_knobs_of, setting

if TYPE_CHECKING:
    import polars as pl

#: Of up to so many knobs all orders are taken, of more as many as these have, drawn.
_ALL_ORDERS = 5
_DRAWN_ORDERS = 120

Codes = npt.NDArray[np.integer[Any]]
Values = npt.NDArray[np.float64]


def sensitivity(frame: "pl.DataFrame", goal: str | None = None) -> "pl.DataFrame":
    """What each knob is worth, for each model and workload.

    Args:
        frame: of `fastsim.search`.
        goal: ``"qps_per_dollar"`` or ``"capacity_qps"``; None for the first where a price is known.

    Returns:
        A row for each model, workload, knob with several values (that others do not fix), and value: ``model``,
        ``workload``, ``knob``, ``share`` of the variance (null where all are equal), ``value`` as text (``"-"`` where
        the knob does not apply), ``best`` of the goal with that value (null where none has any), its ``config_id``, and
        ``reach``, the best relative to the best of all (0 where none).

    Raises:
        ConfigError: an unknown goal, or a missing column.
    """
    import polars as pl

    goal = find_goal(frame, goal)
    rows = [row for case in cases(frame) for row in _of_case(case, goal)]
    texts = dict.fromkeys(("model", "workload", "knob", "value", "config_id"), pl.String)
    found = pl.DataFrame(rows, {**texts, **dict.fromkeys(("share", "best", "reach"), pl.Float64)})
    return found.select("model", "workload", "knob", "share", "value", "best", "reach", "config_id")


def _of_case(case: Case, goal: str) -> list[dict[str, Any]]:
    knobs = free_knobs_of(case.rows)
    known = compared(case.rows, goal)
    best = find_best(known, goal)
    if best is None:
        return []
    codes = {knob: np.unique([setting(v) for v in known[knob]], return_inverse=True)[1] for knob in knobs}
    share = shares(codes, known[goal].to_numpy().astype(np.float64))
    found = []
    for knob in knobs:
        for part in case.rows.partition_by(knob, maintain_order=True):
            row = find_best(part, goal)
            found.append(
                {
                    "model": case.model,
                    "workload": case.workload,
                    "knob": knob,
                    "share": share.get(knob),
                    "value": setting(part[knob][0]),
                    "best": row[goal] if row else None,
                    "reach": row[goal] / best[goal] if row else 0.0,
                    "config_id": row["config_id"] if row else None,
                }
            )
    return found


def shares(codes: Mapping[str, Codes], values: Values) -> dict[str, float]:
    """The part of a variance that each knob explains; nothing where there is no variance.

    Args:
        codes: by knob which of its values each row has, integers from 0 [rows].
        values: of each row [rows].

    Returns:
        By knob a number of at least 0; they add up to at most 1.
    """
    off = values - values.mean()
    variance = float(off @ off)
    if not codes or variance <= 1e-18 * float(values @ values):
        return {}
    knobs = list(codes)
    explained = _Explained([codes[knob] for knob in knobs], off / np.sqrt(variance))
    gained = np.zeros(len(knobs))
    orders = _orders(len(knobs))
    for order in orders:
        before = 0.0
        for i in range(len(order)):
            after = explained(frozenset(order[: i + 1]))
            gained[order[i]] += max(after - before, 0.0)
            before = max(after, before)
    return {knob: float(gained[i]) / len(orders) for i, knob in enumerate(knobs)}


def _orders(length: int) -> list[Sequence[int]]:
    if length <= _ALL_ORDERS:
        return list(itertools.permutations(range(length)))
    draw = np.random.default_rng(0)
    return [draw.permutation(length).tolist() for _ in range(_DRAWN_ORDERS)]


class _Explained:
    """R² of the additive model of some knobs, by least squares on their indicators less their means."""

    def __init__(self, codes: Sequence[Codes], target: Values) -> None:
        """Take the values of all knobs [knobs][rows], and a target of mean 0 and length 1 [rows]."""
        indicators = [np.eye(int(code.max()) + 1)[code] for code in codes]
        ends = np.cumsum([0, *(columns.shape[1] for columns in indicators)])
        self._columns = [list(range(ends[i], ends[i + 1])) for i in range(len(codes))]
        design = np.concatenate(indicators, axis=1)
        design -= design.mean(axis=0)
        self._products, self._with_target = design.T @ design, design.T @ target
        self._known: dict[frozenset[int], float] = {}

    def __call__(self, knobs: frozenset[int]) -> float:
        """R² of these knobs, 0 to 1."""
        if knobs not in self._known:
            columns = [column for knob in sorted(knobs) for column in self._columns[knob]]
            right = self._with_target[columns]
            # Indicators of a knob add up to 1, so the equations have many solutions, which explain the same.
            solution = np.linalg.lstsq(self._products[np.ix_(columns, columns)], right, rcond=1e-10)[0]
            self._known[knobs] = float(np.clip(right @ solution, 0.0, 1.0))
        return self._known[knobs]
