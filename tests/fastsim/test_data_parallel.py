"""Data-parallel engines in a simulation: results, and which tables go with them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layerwise_files import experts_profile, write_config
from plain_tables import plain_config, plain_tables
from simulate_calls import some_workload

import fastsim
from estimators import IterationTables, load_device, load_model
from estimators.expert_layout import ExpertLayout
from estimators.layerwise import layerwise_tables
from estimators.sources.all_reduce import Exchange
from fastsim import ConfigError, SimulationConfig
from fastsim.machine import tables_for
from fastsim.memory import plan_memory


def to_engine(requests, replicas, cluster, i):
    """What the inner choice of a replica does."""
    best = 0
    for r in range(1, replicas.size):
        score = 4 * replicas[r].outstanding - 3 * replicas[r].num_running
        if score < 4 * replicas[best].outstanding - 3 * replicas[best].num_running:
            best = r
    return best


@pytest.mark.parametrize("engine", ["ideal", "vllm-0.19"])
def test_dense_engines_do_what_replicas_would_to_which_the_same_rule_sends(engine: str):
    workload = some_workload(qps=60)
    config = plain_config(16, 128, engine=engine)
    tables = plain_tables(config, 0.01, 1e-5)
    engines = fastsim.simulate(config.with_fields(data_parallel=3), workload, tables)
    replicas = fastsim.simulate(config.with_fields(replicas=3), workload, tables, router=to_engine)
    assert engines.requests["completed_s"].equals(replicas.requests["completed_s"])
    assert set(engines.requests["replica"]) == {0}
    (joined,) = engines.summary["replicas"]
    assert joined["engines"] == replicas.summary["replicas"]
    assert joined["requests"] == 300
    for name in ("metrics", "simulation"):
        got, want = engines.summary[name], replicas.summary[name]
        assert got | {"wall_s": 0, "requests_per_s": 0} == want | {"wall_s": 0, "requests_per_s": 0}


def test_what_a_replica_did_is_that_of_its_engines_together():
    result = fastsim.simulate(
        config := plain_config(16, 128, data_parallel=2, replicas=2, record_batches=True),
        some_workload(qps=60),
        plain_tables(config, 0.01, 1e-5),
    )
    for joined in result.summary["replicas"]:
        first, second = joined["engines"]
        assert joined["iterations"] == first["iterations"] + second["iterations"]
        assert joined["kv_use_max"] == max(first["kv_use_max"], second["kv_use_max"])
        assert joined["utilization"] == pytest.approx((first["utilization"] + second["utilization"]) / 2)
        in_flight = first["batch_size_mean"] * first["active_s"] + second["batch_size_mean"] * second["active_s"]
        assert joined["batch_size_mean"] * joined["active_s"] == pytest.approx(in_flight)
    counts = result.batches.group_by("replica", "engine").len().sort("replica", "engine")["len"].to_list()
    assert counts == [engine["iterations"] for joined in result.summary["replicas"] for engine in joined["engines"]]


def test_gpus_of_all_engines_are_paid_for():
    config = plain_config(16, 128, tensor_parallel=2)
    tables = plain_tables(config, 0.01)
    results = [fastsim.simulate(config.with_fields(data_parallel=n), some_workload(), tables) for n in (1, 3)]
    one, three = (result.summary["metrics"]["gpu_hours"] for result in results)
    spans = [result.summary["simulation"]["makespan_s"] for result in results]
    assert three / one == pytest.approx(3 * spans[1] / spans[0])


# Models with experts


def mixture(folder: Path, engines: int, **fields: Any) -> tuple[SimulationConfig, IterationTables]:
    """A configuration of a small profile, and its tables."""
    model = str(write_config(folder))
    profile = folder / "profile"
    if not profile.exists():
        experts_profile(profile)
    exchange = Exchange(engines, np.array([1, 2]), np.full(2, 1e-5), "toy") if engines > 1 else None
    sizes = {"max_tokens": 128, "max_sequences": 16, "max_model_len": 512}
    tables = layerwise_tables(profile, model, data_parallel=engines, exchange=exchange, **sizes)
    limits = {"max_num_seqs": 16, "max_num_batched_tokens": 128}
    config = SimulationConfig(
        model=model, data_parallel=engines, max_model_len=512, num_kv_blocks=500, scheduler_options=limits, **fields
    )
    return config, tables


def test_engines_that_share_experts_wait_for_each_other(tmp_path: Path):
    config, tables = mixture(tmp_path, 2)
    workload = fastsim.Workload.from_arrays([0.0, 0.0], [64, 16], [1, 1])
    result = fastsim.simulate(config, workload, tables)
    own_s = max(tables.iteration_time_s(n, 1, chunks=[(0, n)]) for n in (64, 16))
    both = own_s + float(tables.expert_time_s(64 + 16))
    assert result.requests["completed_s"].to_list() == [pytest.approx(both)] * 2


def test_they_are_padded_together(tmp_path: Path):
    config, tables = mixture(tmp_path, 2, engine="vllm-0.12")
    free = {name: 0.0 for name in ("launch_s", "process_s", "ingress_s", "egress_s")}
    free |= {f"{name}_per_{what}": 0.0 for name, what in (("launch_s", "request"), ("process_s", "request"))}
    config = config.with_fields(engine_options=free | {"ingress_s_per_token": 0.0})
    # At most 32 tokens are padded: 9 and 3 to 16 each.
    result = fastsim.simulate(config, fastsim.Workload.from_arrays([0.0, 0.0], [9, 3], [1, 1]), tables)
    own_s = max(tables.iteration_time_s(16, 1, chunks=[(0, n)]) for n in (9, 3))
    assert result.requests["completed_s"].to_list() == [pytest.approx(own_s + float(tables.expert_time_s(32)))] * 2


@pytest.mark.parametrize(("config_engines", "table_engines"), [(2, 1), (1, 2), (3, 2)])
def test_tables_for_another_number_of_engines_are_refused(tmp_path: Path, config_engines: int, table_engines: int):
    config, _ = mixture(tmp_path, config_engines)
    _, tables = mixture(tmp_path, table_engines)
    with pytest.raises(ConfigError, match=f"build them with data_parallel = {config_engines}") as caught:
        fastsim.simulate(config, some_workload(5), tables)
    assert (caught.value.field, caught.value.value) == ("tables.expert.engines", table_engines)


def test_dense_models_share_no_experts():
    config = plain_config(16, 128, data_parallel=2)
    plain = plain_tables(config, 0.01)
    expert = ExpertLayout(2 * plain.layout.max_tokens, 2)
    values = np.append(plain.values, np.zeros(expert.size))
    tables = IterationTables(values, plain.layout, expert=expert)
    with pytest.raises(ConfigError, match="build them with data_parallel = 1"):
        fastsim.simulate(config, some_workload(5), tables)
    with pytest.raises(ConfigError, match="expert_parallel 2 needs experts; give 1"):
        fastsim.simulate(config.with_fields(expert_parallel=2), some_workload(5), plain)


def test_engines_share_the_memory_of_experts(tmp_path: Path):
    model = load_model(write_config(tmp_path))
    device = load_device("h100_sxm")
    one, two = (
        plan_memory(SimulationConfig(model=str(write_config(tmp_path)), data_parallel=n), model, device).stages[0]
        for n in (1, 2)
    )
    # 128 experts of three matrices of 2048 x 768 in each of 48 layers, in two bytes: half of them go.
    assert one.weight_bytes - two.weight_bytes == 48 * 64 * 3 * 2048 * 768 * 2
    assert one.block_bytes == two.block_bytes
    dense = load_model("Qwen2.5-7B")
    assert dense.weight_bytes(dp=2) == dense.weight_bytes()


def test_engines_share_experts_with_the_shipped_estimators(tmp_path: Path):
    config = SimulationConfig(model=str(write_config(tmp_path)), data_parallel=2, expert_parallel=2)
    result = fastsim.simulate(config, some_workload(5))
    assert result.requests["completed_s"].is_finite().all()
    tables = tables_for(config)
    assert (tables.expert.engines, tables.provenance["experts"]["expert_parallel"]) == (2, 2)
    with pytest.raises(ConfigError, match="is more than the 128 experts"):
        fastsim.simulate(config.with_fields(data_parallel=256, expert_parallel=256), some_workload(5))
