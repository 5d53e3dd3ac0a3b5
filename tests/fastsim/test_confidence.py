"""Confidence intervals: by batch means and over seeds."""

import numpy as np
import pytest
from plain_tables import plain_config, plain_tables
from simulate_calls import run, some_workload

import fastsim
from fastsim import SimulationConfig
from fastsim.confidence import batch_means, half_width, over_seeds
from fastsim.kernel.state import REQUEST, records


def requests_with(e2e_s: np.ndarray) -> np.ndarray:
    requests = records(REQUEST, len(e2e_s))
    requests["arrival_s"] = np.arange(len(e2e_s))
    requests["completed_s"] = requests["first_token_s"] = requests["scheduled_s"] = requests["arrival_s"] + e2e_s
    requests["output_tokens"] = 1
    return requests


def metrics_of(e2e_s: np.ndarray) -> dict:
    found = {"mean": e2e_s.mean(), "p50": np.median(e2e_s), "p90": np.quantile(e2e_s, 0.9), "p99": None}
    names = ("ttft_s", "tpot_s", "e2e_s", "e2e_normalized_s", "scheduling_delay_s")
    return dict.fromkeys(names, found)


def test_intervals_cover_the_truth_as_often_as_they_say():
    covered = {"mean": 0, "p50": 0, "p90": 0}
    truth = {"mean": 1.0, "p50": np.log(2), "p90": np.log(10)}
    for seed in range(200):
        e2e_s = np.random.default_rng(seed).exponential(1.0, 4000)
        found = batch_means(SimulationConfig(), requests_with(e2e_s), metrics_of(e2e_s))["metrics"]["e2e_s"]
        for name in covered:
            covered[name] += found[name]["low"] <= truth[name] <= found[name]["high"]
    for times in covered.values():
        assert 180 <= times <= 199  # 190 is 95 %; three standard deviations are 9


def test_the_mean_of_independent_values_has_the_interval_of_student():
    values = np.random.default_rng(1).normal(10.0, 1.0, 200)
    found = batch_means(SimulationConfig(), requests_with(values), metrics_of(values))["metrics"]["e2e_s"]["mean"]
    spread = values.reshape(20, 10).mean(axis=1).std(ddof=1)
    assert found["high"] - found["estimate"] == pytest.approx(2.093 * spread / np.sqrt(20), rel=1e-3)


def test_of_short_batches_there_is_no_interval():
    values = np.ones(199)
    found = batch_means(SimulationConfig(), requests_with(values), metrics_of(values))["metrics"]
    assert set(found["e2e_s"].values()) == {None}
    assert set(found["tpot_s"].values()) == {None}


def test_batches_that_resemble_each_other_are_told():
    walk = np.abs(np.random.default_rng(0).normal(size=2000).cumsum())
    assert "e2e_s mean" in batch_means(SimulationConfig(), requests_with(walk), metrics_of(walk))["correlated"]
    noise = np.random.default_rng(0).exponential(1.0, 2000)
    assert not batch_means(SimulationConfig(), requests_with(noise), metrics_of(noise))["correlated"]


def test_a_run_says_it_when_asked():
    config = plain_config(16, 128)
    workload = some_workload(600)
    result = fastsim.simulate(config, workload, plain_tables(config, 0.01, 1e-5), confidence=True)
    ttft = result.summary["confidence"]["metrics"]["ttft_s"]
    assert ttft["mean"]["estimate"] == result.summary["metrics"]["ttft_s"]["mean"]
    assert ttft["mean"]["low"] < ttft["mean"]["estimate"] < ttft["mean"]["high"]
    assert "confidence" not in run().summary


def test_over_seeds_every_number_has_its_mean_and_interval():
    summaries = [run(some_workload(seed=seed), seed=seed, slo={"ttft_s": 0.1}).summary for seed in range(4)]
    found = over_seeds(summaries)
    assert found["seeds"] == [0, 1, 2, 3]
    values = [summary["metrics"]["ttft_s"]["mean"] for summary in summaries]
    interval = found["metrics"]["ttft_s"]["mean"]
    assert interval["estimate"] == pytest.approx(np.mean(values))
    assert interval["high"] - np.mean(values) == pytest.approx(3.182 * np.std(values, ddof=1) / 2, rel=1e-3)
    assert found["slo"]["attainment"]["estimate"] == pytest.approx(np.mean([s["slo"]["attainment"] for s in summaries]))
    assert half_width(interval) == pytest.approx((interval["high"] / interval["estimate"]) - 1)


def test_a_number_that_some_runs_lack_has_no_interval():
    summaries = [
        {"config": {"seed": seed}, "metrics": {"tpot_s": {"mean": value}}} for seed, value in enumerate((1.0, None))
    ]
    assert over_seeds(summaries)["metrics"]["tpot_s"]["mean"] is None
