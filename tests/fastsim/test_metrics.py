"""Quantiles, the histogram behind the sketched ones, and the memory planner."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_cases import bucket_of

from estimators import DeviceSpec, load_device, load_model
from fastsim import ConfigError, SimulationConfig
from fastsim.kernel.histogram import NUM_BUCKETS, bucket, bucket_counts, bucket_values
from fastsim.kernel.state import REQUEST, records
from fastsim.memory import plan_memory
from fastsim.metrics import QUANTILES, exact, latencies, sketched

durations = st.floats(0, 1e6)


@given(durations)
def test_bucket_is_the_exponent_and_seven_bits(duration_s: float):
    assert bucket(duration_s) == bucket_of(duration_s)


@given(st.lists(durations, max_size=30))
def test_many_durations_are_counted_like_single_ones(values: list[float]):
    counts = bucket_counts(np.array(values))
    expected = np.zeros(NUM_BUCKETS, int)
    for value in values:
        expected[bucket_of(value)] += 1
    assert counts.tolist() == expected.tolist()


#: The first bucket, which holds everything shorter too, ends here [s].
SHORTEST_S = 2.0**-20 * (1 + 2.0**-7)


@given(st.floats(SHORTEST_S, 2.0**14, exclude_max=True))
def test_a_bucket_stands_for_its_durations_within_four_per_mille(duration_s: float):
    assert bucket_values()[bucket(duration_s)] == pytest.approx(duration_s, rel=0.004)


@given(st.floats(0, SHORTEST_S, exclude_max=True))
def test_shorter_durations_count_as_nothing(duration_s: float):
    assert bucket_values()[bucket(duration_s)] == 0


def test_bucket_values_ascend():
    assert (np.diff(bucket_values()) > 0).all()
    assert len(bucket_values()) == NUM_BUCKETS


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50))
def test_exact_quantiles_are_those_of_numpy_and_polars(values: list[float]):
    summary = exact(np.array(values))
    assert set(summary) == {"mean", *QUANTILES}
    assert summary["mean"] == pytest.approx(np.mean(values), rel=1e-12)
    for name, q in QUANTILES.items():
        assert summary[name] == pytest.approx(np.quantile(values, q), rel=1e-12)
        assert summary[name] == pytest.approx(pl.Series(values).quantile(q, "linear"), rel=1e-12)


def test_of_no_values_there_is_no_summary():
    none = {"mean": None, "p50": None, "p90": None, "p99": None}
    assert exact(np.array([])) == none
    assert sketched(np.zeros(NUM_BUCKETS, np.int64), 0.0) == none


@given(st.lists(st.floats(1e-5, 1e4), min_size=1, max_size=200))
def test_sketched_quantiles_are_exact_within_four_per_mille(values: list[float]):
    summary = sketched(bucket_counts(np.array(values)), float(np.sum(values)))
    assert summary["mean"] == pytest.approx(np.mean(values), rel=1e-12)
    for name, q in QUANTILES.items():
        assert summary[name] == pytest.approx(np.quantile(values, q), rel=0.004)


def test_sketched_quantiles_of_many_values_are_the_exact_ones():
    values = np.random.default_rng(0).lognormal(-2, 2, 50_000)
    summary, truth = sketched(bucket_counts(values), values.sum()), exact(values)
    for name in QUANTILES:
        assert summary[name] == pytest.approx(truth[name], rel=0.01)


def test_sketched_quantiles_of_long_waits_are_the_exact_ones():
    # 3 M requests at time 0 on a replica that completes 30 a second wait for up to a day.
    values = np.arange(100_000) + 0.5
    summary, truth = sketched(bucket_counts(values), values.sum()), exact(values)
    for name in QUANTILES:
        assert summary[name] == pytest.approx(truth[name], rel=0.01)


def test_sketched_quantiles_of_few_values_are_the_exact_ones():
    values = np.array([0.01, 9.0])
    summary, truth = sketched(bucket_counts(values), values.sum()), exact(values)
    for name in QUANTILES:
        assert summary[name] == pytest.approx(truth[name], rel=0.01)


def test_latencies_follow_their_definitions():
    requests = records(REQUEST, 2)
    requests["arrival_s"] = [1.0, 2.0]
    requests["scheduled_s"] = [1.5, 2.0]
    requests["first_token_s"] = [2.0, 3.0]
    requests["completed_s"] = [6.0, 3.0]
    requests["output_tokens"] = [5, 1]
    assert {name: values.tolist() for name, values in latencies(requests).items()} == {
        "scheduling_delay_s": [0.5, 0.0],
        "ttft_s": [1.0, 1.0],
        "tpot_s": [1.0],  # of the first request: the second has one output token
        "e2e_s": [5.0, 1.0],
        "e2e_normalized_s": [1.0, 1.0],
    }


def card(memory_bytes: float) -> DeviceSpec:
    """A GPU of which only the memory matters."""
    return DeviceSpec(
        name="card",
        memory_bytes=int(memory_bytes),
        peak_flops={"bf16": 165e12},
        memory_bandwidth=1e12,
        l2_bytes=72 << 20,
        l2_bandwidth=5e12,
        num_sms=128,
        nvlink_bandwidth=32e9,
        gpus_per_node=8,
        inter_node_bandwidth=12.5e9,
        pcie_bandwidth=32e9,
        power_watts=450.0,
        price_per_hour=0.5,
    )


def test_plan_of_the_one_server_whose_blocks_are_known():
    # vLLM on a 24 GiB card, Llama-3.1-8B in bf16, 2048 tokens, 256 requests: 2588 blocks.
    plan = plan_memory(SimulationConfig(), load_model("Llama-3.1-8B"), card(25.25e9))
    assert plan.block_bytes == 2 << 20
    assert plan.weight_bytes == pytest.approx(16.06e9, rel=0.001)
    assert plan.num_blocks == pytest.approx(2588, rel=0.05)


def test_plan_adds_up():
    config, device = SimulationConfig(gpu_memory_utilization=0.8), load_device("h100_sxm")
    plan = plan_memory(config, load_model(config.model), device)
    used = plan.weight_bytes + plan.reserve_bytes + plan.num_blocks * plan.block_bytes
    assert used <= 0.8 * device.memory_bytes < used + plan.block_bytes
    assert plan.reserve_bytes > 0


def test_tensor_parallel_splits_weights_and_blocks():
    model, device = load_model("Llama-3.1-8B"), load_device("h100_sxm")
    one, four = (plan_memory(SimulationConfig(tensor_parallel=tp), model, device) for tp in (1, 4))
    assert four.block_bytes == one.block_bytes / 4
    assert four.weight_bytes == pytest.approx(one.weight_bytes / 4, rel=0.001)
    assert four.num_blocks > 4 * one.num_blocks


def test_larger_batches_leave_fewer_blocks():
    model, device = load_model("Llama-3.1-8B"), load_device("h100_sxm")

    def blocks(**options: int) -> int:
        return plan_memory(SimulationConfig(scheduler_options=options), model, device).num_blocks

    assert blocks(max_num_batched_tokens=16384) < blocks() < blocks(max_num_seqs=16)


def test_a_model_that_does_not_fit_says_what_is_missing_and_what_would_do():
    model, config = load_model("Llama-3.1-8B"), SimulationConfig()
    plan = plan_memory(config, model, card(25.25e9))
    # The null block and one more are the least: 3 GiB less than those need.
    least = (plan.weight_bytes + plan.reserve_bytes + 2 * plan.block_bytes) / 0.9
    assert plan_memory(config, model, card(least + 1)).num_blocks == 2
    with pytest.raises(ConfigError, match=r"3\.0 GiB are missing .*; give tensor_parallel = 2\.$"):
        plan_memory(config, model, card(least - 3 * (1 << 30) / 0.9))
    with pytest.raises(ConfigError, match=r"; take a larger GPU or a smaller model\.$"):
        plan_memory(config, model, card(1 << 30))
