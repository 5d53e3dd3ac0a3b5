"""Objectives: how they are read, which requests meet them, and goodput."""

import json

import numpy as np
import pytest
from simulate_calls import run, some_workload

import traces
from fastsim import SimulationConfig, Workload, simulate
from fastsim.errors import ConfigError
from fastsim.measuring import parse_objectives, read_objectives
from fastsim.slo import describe_objectives


def described(objectives: dict, **times: list[float]) -> dict:
    """What `describe_objectives` says of requests of the classes 0, 0, 1 in ten seconds."""
    arrays = {name: np.array(values) for name, values in times.items()}
    return describe_objectives("configuration", objectives, {}, np.array([0, 0, 1]), arrays, 0.2, 10.0)


@pytest.mark.parametrize(
    ("text", "time_s"), [("50ms", 0.05), ("1s", 1), ("1.5", 1.5), ("2min", 120), ("3us", 3e-6), ("1e-2 s", 0.01)]
)
def test_times_are_read_with_their_units(text: str, time_s: float):
    assert read_objectives({"ttft_s": text}) == {"ttft_s": pytest.approx(time_s)}


def test_a_list_of_objectives_names_metrics_with_or_without_their_unit():
    assert parse_objectives("ttft=1s, tpot_s=50ms") == {"ttft_s": "1s", "tpot_s": "50ms"}


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"ttft": 1}, "ttft_s, tpot_s, worst_tbt_s, e2e_s"),
        ({"ttft_s": "1 parsec"}, "us, ms, s"),
        ({"ttft_s": 0}, "more than 0"),
        ({"ttft_s": -1}, "is not a time"),
        ({"ttft_s": True}, "is not a time"),
        ({"200": {"ttft_s": 1}}, "class"),
        ({"0": 1.0}, "class"),
        ({"0": {"tbt_p99_s": 1}}, "tbt_p99_s"),
    ],
)
def test_other_objectives_are_refused(given: dict, word: str):
    with pytest.raises(ConfigError, match=word):
        SimulationConfig(slo=given)


@pytest.mark.parametrize("text", ["ttft", "ttft=", "=1s", "ttft=1s,,"])
def test_what_is_no_list_of_objectives_is_refused(text: str):
    with pytest.raises(ConfigError, match="ttft=1s,tpot=50ms"):
        parse_objectives(text)


def test_objectives_survive_toml():
    config = SimulationConfig(slo={"ttft_s": "1s", 0: {"e2e_s": 9}}, warmup="60s", price_per_hour=2.5)
    assert config.slo == {"ttft_s": 1.0, "0": {"e2e_s": 9.0}}
    assert SimulationConfig.from_toml(config.to_toml()) == config


def test_a_request_meets_its_objectives_if_it_meets_all():
    slo = described({"ttft_s": 1.0, "e2e_s": 5.0}, ttft_s=[0.5, 1.0, 2.0], e2e_s=[9.0, 5.0, 3.0])
    assert (slo["requests"], slo["met"], slo["attainment"]) == (3, 1, pytest.approx(1 / 3))
    assert slo["goodput_requests_per_s"] == pytest.approx(0.1)
    assert slo["objectives"]["ttft_s"] == {"requests": 3, "attainment": pytest.approx(2 / 3)}


def test_a_class_has_its_own_objectives_beside_the_others():
    slo = described({"e2e_s": 5.0, "1": {"ttft_s": 1.0}}, ttft_s=[9.0, 9.0, 2.0], e2e_s=[1.0, 1.0, 1.0])
    assert slo["classes"]["0"]["attainment"] == 1
    assert slo["classes"]["1"]["attainment"] == 0
    assert slo["classes"]["1"]["objectives"]["e2e_s"] == {"limit_s": 5.0, "attainment": 1.0}
    assert slo["objectives"]["ttft_s"] == {"requests": 1, "attainment": 0.0}


def test_what_a_request_does_not_have_is_no_breach():
    assert described({"tpot_s": 0.1}, tpot_s=[np.nan, 0.2, 0.1])["met"] == 2


def test_gaps_between_tokens_are_judged_over_the_whole_run():
    slo = described({"tbt_p99_s": 0.1, "ttft_s": 1.0}, ttft_s=[0.1, 0.1, 0.1])
    assert slo["tbt_p99_s"] == {"limit_s": 0.1, "value_s": 0.2, "met": False}
    assert slo["attainment"] == 1


def test_goodput_of_a_run_is_what_its_frame_says():
    frame = run().requests
    ttft_s, tpot_s = frame["ttft_s"].median(), frame["tpot_s"].median()
    met = int(((frame["ttft_s"] <= ttft_s) & (frame["tpot_s"].fill_null(0) <= tpot_s)).sum())
    summary = run(slo={"ttft_s": ttft_s, "tpot_s": tpot_s}).summary
    slo = summary["slo"]
    assert 0 < met < 300
    assert slo["met"] == met
    assert slo["goodput_requests_per_s"] == pytest.approx(met / summary["simulation"]["makespan_s"])
    assert json.loads(json.dumps(slo)) == slo


def test_goodput_of_closed_clients_counts_from_their_first_measured_request():
    config = SimulationConfig(
        slo={"ttft_s": 1000.0},
        client="closed",
        client_options={"concurrency": 2, "warmup_requests": 30},
    )
    result = simulate(config, Workload.generate(num_requests=60, qps=1, seed=0))
    measured = result.requests.sort("request_id").tail(30)
    duration_s = measured["completed_s"].max() - measured["arrival_s"].min()
    assert result.summary["slo"]["goodput_requests_per_s"] == pytest.approx(30 / duration_s)
    assert duration_s < 0.8 * result.summary["simulation"]["makespan_s"]


def test_the_longest_gap_of_a_request_needs_to_be_noted():
    with pytest.raises(ConfigError, match="record_metrics"):
        SimulationConfig(slo={"0": {"worst_tbt_s": 0.1}})
    frame = run(record_metrics=True).requests
    limit_s = frame["worst_tbt_s"].median()
    met = int((frame["worst_tbt_s"].fill_null(0) <= limit_s).sum())
    assert run(record_metrics=True, slo={"worst_tbt_s": limit_s}).summary["slo"]["met"] == met


def test_classes_of_the_workload_bring_their_objectives():
    objectives = [traces.Objective("chat", ttft_s=1e-6), traces.Objective("batch", e2e_s=1e6)]
    workload = some_workload(request_class=np.arange(300) % 2, objectives=objectives)
    slo = run(workload).summary["slo"]
    assert slo["source"] == "workload"
    assert [slo["classes"][number]["name"] for number in "01"] == ["chat", "batch"]
    assert [slo["classes"][number]["attainment"] for number in "01"] == [0, 1]
    own = run(workload, slo={"e2e_s": 1e6}).summary["slo"]
    assert (own["source"], own["attainment"]) == ("configuration", 1)


def test_without_objectives_there_is_no_such_section():
    assert "slo" not in run().summary
