"""Warm-up, cool-down, and whether the load of a run was steady."""

import numpy as np
import pytest
from simulate_calls import run, some_workload

from fastsim import SimulationConfig
from fastsim.errors import ConfigError
from fastsim.kernel.state import REQUEST, records
from fastsim.windows import SPANS, GrowingLoadWarning, describe_load, find_window


def finished(arrival_s: np.ndarray, served_s: float, waited_s: np.ndarray | float = 0.0) -> np.ndarray:
    """REQUEST records of requests that wait and are then served so long."""
    requests = records(REQUEST, len(arrival_s))
    requests["arrival_s"], requests["scheduled_s"] = arrival_s, arrival_s + waited_s
    requests["completed_s"] = requests["scheduled_s"] + served_s
    return requests


@pytest.mark.parametrize(
    ("fields", "counted", "bounds"),
    [
        ({"warmup": "2s"}, [2, 3, 4, 5, 6, 7, 8, 9], (2, 9)),
        ({"warmup": "3req"}, [3, 4, 5, 6, 7, 8, 9], (3, 9)),
        ({"cooldown": "1500ms"}, [0, 1, 2, 3, 4, 5, 6, 7], (0, 7.5)),
        ({"cooldown": "2req"}, [0, 1, 2, 3, 4, 5, 6, 7], (0, 8)),
        ({"warmup": "1req", "cooldown": "7s"}, [1, 2], (1, 2)),
    ],
)
def test_a_window_begins_and_ends_in_time_or_requests(fields: dict, counted: list[int], bounds: tuple[float, float]):
    order = np.random.default_rng(0).permutation(10)
    window = find_window(SimulationConfig(**fields), order.astype(float))
    assert sorted(order[window.counted]) == counted
    assert (window.start_s, window.end_s) == bounds


def test_without_either_all_is_measured():
    assert find_window(SimulationConfig(), np.arange(3.0)) is None


@pytest.mark.parametrize("fields", [{"warmup": "10req"}, {"cooldown": "10s"}, {"warmup": "6s", "cooldown": "6s"}])
def test_a_window_without_requests_is_refused(fields: dict):
    with pytest.raises(ConfigError, match="leaves none of the 10 requests"):
        find_window(SimulationConfig(**fields), np.arange(10.0))


@pytest.mark.parametrize("value", ["1.5req", "-1s", "soon", "5requests", ""])
def test_other_words_are_refused(value: str):
    with pytest.raises(ConfigError, match=r"^warmup "):
        SimulationConfig(warmup=value)


def test_a_second_warmup_is_refused():
    client = {"client": "closed", "client_options": {"concurrency": 4, "warmup_requests": 5}}
    with pytest.raises(ConfigError, match=r"client\.warmup_requests"):
        SimulationConfig(warmup="5req", **client)


def test_latencies_are_those_of_the_window():
    workload = some_workload()
    result = run(workload, warmup="50req", cooldown="30req", slo={"ttft_s": 0.1})
    inside = result.requests[50:270]
    assert result.summary["metrics"]["ttft_s"]["mean"] == pytest.approx(inside["ttft_s"].mean())
    assert result.summary["metrics"]["e2e_s"]["p90"] == pytest.approx(inside["e2e_s"].quantile(0.9, "linear"))
    window, slo = result.summary["window"], result.summary["slo"]
    assert window["requests"] == slo["requests"] == 220
    assert window["start_s"] == workload.arrival_s[50]
    assert window["end_s"] == workload.arrival_s[270]
    length_s = window["end_s"] - window["start_s"]
    assert window["arrivals_per_s"] == pytest.approx(220 / length_s)
    assert slo["goodput_requests_per_s"] == pytest.approx(int((inside["ttft_s"] <= 0.1).sum()) / length_s)
    done = result.requests["completed_s"].is_between(window["start_s"], window["end_s"])
    assert window["completions_per_s"] == pytest.approx(int(done.sum()) / length_s)


def test_a_window_changes_nothing_else():
    whole, part = run().summary, run(warmup="50req").summary
    assert part["replicas"] == whole["replicas"]
    assert part["metrics"]["throughput_requests_per_s"] == whole["metrics"]["throughput_requests_per_s"]
    assert part["metrics"]["tbt_s"] == whole["metrics"]["tbt_s"]
    assert not {"window", "load"} & set(whole)


def test_outstanding_requests_are_averaged_over_time():
    # One arrives each second and stays for two: two are outstanding from the third second on.
    load = describe_load(SimulationConfig(warmup="5s"), finished(np.arange(106.0), 2.0))
    assert load["outstanding"] == pytest.approx([2.0] * SPANS)
    assert load["growing"] is False


def test_a_queue_that_grows_is_noticed():
    # Ten arrive each second, of which nine are served: at 100 s each waits for ten.
    arrival_s = np.arange(0, 100, 0.1)
    load = describe_load(SimulationConfig(), finished(arrival_s, 1.0, arrival_s * (10 / 9 - 1)))
    assert load["growing"] is True
    assert load["piled_up"] == pytest.approx(0.1, rel=0.05)


def test_a_run_too_short_to_tell_says_so():
    assert describe_load(SimulationConfig(), finished(np.arange(100.0), 30.0))["growing"] is None


def test_a_load_that_swings_does_not_grow():
    arrival_s = np.arange(0, 1000, 0.1)
    load = describe_load(SimulationConfig(), finished(arrival_s, 1.0, 3 + 3 * np.sin(arrival_s / 15)))
    assert load["growing"] is False


def test_steady_loads_are_seldom_called_growing():
    called = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        arrival_s = rng.exponential(1.0, 5000).cumsum()
        served_s = rng.exponential(0.7, 5000)
        # An M/M/1 queue by Lindley's recursion.
        ends = np.empty(5000)
        end = 0.0
        for i in range(5000):
            end = ends[i] = max(end, arrival_s[i]) + served_s[i]
        requests = finished(arrival_s, 0.0, ends - served_s - arrival_s)
        requests["completed_s"] = ends
        called += describe_load(SimulationConfig(), requests)["growing"]
    assert called == 0


def test_an_overloaded_run_warns():
    with pytest.warns(GrowingLoadWarning, match="requests pile up"):
        result = run(some_workload(3000, qps=60.0), warmup="10req")
    assert result.summary["load"]["growing"] is True


def test_one_that_keeps_up_does_not():
    assert run(some_workload(3000, qps=5.0), warmup="10req").summary["load"]["growing"] is False
