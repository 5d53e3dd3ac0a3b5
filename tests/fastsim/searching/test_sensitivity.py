"""What each knob matters: shares of the variance, and what is reachable."""

import itertools

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from search_frames import frame_of, row, some_frame

from fastsim.searching.sensitivity import sensitivity, shares

ROWS = st.lists(st.tuples(*[st.integers(0, 2)] * 3, st.floats(0, 100)), min_size=2, max_size=40)


def grid(*lengths: int) -> dict[str, np.ndarray]:
    rows = np.array(list(itertools.product(*(range(length) for length in lengths))))
    return {f"k{i}": rows[:, i] for i in range(len(lengths))}


def coded(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.unique(column, return_inverse=True)[1] for name, column in columns.items()}


@given(ROWS)
def test_shares_are_parts_of_the_variance(rows: list[tuple[int, int, int, float]]):
    table = np.array(rows)
    found = shares(coded({str(i): table[:, i] for i in range(3)}), table[:, 3])
    assert all(share >= 0 for share in found.values())
    assert sum(found.values()) <= 1 + 1e-6


@given(st.lists(st.floats(0, 100), min_size=24, max_size=24))
def test_on_a_full_grid_they_are_the_main_effects(values: list[float]):
    codes, y = grid(2, 3, 4), np.array(values)
    found = shares(codes, y)
    variance = ((y - y.mean()) ** 2).sum()
    for name in found:
        means = np.array([y[codes[name] == value].mean() for value in range(codes[name].max() + 1)])
        effect = ((means[codes[name]] - y.mean()) ** 2).sum()
        assert found[name] == pytest.approx(effect / variance, abs=1e-6)


def test_a_sum_of_effects_leaves_nothing():
    codes = grid(3, 3, 2)
    y = 5.0 * codes["k0"] + 2.0 * codes["k1"] ** 2
    found = shares(codes, y)
    assert sum(found.values()) == pytest.approx(1)
    assert found["k2"] == pytest.approx(0, abs=1e-9)
    assert found["k0"] > found["k1"]


def test_what_only_a_combination_does_is_nobodys():
    codes = grid(2, 2)
    found = shares(codes, (codes["k0"] ^ codes["k1"]).astype(float))
    assert found == pytest.approx({"k0": 0, "k1": 0}, abs=1e-9)


def test_knobs_that_go_together_share_alike():
    codes = grid(4)
    found = shares({"a": codes["k0"], "b": codes["k0"]}, np.array([1.0, 2.0, 5.0, 3.0]))
    assert found == pytest.approx({"a": 0.5, "b": 0.5})


def test_with_many_knobs_orders_are_drawn_alike_each_time():
    draw = np.random.default_rng(1)
    codes = {str(i): draw.integers(0, 2, 60) for i in range(7)}
    y = sum(2.0**i * codes[str(i)] for i in range(7))
    found = shares(codes, y)
    assert found == shares(codes, y)
    assert sum(found.values()) == pytest.approx(1)
    assert max(found, key=lambda name: found[name]) == "6"


def test_equal_values_have_no_variance():
    assert shares(grid(2, 2), np.full(4, 0.1 + 0.2)) == {}


def test_reach_is_the_best_with_a_value():
    found = sensitivity(some_frame()).filter(model="large", workload="chat", knob="tensor_parallel")
    rows = {value: (reach, config) for value, reach, config in found.select("value", "reach", "config_id").rows()}
    assert rows["1"] == (0.0, None)  # does not fit
    assert rows["2"] == (1.0, "l2v256")
    assert rows["4"] == (pytest.approx(2**-0.2), "l4v256")


def test_the_best_of_all_is_reached_by_one_value_of_each_knob():
    found = sensitivity(some_frame())
    most = found.group_by("model", "workload", "knob").agg(pl.col("reach").max())
    assert most["reach"].to_list() == [1.0] * 12
    assert found["reach"].is_between(0, 1).all()


def test_a_knob_that_does_not_apply_is_a_value_of_its_own():
    rows = [row("a", 10, scheduler="vllm_v1"), row("b", 5, scheduler="sarathi", **{"scheduler.chunk_size": 512})]
    rows.append(row("c", 8, scheduler="sarathi", **{"scheduler.chunk_size": 1024}))
    found = sensitivity(frame_of(rows)).filter(knob="scheduler.chunk_size")
    assert dict(found.select("value", "reach").rows()) == {"-": 1.0, "512": 0.5, "1024": 0.8}


def test_knobs_of_one_value_and_searches_without_any_are_left_out():
    frame = frame_of([row("a", 10, tensor_parallel=1, dtype="bf16"), row("b", 5, tensor_parallel=2, dtype="bf16")])
    assert sensitivity(frame)["knob"].unique().to_list() == ["tensor_parallel"]
    assert sensitivity(frame_of([row("a", 0.0, tensor_parallel=1), row("b", None, tensor_parallel=2)])).is_empty()


def test_replicas_that_follow_from_the_gpus_are_no_knob():
    rows = [row(str(tp), 10 / tp, tensor_parallel=tp, replicas=8 // tp) for tp in (1, 2, 4)]
    assert set(sensitivity(frame_of(rows))["knob"]) == {"tensor_parallel"}
    rows += [row("more", 20.0, tensor_parallel=1, replicas=16)]
    assert set(sensitivity(frame_of(rows))["knob"]) == {"tensor_parallel", "replicas"}
    assert set(sensitivity(frame_of([row(str(n), n, replicas=n) for n in (1, 2)]))["knob"]) == {"replicas"}
