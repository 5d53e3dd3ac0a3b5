"""What serves a workload: types of weights, and what only models with experts have."""

from dataclasses import fields

import pytest
from plain_tables import plain_config, plain_tables

import fastsim
from estimators import EstimatorError, load_device, load_model
from estimators.build import Deployment
from estimators.dtypes import DTYPE_BYTES
from fastsim import ConfigError, SimulationConfig, Workload
from fastsim.config_checks import DTYPES
from fastsim.machine import load_machine, tables_for
from fastsim.memory import block_bytes, plan_memory

FP8 = "nvidia/Llama-3.1-8B-Instruct-FP8"
EXPERTS = "openai/gpt-oss-20b"


def test_what_is_not_asked_for_is_what_the_estimators_take_for_it():
    config, deployment = SimulationConfig(), Deployment()
    names = {spec.name for spec in fields(SimulationConfig)} & {spec.name for spec in fields(Deployment)}
    assert names >= {"dtype", "kv_dtype", "expert_load", "expert_exchange"}
    for name in names:
        assert getattr(config, name) == getattr(deployment, name)
    assert (config.expert_load, config.expert_exchange) == ("power_law_1.2", "all_gather")


def test_every_type_of_weights_has_bytes():
    assert set(DTYPES) <= {"auto", *DTYPE_BYTES}


def test_auto_is_the_type_of_the_checkpoint():
    for model, dtype in ((FP8, "fp8"), ("meta-llama/Llama-3.1-8B", "bf16"), (EXPERTS, "mxfp4")):
        auto, given = (SimulationConfig(model=model, dtype=name) for name in ("auto", dtype))
        assert load_machine(auto)[2] == load_machine(given)[2]
        spec, device = load_model(model), load_device("h100_sxm")
        assert plan_memory(auto, spec, device) == plan_memory(given, spec, device)


def test_a_quantised_checkpoint_asks_for_its_type_or_auto():
    with pytest.raises(
        EstimatorError, match=r"dtype 'bf16' is not the type of the weights.*; give auto or fp8"
    ) as caught:
        load_machine(SimulationConfig(model=FP8))
    assert caught.value.field == "dtype"


def test_types_that_a_gpu_cannot_multiply_are_refused():
    with pytest.raises(EstimatorError, match="no matrix units on h100_sxm"):
        load_machine(SimulationConfig(dtype="nvfp4"))


def test_mfu_counts_against_the_rate_of_the_weights():
    workload = Workload.from_arrays([0.0], [100], [10])
    mfu = []
    for model, dtype in ((FP8, "auto"), ("meta-llama/Llama-3.1-8B", "auto"), ("meta-llama/Llama-3.1-8B", "int4")):
        config = plain_config(16, 128, model=model, dtype=dtype)
        mfu.append(fastsim.simulate(config, workload, plain_tables(config, 0.01)).summary["metrics"]["mfu"])
    assert mfu[0] == pytest.approx(mfu[1] / 2, rel=1e-3)
    assert mfu[2] == mfu[1]  # int4 is widened on the way to the matrix units


def test_windows_count_in_mfu_by_token():
    config = plain_config(16, 128, model=EXPERTS, dtype="auto")
    workload = Workload.from_arrays([0.0], [100], [10])
    result = fastsim.simulate(config, workload, plain_tables(config, 0.01))
    model, device = load_model(EXPERTS), load_device("h100_sxm")
    assert model.window_flops_per_token > 0
    flops = 109 * (model.linear_flops_per_token + model.window_flops_per_token)
    flops += 10 * model.lm_head_flops_per_sequence + 109 * 110 / 2 * model.attention_flops_per_pair
    seconds = result.summary["simulation"]["makespan_s"]
    assert result.summary["metrics"]["mfu"] == pytest.approx(flops / seconds / device.peak_flops["bf16"])


def test_a_window_makes_blocks_smaller_the_longer_the_requests():
    short, long = (SimulationConfig(model=EXPERTS, dtype="auto", max_model_len=length) for length in (128, 131072))
    assert 0.5 < block_bytes(long, load_model(EXPERTS))[0] / block_bytes(short, load_model(EXPERTS))[0] < 0.51


@pytest.mark.parametrize(
    "fields",
    [{"expert_load": "balanced"}, {"expert_exchange": "all_to_all", "data_parallel": 2, "expert_parallel": 2}],
    ids=str,
)
def test_what_needs_experts_is_refused_without(fields: dict):
    with pytest.raises(ConfigError, match="needs experts") as caught:
        load_machine(SimulationConfig(**fields))
    assert caught.value.field in fields
    load_machine(SimulationConfig(model=EXPERTS, dtype="auto", **fields))


def test_a_checkpoint_for_another_gpu_is_refused():
    with pytest.raises(
        ConfigError, match="device 'a100_sxm' has no matrix units for fp8_block, the type of the weights"
    ):
        load_machine(SimulationConfig(model="DeepSeek-R1", dtype="auto", device="a100_sxm", tensor_parallel=8))


def test_all_that_tables_depend_on_reaches_them(monkeypatch: pytest.MonkeyPatch):
    asked: dict = {}
    monkeypatch.setattr("estimators.IterationTables.build", lambda **arguments: asked.update(arguments))
    given = {"data_parallel": 2, "expert_parallel": 2, "expert_load": "balanced", "expert_exchange": "all_to_all"}
    tables_for(SimulationConfig(model=EXPERTS, dtype="auto", **given), member=3)
    assert asked.items() >= {**given, "dtype": "auto", "kv_dtype": "auto", "tp": 1, "member": 3}.items()
