"""The capacity of a configuration: found, right, and told."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_tables import plain_config, plain_tables

import fastsim
from fastsim.errors import ConfigError
from fastsim.kernel.jit import DISABLED
from fastsim.searching.brackets import find_bracket
from fastsim.searching.capacity import Capacity
from fastsim.searching.limits import read_limits
from fastsim.searching.probes import Prober

SLOS = (
    None,
    {"scheduling_delay_s": {"p99": 0.5}},
    {"ttft_s": {"p90": 1.0}},
    {"e2e_s": {"mean": 4.0}},
    {"tpot_s": {"p99": 0.03}},
    {"tbt_s": {"p99": 0.03}, "ttft_s": {"max": 3.0}},
)


def some_workload(n: int = 1500, seed: int = 0, qps: float = 7.0, **more) -> fastsim.Workload:
    rng = np.random.default_rng(seed)
    arrival_s = rng.exponential(1 / qps, n).cumsum()
    return fastsim.Workload.from_arrays(arrival_s, rng.integers(1, 300, n), rng.integers(1, 100, n), **more)


def machine(max_num_seqs: int = 16, **fields):
    """A configuration of which a step takes 10 ms and 10 µs a token, and its tables."""
    config = plain_config(max_num_seqs, 256, **fields)
    return config, plain_tables(config, 0.01, 1e-5)


def find(limits=None, n: int = 1500, **fields) -> Capacity:
    config, tables = machine(**fields)
    return fastsim.capacity(config, some_workload(n), limits, tables=tables)


def test_a_single_server_is_saturated_where_its_service_rate_is():
    # One request at a time, of one step of prefill and three of decoding: 40 ms each, and so 25 requests/s at most.
    config = plain_config(1, 256)
    n = 4000
    arrival_s = np.random.default_rng(1).exponential(1.0, n).cumsum()
    workload = fastsim.Workload.from_arrays(arrival_s, [8] * n, [4] * n)
    found = fastsim.capacity(config, workload, tables=plain_tables(config, 0.01))
    assert found.qps == pytest.approx(25.0, rel=0.05)
    assert found.long_enough
    assert "scheduling delay" in found.binding


@pytest.mark.parametrize("slo", SLOS)
def test_the_bracket_is_what_was_probed_and_within_the_tolerance(slo):
    found = find(slo)
    low, high = found.bracket
    assert found.qps == low == found.at_capacity.qps
    assert low < high <= low * (1 + found.tolerance)
    verdicts = {probe.qps: probe.holds for probe in found.probes}
    assert verdicts[low]
    assert not verdicts[high]
    assert all(probe.holds == (probe.qps <= low) for probe in found.probes)


@settings(max_examples=5 if DISABLED else 25)
@given(
    slo=st.sampled_from(SLOS),
    scheduler=st.sampled_from(["vllm_v1", "sarathi", "orca", "vllm_v0"]),
    max_num_seqs=st.sampled_from([4, 16, 48]),
    replicas=st.sampled_from([1, 3]),
    engine=st.sampled_from(["ideal", "delays"]),
    seed=st.integers(0, 3),
)
def test_a_little_below_it_holds_and_a_little_above_it_breaks(slo, scheduler, max_num_seqs, replicas, engine, seed):
    name = "chunk_size" if scheduler == "sarathi" else "max_num_batched_tokens"
    options = {"max_num_seqs": max_num_seqs, name: 512} if scheduler != "orca" else {"max_num_seqs": max_num_seqs}
    delays = {"ingress_s": 0.01, "ingress_s_per_token": 1e-5, "egress_s": 0.02} if engine == "delays" else {}
    config = fastsim.SimulationConfig(
        scheduler=scheduler,
        scheduler_options=options,
        max_model_len=512,
        num_kv_blocks=2000,
        replicas=replicas,
        engine_options=delays,
    )
    tables, workload = plain_tables(config, 0.01, 1e-5), some_workload(600 * replicas, seed)
    found = fastsim.capacity(config, workload, slo, tables=tables)
    if found.qps == 0 or found.bracket[1] == math.inf:
        return
    whole = Prober(config, workload, read_limits(slo), tables, stops=False)
    assert whole(0.97 * found.qps).holds
    assert not whole(1.03 * found.qps).holds


@settings(max_examples=5 if DISABLED else 40)
@given(
    slo=st.sampled_from((*SLOS[:3], {"e2e_s": {"p50": 4.0}}, {"tpot_s": {"p90": 0.02}})),
    factor=st.floats(0.3, 4.0),
    engine_options=st.sampled_from([{}, {"ingress_s": 0.2, "egress_s": 0.1}, {"ingress_s_per_token": 0.001}]),
    window=st.sampled_from([{}, {"warmup": "100req", "cooldown": "50req"}]),
)
def test_a_probe_that_stops_early_is_one_that_breaks(slo, factor, engine_options, window):
    config, tables = machine(engine_options=engine_options, **window)
    workload, limits = some_workload(500), read_limits(slo)
    stopping = Prober(config, workload, limits, tables)(20.0 * factor)
    whole = Prober(config, workload, limits, tables, stops=False)(20.0 * factor)
    assert stopping.holds == whole.holds
    assert not (stopping.stopped_early and whole.holds)
    if not stopping.stopped_early:
        assert stopping.metrics == whole.metrics
        assert stopping.binding == whole.binding


def test_a_probe_says_what_a_simulation_at_its_rate_says():
    config, tables = machine()
    workload = some_workload()
    slo = {"ttft_s": {"p90": 1.0}, "tbt_s": {"p99": 1.0}, "e2e_s": {"mean": 100.0}}
    probe = Prober(config, workload, read_limits(slo), tables)(12.0)
    metrics = fastsim.simulate(config, workload.scaled(12.0), tables).summary["metrics"]
    for key, value in probe.metrics.items():
        name, _, quantile = key.partition(".")
        if quantile:
            assert value == pytest.approx(metrics[name][quantile], rel=1e-12)
    assert probe.metrics["mfu"] == pytest.approx(metrics["mfu"])
    assert probe.metrics["throughput_requests_per_s"] == pytest.approx(metrics["throughput_requests_per_s"])
    assert probe.requests == len(workload)


def test_a_queue_that_builds_up_breaks_where_no_limit_does():
    found = find({"tpot_s": {"p99": 100.0}}, n=4000)
    assert 0 < found.qps < 30
    assert "a queue builds up" in found.binding


def test_what_even_a_request_alone_breaks_has_no_capacity():
    found = find({"ttft_s": {"p50": 1e-4}})
    assert found.qps == 0.0
    assert found.bracket[0] == 0.0
    assert not found.at_capacity.holds
    assert "no rate holds" in found.why


def test_requests_too_few_to_overload_the_system_are_told():
    found = find({"tpot_s": {"p99": 100.0}}, n=20, max_num_seqs=64)
    assert found.bracket[1] == math.inf
    assert not found.long_enough
    assert found.as_dict()["bracket"][1] is None
    assert json.dumps(found.as_dict())


def test_a_short_run_is_told_from_a_long_one():
    # 5 s of delay are much of a short run: more arrives than can be served for long.
    short, long = find(n=300), find(n=6000)
    assert not short.long_enough
    assert long.long_enough
    assert short.qps > 1.05 * long.qps


def test_attainment_is_of_the_objectives_of_the_configuration():
    slo = {"ttft_s": 1.0, "e2e_s": 5.0}
    found = find({"attainment": 0.9}, slo=slo)
    config, tables = machine(slo=slo)
    at, above = (
        fastsim.simulate(config, some_workload().scaled(qps), tables).summary["slo"]["attainment"]
        for qps in found.bracket
    )
    assert at == found.at_capacity.metrics["attainment"]
    assert at >= 0.9 > above
    with pytest.raises(ConfigError, match="objectives"):
        find({"attainment": 0.9})


def test_the_rate_that_a_workload_is_given_at_changes_nothing_but_rounding():
    config, tables = machine()
    first, second = (fastsim.capacity(config, some_workload(qps=qps), tables=tables) for qps in (1.0, 64.0))
    assert first.qps == pytest.approx(second.qps, rel=1e-9)


def test_the_same_call_gives_the_same_answer():
    first, second = find(), find()
    assert [(probe.qps, probe.holds, probe.metrics) for probe in first.probes] == [
        (probe.qps, probe.holds, probe.metrics) for probe in second.probes
    ]


def test_only_the_first_requests_can_be_asked_for():
    config, tables = machine()
    found = fastsim.capacity(config, some_workload(), tables=tables, max_requests=200)
    assert max(probe.requests for probe in found.probes) == 200
    assert found.qps == fastsim.capacity(config, some_workload().head(200), tables=tables).qps


def test_few_probes_are_needed():
    for slo in SLOS:
        assert len(find(slo, n=6000).probes) <= 12


@pytest.mark.parametrize(
    ("fields", "more", "field"),
    [
        ({"client": "closed", "client_options": {"concurrency": 4}}, {}, "client"),
        ({"warmup": "60s"}, {}, "warmup"),
        ({}, {"tolerance": 0.0}, "tolerance"),
        ({}, {"max_requests": 1}, "max_requests"),
    ],
)
def test_what_has_no_rate_to_change_is_refused(fields: dict, more: dict, field: str):
    config, tables = machine(**fields)
    with pytest.raises(ConfigError) as refused:
        fastsim.capacity(config, some_workload(50), tables=tables, **more)
    assert refused.value.field == field


def test_workloads_without_a_rate_are_refused():
    config, tables = machine()
    for workload, field in (
        (fastsim.Workload.from_arrays([0.0] * 3, [8] * 3, [4] * 3), "workload"),
        (fastsim.Workload.from_arrays([0.0, 1.0], [8] * 2, [4] * 2, session=[0, 0], think_s=[np.nan, 1.0]), "think_s"),
    ):
        with pytest.raises(ConfigError) as refused:
            fastsim.capacity(config, workload, tables=tables)
        assert refused.value.field == field


def test_bisection_ends_at_the_tolerance_wherever_it_begins():
    from fastsim.searching.probes import Probe

    def probe(qps: float) -> Probe:
        metrics = {"arriving_s": 100 / qps, "makespan_s": 100.0}
        return Probe(qps, qps <= 3.0, False, "", metrics, 100, 0.0)

    for first in (0.01, 2.99, 3.01, 500.0):
        probes = find_bracket(probe, first, 0.01)
        low = max(one.qps for one in probes if one.holds)
        high = min(one.qps for one in probes if not one.holds)
        assert low <= 3.0 < high <= low * 1.01
