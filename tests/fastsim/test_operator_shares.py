"""Operators' shares of the time, sizes of batches, and what is noted of requests."""

import pytest
from plain_tables import plain_config, plain_tables
from simulate_calls import SMALL, run, some_workload, without_wall_time

import fastsim
from fastsim import SimulationConfig, SimulationResult, Workload


def assert_adds_up(result: SimulationResult) -> None:
    """The seconds of each stage are its busy time, and the shares 1."""
    busy_s = result.state.stages["busy_s"].reshape(-1, result.config.pipeline_parallel).sum(axis=0)
    for stage, seconds in zip(result.summary["operators"], busy_s, strict=True):
        assert sum(of_one["seconds"] for of_one in stage.values()) == pytest.approx(seconds, rel=1e-9)
        assert sum(of_one["share"] for of_one in stage.values()) == pytest.approx(1.0, rel=1e-9)


def test_tables_of_ones_own_are_told_by_axis():
    result = run(some_workload(), record_metrics=True, replicas=2)
    (stage,) = result.summary["operators"]
    assert set(stage) == {"tokens", "requests", "decode_attention", "prefill_attention"}
    assert stage["tokens"]["share"] == pytest.approx(1.0)
    assert_adds_up(result)


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({}, ()),
        ({"pipeline_parallel": 2}, ("send",)),
        (
            {"engine_options": {"launch_s": 0.002, "process_s_per_request": 1e-5, "capture_sizes": "by_8_and_16"}},
            ("cpu",),
        ),
        ({"engine": "vllm-0.19"}, ()),
        (
            {
                "scheduler": "vllm_v0",
                "num_kv_blocks": 40,
                "scheduler_options": {"max_num_seqs": 16, "preemption_mode": "swap"},
            },
            ("copies",),
        ),
    ],
    ids=["plain", "stages", "cpu and padding", "ahead", "swap"],
)
def test_operators_are_told_by_name(fields: dict, names: tuple[str, ...]):
    result = fastsim.simulate(SimulationConfig(**(SMALL | {"record_metrics": True} | fields)), some_workload(200))
    first, last = result.summary["operators"][0], result.summary["operators"][-1]
    assert {"qkv_proj", "attention_launch", "decode_attention", "prefill_attention"} <= set(first)
    assert "lm_head" in last
    for name in names:
        assert first[name]["seconds"] > 0
    assert_adds_up(result)


def test_batches_of_a_request_alone():
    # Ten prompt tokens in an iteration of a second, then three decodes of a second.
    config = plain_config(4, 64, record_metrics=True)
    result = fastsim.simulate(config, Workload.from_arrays([3.0], [10], [4]), plain_tables(config, 1.0))
    batches = result.summary["batches"]
    assert batches["requests"]["per_iteration"] == {"mean": 1, "p50": 1, "p90": 1, "p99": 1, "max": 1}
    assert batches["prefill_tokens"]["per_second"] == {"mean": 2.5, "p50": 0, "p90": 10, "p99": 10, "max": 10}
    assert batches["decodes"]["per_iteration"]["mean"] == 0.75
    assert batches["tokens"]["per_iteration"] == {"mean": 13 / 4, "p50": 1, "p90": 10, "p99": 10, "max": 10}


def test_batches_by_time_agree_with_the_mean_of_the_summary():
    result = run(some_workload(400, qps=60.0), record_metrics=True)
    mean = result.summary["batches"]["requests"]["per_second"]["mean"]
    assert mean == pytest.approx(result.summary["metrics"]["batch_size_mean"], rel=1e-9)


def test_requests_tell_of_preemptions_and_of_their_longest_gap():
    requests = run(some_workload(400, qps=60.0), record_metrics=True, num_kv_blocks=60).requests
    preempted = requests["preemptions"] > 0
    assert preempted.any()
    assert ((requests["preempted_s"] > 0) == preempted).all()
    several = requests["output_tokens"] > 1
    assert (requests["worst_tbt_s"].is_not_null() == several).all()
    assert (requests["worst_tbt_s"] >= requests["tpot_s"] * (1 - 1e-12)).filter(several).all()
    # A request that waits after a preemption has no token meanwhile.
    once = requests["preemptions"] == 1
    assert (requests["worst_tbt_s"] > requests["preempted_s"]).filter(once).any()


@pytest.mark.parametrize("fields", [{}, {"pipeline_parallel": 2}, {"engine": "vllm-0.19"}], ids=str)
def test_recording_changes_nothing_else(fields: dict):
    plain, recorded = (run(some_workload(), record_metrics=on, **fields) for on in (False, True))
    added = {"batches", "operators"}
    kept = {name: value for name, value in without_wall_time(recorded.summary).items() if name not in added}
    assert kept | {"config": None} == without_wall_time(plain.summary) | {"config": None}
    assert recorded.requests.drop("preempted_s", "worst_tbt_s").equals(plain.requests)
