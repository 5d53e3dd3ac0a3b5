"""Which configurations no other beats in everything, and which cannot be told from the best."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fastsim.errors import ConfigError
from fastsim.searching.cases import cases, check, compared, find_best, find_goal

if TYPE_CHECKING:
    import polars as pl

Values = npt.NDArray[np.float64]


def pareto(
    frame: "pl.DataFrame", costs: Sequence[str] = ("ttft_p90_s", "tpot_p90_s"), gain: str = "qps_per_dollar"
) -> "pl.DataFrame":
    """Mark the Pareto front of each model and workload.

    A row is on it unless another has no less of the gain and no more of any cost, and is better in one of them. A row
    in which the gain or a cost is unknown, as where nothing holds, is not on it.

    Args:
        frame: of `fastsim.search`.
        costs: columns of which less is better.
        gain: the column of which more is better.

    Returns:
        The frame with a bool column ``pareto``.

    Raises:
        ConfigError: a column is missing.
    """
    import polars as pl

    check(frame, [gain, *costs])
    numbered = frame.with_row_index("_row")
    on_front = np.zeros(len(frame), np.bool_)
    for case in cases(numbered):
        known = compared(case.rows, gain).filter(pl.all_horizontal(pl.col(gain, *costs).is_finite()))
        columns = [-known[gain].to_numpy(), *(known[name].to_numpy() for name in costs)]
        on_front[known["_row"].to_numpy()] = front(np.column_stack(columns))
    return frame.with_columns(pl.Series("pareto", on_front, pl.Boolean))


def front(costs: Values) -> npt.NDArray[np.bool_]:
    """Which points no other point is as cheap as in everything and cheaper than in something.

    Args:
        costs: float64 [points, costs], finite.
    """
    # What beats a point comes before it in lexicographic order, and so does one on the front that beats both.
    order = np.lexsort(costs.T[::-1])
    kept, on_front = np.empty_like(costs), np.zeros(len(costs), np.bool_)
    length = 0
    for i in order:
        no_dearer = (kept[:length] <= costs[i]).all(axis=1)
        if not (no_dearer & (kept[:length] < costs[i]).any(axis=1)).any():
            kept[length], on_front[i] = costs[i], True
            length += 1
    return on_front


def ties(
    frame: "pl.DataFrame", half_width: float | Mapping[str, float] = 0.0, goal: str | None = None
) -> "pl.DataFrame":
    """Mark the best of each model and workload, and what cannot be told from it.

    The capacity of a row lies between the highest rate that held and the lowest that did not. Rows are tied with the
    best if these intervals, as parts of the goal, have a point in common. They can be made wider by what else is
    uncertain, such as the times of operators (`fastsim.searching.uncertainty`); errors that two configurations share
    make no difference between them, so that this finds rather too many ties than too few.

    Args:
        frame: of `fastsim.search`.
        half_width: how far a capacity may be off besides, relative, such as 0.05; or that by ``config_id``.
        goal: ``"qps_per_dollar"`` or ``"capacity_qps"``; None for the first where a price is known.

    Returns:
        The frame with a bool column ``tied``.

    Raises:
        ConfigError: an unknown goal, a missing column, or a negative width.
    """
    import polars as pl

    goal = find_goal(frame, goal)
    tied = np.zeros(len(frame), np.bool_)
    for case in cases(frame.with_row_index("_row")):
        known = compared(case.rows, goal)
        best = find_best(known, goal)
        if best is not None:
            low, high = intervals(known, goal, half_width)
            at = known["_row"].to_list().index(best["_row"])
            tied[known["_row"].to_numpy()] = (high >= low[at]) & (known[goal].to_numpy() > 0)
    return frame.with_columns(pl.Series("tied", tied, pl.Boolean))


def intervals(rows: "pl.DataFrame", goal: str, half_width: float | Mapping[str, float] = 0.0) -> tuple[Values, Values]:
    """Between which two values of the goal that of each row lies, float64 [rows] each.

    Args:
        rows: with a capacity each.
        goal: ``"qps_per_dollar"`` or ``"capacity_qps"``.
        half_width: as in `ties`.

    Raises:
        ConfigError: a negative width.
    """
    ids = rows["config_id"].to_list()
    wider = np.array([half_width.get(i, 0.0) for i in ids] if isinstance(half_width, Mapping) else half_width)
    if not (wider >= 0).all():
        raise ConfigError("half_width", float(wider.min()), "is no width", "give 0 or more, such as 0.05")
    value, qps = (rows[name].cast(float).to_numpy() for name in (goal, "capacity_qps"))
    per_qps = np.divide(value, qps, where=qps > 0, out=np.zeros(len(rows)))
    # Where all rates hold there is no upper end.
    ends = {"qps_low": 0.0, "qps_high": np.inf}
    low, high = (rows[name].cast(float).fill_null(end).to_numpy() * per_qps for name, end in ends.items())
    return np.minimum(low, value) / (1 + wider), np.maximum(high, value) * (1 + wider)
