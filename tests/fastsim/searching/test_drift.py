"""Windows of a workload, and what keeping one configuration costs."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from search_frames import frame_of, row, some_frame

import fastsim
from fastsim.errors import ConfigError
from fastsim.searching.drift import regret, windows_of

WORKLOADS = ("0-60 s", "60-120 s", "120-180 s")
CAPACITIES = st.lists(st.tuples(*[st.one_of(st.none(), st.floats(0.01, 50))] * 3), min_size=1, max_size=8)
ARRIVALS = st.lists(st.floats(0, 100), min_size=2, max_size=60)


def workload_of(arrival_s, **more) -> fastsim.Workload:
    n = len(arrival_s)
    return fastsim.Workload.from_arrays(arrival_s, np.arange(1, n + 1), np.full(n, 3), **more)


def frame_with(table: list[tuple]) -> pl.DataFrame:
    return frame_of([row(str(i), table[i][j], name) for j, name in enumerate(WORKLOADS) for i in range(len(table))])


@given(ARRIVALS, st.floats(1, 200))
def test_windows_hold_each_request_at_most_once_and_in_order(arrival_s: list[float], length_s: float):
    workload = workload_of(arrival_s)
    windows = windows_of(workload, length_s)
    prompts = [prompt for window in windows.values() for prompt in window.prompt_tokens]
    known = {prompt: place for place, prompt in enumerate(workload.prompt_tokens.tolist())}
    assert [known[prompt] for prompt in prompts] == sorted({known[prompt] for prompt in prompts})
    for window in windows.values():
        assert window.qps is not None
        assert window.arrival_s[-1] <= 1.5 * length_s + 1e-9


def test_a_window_starts_at_zero_and_the_rest_joins_the_last():
    windows = windows_of(workload_of([5.0, 6, 14, 15, 16, 25, 26, 28]), 10)
    assert list(windows) == ["0-10 s", "10-23 s"]
    assert windows["0-10 s"].arrival_s.tolist() == [0, 1, 9]
    assert windows["10-23 s"].arrival_s.tolist() == [0, 1, 10, 11, 13]
    assert windows["10-23 s"].provenance["window"] == "10-23 s"
    assert list(windows_of(workload_of([0.0, 1, 12, 16]), "10s")) == ["0-10 s", "10-16 s"]


def test_windows_without_a_rate_are_left_out():
    windows = windows_of(workload_of([0.0, 1, 11, 22, 22, 35, 36, 39]), 10)
    assert list(windows) == ["0-10 s", "30-39 s"]


def test_everything_of_a_request_comes_along():
    n = 6
    workload = workload_of(
        [0.0, 1, 2, 10, 11, 16],
        request_class=[0, 1, 0, 1, 0, 1],
        session=[0, 0, -1, 0, 0, -1],
        think_s=[np.nan, 2, np.nan, 3, 4, np.nan],
        block_ids=[[i, 100 + i] for i in range(n)],
        block_tokens=2,
        provenance={"file": "x"},
    )
    first, second = windows_of(workload, 10).values()
    assert second.request_class.tolist() == [1, 0, 1]
    assert second.session.tolist() == [0, 0, -1]
    assert second.output_tokens.tolist() == [3, 3, 3]
    assert second.block_ids.tolist() == [3, 103, 4, 104, 5, 105]
    assert second.provenance == {"file": "x", "window": "10-16 s"}
    # The request before it is in the other window.
    assert np.isnan(second.think_s).tolist() == [True, False, True]
    assert second.notes == ("1 requests would wait for one of an earlier window; they come at their arrival",)
    assert first.think_s[1] == 2
    assert first.notes == ()


@pytest.mark.parametrize("length", [0, -1, "1ms", "soon", True])
def test_other_lengths_are_refused(length):
    with pytest.raises(ConfigError, match=r"^length "):
        windows_of(workload_of([0.0, 100.0]), length)


def test_windows_add_up_to_the_workload():
    workload = fastsim.Workload.generate(num_requests=2000, qps=10, seed=0)
    windows = windows_of(workload, "20s")
    assert sum(len(window) for window in windows.values()) == 2000
    assert len({window.hash for window in windows.values()}) == len(windows) > 5


@given(CAPACITIES)
def test_nothing_is_cheaper_than_the_best_on_each(table: list[tuple]):
    found = regret(frame_with(table))
    for one in found.iter_rows(named=True):
        assert one["regret"] >= 0
        assert one["worst_factor"] >= 1
        assert one["regret"] <= one["worst_factor"] - 1 + 1e-9
    assert found["regret"].is_sorted()
    assert found["cost"].is_sorted()


@given(CAPACITIES, st.integers(0, 7))
def test_the_best_on_all_is_regretted_by_nobody(table: list[tuple], place: int):
    table.insert(min(place, len(table)), (51.0, 51.0, 51.0))
    best = regret(frame_with(table)).row(0, named=True)
    assert best["config_id"] == str(min(place, len(table) - 1))
    assert (best["regret"], best["worst_factor"]) == (0, 1)


def test_the_cost_is_that_of_all_requests():
    frame = frame_of([row("a", 10, "day"), row("b", 8, "day"), row("a", 2, "night"), row("b", 4, "night")])
    found = regret(frame)
    assert found["config_id"].to_list() == ["b", "a"]
    least = (1 / 10 + 1 / 4) / 2 / 1800
    assert found["cost"].to_list() == pytest.approx([(1 / 8 + 1 / 4) / 2 / 1800, (1 / 10 + 1 / 2) / 2 / 1800])
    assert found["regret"].to_list() == pytest.approx([cost / least - 1 for cost in found["cost"]])
    assert found.select("worst_on", "worst_factor").rows() == [("day", 1.25), ("night", 2.0)]
    by_day = regret(frame, weights={"day": 980, "night": 20})
    assert by_day["config_id"].to_list() == ["a", "b"]
    assert by_day["cost"][0] == pytest.approx((0.98 / 10 + 0.02 / 2) / 1800)


def test_only_what_serves_every_workload_can_be_kept():
    rows = [row("a", 10, "day"), row("b", 8, "day"), row("c", 9, "day"), row("b", 4, "night"), row("c", 0.0, "night")]
    assert regret(frame_of(rows))["config_id"].to_list() == ["b"]
    # A workload that nothing serves tells nothing of any configuration.
    rows += [row("a", 0.0, "evening"), row("b", 0.0, "evening")]
    assert regret(frame_of(rows))["config_id"].to_list() == ["b"]


def test_models_are_kept_apart():
    found = regret(some_frame())
    assert found["model"].unique(maintain_order=True).to_list() == ["small", "large"]
    assert len(found) == 12 + 8


@pytest.mark.parametrize("weights", [{"chat": -1, "code": 2}, {}, {"chat": np.inf, "code": 1}])
def test_weights_that_are_none_are_refused(weights: dict):
    with pytest.raises(ConfigError, match="weights"):
        regret(some_frame(), weights)
