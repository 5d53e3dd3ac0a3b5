"""Pareto fronts and ties, against their definitions."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from search_frames import frame_of, row, some_frame

from fastsim.errors import ConfigError
from fastsim.searching.cases import find_best
from fastsim.searching.pareto import front, pareto, ties

#: Few values, so that many are equal.
POINTS = st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=40)


def beats(one: tuple, other: tuple) -> bool:
    """No dearer in anything, and cheaper in something."""
    return all(a <= b for a, b in zip(one, other, strict=True)) and one != other


@given(POINTS)
def test_the_front_is_what_nothing_beats(points: list[tuple[int, int, int]]):
    found = front(np.array(points, float))
    assert found.tolist() == [not any(beats(other, point) for other in points) for point in points]


@given(POINTS, st.randoms(use_true_random=False))
def test_the_front_does_not_depend_on_the_order(points: list[tuple[int, int, int]], random):
    shuffled = points.copy()
    random.shuffle(shuffled)
    fronts = [
        {point for point, on in zip(order, front(np.array(order, float)), strict=True) if on}
        for order in (points, shuffled)
    ]
    assert fronts[0] == fronts[1]


def test_of_no_points_there_is_no_front():
    assert front(np.zeros((0, 2))).tolist() == []


def test_a_front_is_that_of_a_model_and_workload():
    whole = pareto(some_frame())
    for model in ("small", "large"):
        for workload in ("chat", "code"):
            case = (pl.col("model") == model) & (pl.col("workload") == workload)
            alone = pareto(some_frame().filter(case))
            assert alone.equals(whole.filter(case))
            assert alone["pareto"].any()


def test_more_of_the_gain_is_better_and_less_of_a_cost():
    rows = [row("a", 10, ttft_p90_s=1.0), row("b", 9, ttft_p90_s=0.9), row("c", 8, ttft_p90_s=0.95)]
    assert pareto(frame_of(rows))["pareto"].to_list() == [True, True, False]
    assert pareto(frame_of(rows), costs=())["pareto"].to_list() == [True, False, False]


def test_what_is_unknown_is_on_no_front():
    rows = [row("a", 10), row("b", 20, ttft_p90_s=None), row("c", 20, ttft_p90_s=np.nan), row("d", None)]
    assert pareto(frame_of(rows))["pareto"].to_list() == [True, False, False, False]


def test_other_columns_can_be_the_gain_and_the_costs():
    rows = [row("a", 10, price_per_hour=2.0), row("b", 20, price_per_hour=8.0), row("c", 19, price_per_hour=9.0)]
    found = pareto(frame_of(rows), costs=("price_per_hour",), gain="capacity_qps")
    assert found["pareto"].to_list() == [True, True, False]


def test_a_missing_column_is_refused():
    with pytest.raises(ConfigError, match="has no column energy"):
        pareto(some_frame(), gain="energy")
    with pytest.raises(ConfigError, match="has no column workload, status, capacity_qps"):
        ties(pl.DataFrame({"config_id": []}))


def test_intervals_that_touch_are_ties():
    rows = [row("a", 10, qps_high=10.3), row("b", 9.9, qps_high=10.0), row("c", 9.8, qps_high=9.9), row("d", 0.0)]
    assert ties(frame_of(rows))["tied"].to_list() == [True, True, False, False]


def test_an_interval_is_of_the_goal_not_of_the_capacity():
    rows = [
        row("a", 10, qps_high=10.5),
        row("b", 20, qps_high=21, price_per_hour=4.0),
        row("c", 11, price_per_hour=4.0),
    ]
    assert ties(frame_of(rows))["tied"].to_list() == [True, True, False]
    assert ties(frame_of(rows), goal="capacity_qps")["tied"].to_list() == [False, True, False]


def test_uncertainty_makes_more_ties():
    frame = frame_of([row("a", 10), row("b", 9.2), row("c", 8)])
    assert ties(frame)["tied"].to_list() == [True, False, False]
    assert ties(frame, 0.05)["tied"].to_list() == [True, True, False]
    assert ties(frame, {"a": 0.07})["tied"].to_list() == [True, True, False]
    assert ties(frame, {"b": 0.02, "c": 0.3})["tied"].to_list() == [True, False, True]
    with pytest.raises(ConfigError, match="half_width"):
        ties(frame, -0.1)


def test_where_every_rate_holds_the_capacity_has_no_upper_end():
    frame = frame_of([row("a", 10), row("b", 3, qps_high=None), row("c", 3)])
    assert ties(frame)["tied"].to_list() == [True, True, False]


def test_of_equals_the_larger_capacity_is_the_best():
    rows = [row("a", 10), row("b", 20, price_per_hour=4.0), row("c", 10)]
    assert find_best(frame_of(rows), "qps_per_dollar")["config_id"] == "b"


def test_where_nothing_holds_nothing_is_tied():
    assert not ties(frame_of([row("a", 0.0), row("b", None)]))["tied"].any()


def test_without_prices_rates_are_compared():
    frame = frame_of([row("a", 10), row("b", 5)]).with_columns(qps_per_dollar=pl.lit(None, pl.Float64))
    assert ties(frame)["tied"].to_list() == [True, False]
    with pytest.raises(ConfigError, match="give one of qps_per_dollar, capacity_qps"):
        ties(frame, goal="speed")
