"""Why latencies are what they are: parts that add up, of runs in which each can be told."""

import numpy as np
import pytest
from plain_tables import plain_config, plain_tables
from simulate_calls import some_workload

import fastsim
from fastsim import SimulationConfig, Workload
from fastsim.export.alone import Alone
from fastsim.export.attribution import PARTS, Explanation, explain

ITERATION_S, TOKEN_S = 0.01, 1e-5
#: All kinds of runs whose requests meet with something.
CASES = {
    "plain": {},
    "replicas": {"replicas": 2},
    "stages": {"pipeline_parallel": 2},
    "engines": {"data_parallel": 2},
    "ahead": {"engine": "vllm-0.19"},
    "preempting": {"num_kv_blocks": 40, "max_model_len": 400},
    "closed": {"client": "closed", "client_options": {"concurrency": 8, "warmup_requests": 10}},
    "window": {"warmup": "20req", "cooldown": "0.5s", "slo": {"ttft_s": 1.0}},
    "front end": {"engine_options": {"ingress_s": 0.01, "ingress_s_per_token": 1e-4, "egress_s": 0.02}},
}


def explained(workload: Workload, **fields) -> tuple[fastsim.SimulationResult, dict[str, Explanation]]:
    config = plain_config(16, 128, record_metrics=True, **fields)
    tables = plain_tables(config, ITERATION_S, TOKEN_S)
    result = fastsim.simulate(config, workload, tables)
    assert result.requests is not None
    return result, {one.metric: one for one in explain(config, result.requests, Alone(config, tables))}


@pytest.mark.parametrize("name", CASES)
def test_the_parts_add_up_to_the_metric_of_the_summary(name: str):
    result, found = explained(some_workload(120), **CASES[name])
    metrics = result.summary["metrics"]
    assert list(found) == ["ttft", "tbt", "e2e"]
    for metric, one in found.items():
        assert one.groups["mean"]["value_s"] == pytest.approx(metrics[f"{metric}_s"]["mean"], rel=1e-9)
        for group in one.groups.values():
            assert list(group["parts_s"]) == list(PARTS)
            assert sum(group["parts_s"].values()) == group["value_s"]
            assert min(group["parts_s"].values()) > -1e-9
        assert one.groups["slowest"]["value_s"] > one.groups["mean"]["value_s"]
    e2e, ttft = found["e2e"].groups["mean"]["parts_s"], found["ttft"].groups["mean"]["parts_s"]
    for part in ("front_end", "queueing", "prefill_alone"):
        assert e2e[part] == pytest.approx(ttft[part])


@pytest.mark.parametrize("name", ["plain", "stages", "ahead", "front end"])
def test_a_request_alone_meets_nobody(name: str):
    workload = Workload.from_arrays([0.0, 100.0, 200.0], [300, 7, 129], [5, 50, 1])
    _, found = explained(workload, **CASES[name])
    for one in found.values():
        for part in ("queueing", "interference", "preemption"):
            assert one.groups["mean"]["parts_s"][part] == pytest.approx(0.0, abs=1e-9)


def test_what_alone_means():
    config = plain_config(16, 128)
    alone = Alone(config, plain_tables(config, ITERATION_S, TOKEN_S))
    prompts, outputs = np.array([1, 128, 129, 300]), np.array([1, 2, 3, 10])
    chunks = np.array([1, 1, 2, 3])
    assert alone.prefill_s(prompts, np.zeros(4, np.int64)) == pytest.approx(ITERATION_S * chunks + TOKEN_S * prompts)
    assert alone.decode_s(prompts, outputs) == pytest.approx((ITERATION_S + TOKEN_S) * (outputs - 1))


def test_prompts_that_were_found_take_less_time_alone():
    config = plain_config(16, 128)
    alone = Alone(config, plain_tables(config, ITERATION_S, TOKEN_S))
    times = alone.prefill_s(np.array([300, 300, 300]), np.array([0, 160, 288]))
    assert times == pytest.approx([3 * ITERATION_S + 300 * TOKEN_S, 2 * ITERATION_S + 140 * TOKEN_S, 0.01012])


def test_decodes_alone_read_their_own_context():
    """With attention that takes longer the more there is to read."""
    config = SimulationConfig(max_model_len=512, num_kv_blocks=200, scheduler_options={"max_num_seqs": 16})
    from fastsim.machine import tables_for

    tables = tables_for(config)
    alone = Alone(config, tables)
    workload = Workload.from_arrays([0.0, 50.0], [300, 20], [40, 400])
    result = fastsim.simulate(config, workload, tables)
    requests = result.state.requests
    own_s = requests["completed_s"] - requests["first_token_s"]
    assert alone.decode_s(np.array([300, 20]), np.array([40, 400])) == pytest.approx(own_s, rel=1e-9)


def test_a_burst_waits_in_the_queue():
    result, found = explained(Workload.from_arrays(np.zeros(64), np.full(64, 100), np.full(64, 20)))
    parts = found["ttft"].groups["slowest"]["parts_s"]
    assert parts["queueing"] > 0.9 * found["ttft"].groups["slowest"]["value_s"]
    assert result.requests is not None
    assert found["ttft"].groups["slowest"]["requests"] == 1
    assert found["ttft"].groups["slowest"]["value_s"] == pytest.approx(result.requests["ttft_s"].max())


def test_preemption_before_the_first_token_counts_there_and_later_ones_behind():
    result, found = explained(some_workload(120), **CASES["preempting"])
    frame = result.requests
    assert frame is not None
    assert frame["preempted_s"].sum() > frame["preempted_prefill_s"].sum()
    assert found["ttft"].groups["mean"]["parts_s"]["preemption"] == pytest.approx(frame["preempted_prefill_s"].mean())
    assert found["e2e"].groups["mean"]["parts_s"]["preemption"] == pytest.approx(frame["preempted_s"].mean())


def test_a_run_of_single_tokens_has_no_time_between_tokens():
    _, found = explained(Workload.from_arrays([0.0, 1.0], [10, 10], [1, 1]))
    assert list(found) == ["ttft", "e2e"]
