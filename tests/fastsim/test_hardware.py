"""Bytes moved, energy, money and memory of a run."""

import numpy as np
import pytest
from simulate_calls import run, some_workload

from estimators import load_device, load_model
from fastsim import SimulationConfig
from fastsim.hardware import bytes_moved, contexts_of
from fastsim.kernel.state import REPLICA, records

MODEL = "meta-llama/Llama-3.1-8B"


def one_request(config: SimulationConfig, prompt: int, output: int) -> dict[str, float]:
    """Bytes of one request that nobody shares an iteration with."""
    replicas = records(REPLICA, 1)
    replicas["iteration"] = output
    replicas["prefill_tokens"], replicas["decode_tokens"] = prompt, output - 1
    model = load_model(config.model)
    return bytes_moved(config, model, replicas, contexts_of(np.array([prompt]), np.array([output]), model.window))


def test_a_request_alone_reads_weights_in_every_iteration_and_its_context_in_every_decode():
    moved = one_request(SimulationConfig(), 100, 4)
    # 8,030,261,248 parameters, published, less the embedding table of 128,256 rows; 128 KiB of keys and values a token.
    assert moved["weights"] == 4 * 2 * (8_030_261_248 - 128_256 * 4096)
    assert moved["kv_read"] == (101 + 102 + 103) * 131_072
    assert moved["kv_written"] == 103 * 131_072


@pytest.mark.parametrize("split", [{"tensor_parallel": 2}, {"pipeline_parallel": 2}])
def test_gpus_that_share_a_model_move_what_one_would(split: dict):
    alone, shared = one_request(SimulationConfig(), 100, 4), one_request(SimulationConfig(**split), 100, 4)
    for name, amount in alone.items():  # norms are whole on every GPU
        assert shared[name] == pytest.approx(amount, rel=1e-4)


@pytest.mark.parametrize("window", [1, 7, 50, 1000])
def test_contexts_are_those_of_every_decode(window: int):
    prompts, outputs = np.array([1, 5, 40, 3]), np.array([1, 9, 30, 2])
    contexts = [p + j for p, d in zip(prompts, outputs, strict=True) for j in range(1, d)]
    expected = sum(contexts), sum(min(context, window) for context in contexts)
    assert contexts_of(prompts, outputs, window) == expected
    assert contexts_of(prompts, outputs, None) == (expected[0], expected[0])


def test_experts_are_read_as_far_as_tokens_activate_them():
    config = SimulationConfig(model="mistralai/Mixtral-8x7B-v0.1", tensor_parallel=2)
    model = load_model(config.model)
    alone = one_request(config, 1, 2)["weights"] / 2
    # One token activates two of eight experts.
    assert alone == pytest.approx(2 * (model.active_parameters - model.vocab_size * model.hidden_size), rel=1e-3)


def test_energy_and_money_follow_power_and_price():
    summary = run(power_watts=500, price_per_hour=2.0).summary
    hardware, metrics = summary["hardware"], summary["metrics"]
    assert hardware["energy_kwh"] == pytest.approx(0.5 * metrics["gpu_hours"])
    assert hardware["energy_busy_kwh"] == pytest.approx(hardware["energy_kwh"] * metrics["utilization"])
    assert metrics["cost_usd"] == pytest.approx(2 * metrics["gpu_hours"])
    assert (hardware["power_source"], hardware["price_source"]) == ("configuration", "configuration")
    tokens = sum(int(column.sum()) for column in (some_workload().prompt_tokens, some_workload().output_tokens))
    assert hardware["cost_usd_per_million_tokens"] == pytest.approx(metrics["cost_usd"] / tokens * 1e6)


def test_otherwise_they_are_the_devices():
    hardware, device = run().summary["hardware"], load_device("h100_sxm")
    assert (hardware["power_watts"], hardware["price_per_hour"]) == (device.power_watts, device.price_per_hour)
    assert (hardware["power_source"], hardware["price_source"]) == ("data sheet, highest", "assumption")


def test_mbu_is_bytes_over_what_the_memory_could_move():
    summary = run(replicas=2).summary
    moved, makespan_s = summary["hardware"]["bytes_moved"], summary["simulation"]["makespan_s"]
    bandwidth = load_device("h100_sxm").memory_bandwidth
    assert summary["hardware"]["mbu"] == pytest.approx(sum(moved.values()) / (2 * makespan_s * bandwidth))


def test_memory_is_that_of_the_plan_and_of_the_blocks_used():
    summary = run(num_kv_blocks=201).summary
    (memory,) = summary["hardware"]["memory"]
    block = 16 * 131_072
    assert memory["kv_bytes"] == 200 * block
    assert memory["kv_used_max_bytes"] == pytest.approx(summary["metrics"]["kv_use_max"] * 200 * block)
    assert memory["kv_used_mean_bytes"] == pytest.approx(summary["metrics"]["kv_use_mean"] * 200 * block)
    assert memory["weight_bytes"] == load_model(MODEL).weight_bytes()


@pytest.mark.parametrize("field", ["power_watts", "price_per_hour"])
def test_less_than_nothing_is_refused(field: str):
    with pytest.raises(ValueError, match=f"{field} -1.0 is negative"):
        SimulationConfig(**{field: -1})
