"""The tables of pipeline stages: which are taken, and how they are laid out for the kernel."""

from typing import Any

import numpy as np
import pytest
from plain_tables import plain_config, plain_tables
from simulate_calls import some_workload

import fastsim
from estimators import IterationTables, load_device, load_model
from fastsim import ConfigError, SimulationConfig
from fastsim.kernel import prepare
from fastsim.machine import load_machine, tables_for
from fastsim.memory import plan_memory
from fastsim.schedulers import Pool
from fastsim.stage_tables import StageTables, join_tables


def staged(pp: int, **fields: Any) -> SimulationConfig:
    return plain_config(16, 128, pipeline_parallel=pp, **fields)


def join(config: SimulationConfig, tables: Any) -> StageTables:
    return join_tables(config, tables, Pool(config.num_kv_blocks - 1, config.block_size, config.max_model_len))


# Laid end to end


def test_the_tables_of_one_stage_are_not_copied():
    tables = plain_tables(staged(1), 0.01)
    for given in (tables, [tables]):
        joined = join(staged(1), given)
        assert joined.values is tables.values
        assert (joined.bases, joined.stages, joined.hash) == ((0,), (tables,), tables.hash)


def test_one_for_all_stages_is_not_copied_either():
    tables = plain_tables(staged(3), 0.01)
    joined = join(staged(3), tables)
    assert joined.values is tables.values
    assert (joined.bases, joined.hash) == ((0, 0, 0), tables.hash)


def test_every_stage_finds_its_own_and_equal_ones_are_laid_down_once():
    config = staged(4)
    first, middle, again, last = (plain_tables(config, seconds) for seconds in (0.01, 0.02, 0.02, 0.03))
    joined = join(config, (first, middle, again, last))
    size = first.layout.size
    assert joined.bases == (0, size, size, 2 * size)
    assert (joined.values.dtype, joined.values.shape) == (np.float64, (3 * size,))
    assert joined.values.flags.c_contiguous
    for base, tables in zip(joined.bases, (first, middle, again, last), strict=True):
        assert np.array_equal(joined.values[base : base + size], tables.values)


def test_the_hash_follows_the_order_of_the_stages():
    config = staged(2)
    short, long = (plain_tables(config, seconds) for seconds in (0.01, 0.02))
    hashes = {join(config, pair).hash for pair in ((short, long), (long, short), (short, short), (long, long))}
    assert len(hashes) == 4
    assert join(config, (short, long)).hash == join(config, (plain_tables(config, 0.01), long)).hash


def test_the_provenance_is_that_of_each_stage():
    config = staged(2)
    pair = tuple(plain_tables(config, seconds, provenance={"of": seconds}) for seconds in (0.01, 0.02))
    assert join(config, pair).provenance == {"stages": [{"of": 0.01}, {"of": 0.02}]}
    assert join(config, pair[0]).provenance == {"of": 0.01}


# What is refused


@pytest.mark.parametrize(("pp", "given"), [(1, 2), (2, 1), (2, 3), (3, 0)])
def test_as_many_tables_as_stages(pp: int, given: int):
    config = staged(pp)
    with pytest.raises(ConfigError, match=f"do not match pipeline_parallel = {pp}; give one for each stage") as caught:
        join(config, [plain_tables(config, 0.01)] * given)
    assert (caught.value.field, caught.value.value) == ("tables", given)


@pytest.mark.parametrize("other", [{"max_tokens": 129}, {"prefill_rule": "equivalent_chunk", "max_history": 2**20}])
def test_tables_that_differ_in_more_than_their_times_are_refused(other: dict):
    config = staged(2)
    with pytest.raises(ConfigError, match=r"differ in their axes or rule; build those of all stages alike\.$"):
        join(config, [plain_tables(config, 0.01), plain_tables(config, 0.01, **other)])


def test_the_tables_of_stages_must_be_large_enough_too():
    config = staged(2)
    small = plain_tables(config, 0.01, max_tokens=127)
    with pytest.raises(ConfigError, match="less than the 128 "):
        join(config, [small, plain_tables(config, 0.02, max_tokens=127)])


# Those of a configuration


def test_a_configuration_with_stages_has_tables_for_each():
    config = SimulationConfig(
        model="Qwen2.5-7B",
        pipeline_parallel=5,
        max_model_len=512,
        num_kv_blocks=200,
        scheduler_options={"max_num_seqs": 16, "max_num_batched_tokens": 128},
    )
    stages = tables_for(config)
    assert isinstance(stages, tuple)
    assert [stage.provenance["stage"]["layers"] for stage in stages] == [5, 6, 6, 6, 5]
    assert stages[1] is stages[2] is stages[3]
    joined = join_tables(config, stages, load_machine(config)[2])
    size = stages[0].layout.size
    assert joined.bases == (0, size, size, size, 2 * size)
    whole = tables_for(config.with_fields(pipeline_parallel=1))
    assert isinstance(whole, IterationTables)
    assert whole.layout == stages[0].layout
    assert sum(stage.token_s for stage in stages) == pytest.approx(whole.token_s, rel=1e-12)
    assert np.array_equal(stages[-1].sequence_s, whole.sequence_s)


def test_blocks_come_from_the_tightest_stage():
    config = SimulationConfig(model="Llama-3.1-70B", pipeline_parallel=2)
    plan = plan_memory(config, load_model(config.model), load_device(config.device))
    assert load_machine(config)[2].num_blocks == plan.stages[1].num_blocks - 1 < plan.stages[0].num_blocks - 1


def told(monkeypatch: pytest.MonkeyPatch, config: SimulationConfig, tables: Any) -> dict[str, Any]:
    """What new_state is told of the stages."""

    names = ("stage_bases", "send_latency_s", "send_s_per_token")
    found = {}

    def new_state(*_: Any, **given: Any) -> None:
        found.update({name: given[name] for name in names if name in given})
        raise InterruptedError

    monkeypatch.setattr(prepare, "new_state", new_state)
    with pytest.raises(InterruptedError):
        fastsim.simulate(config, some_workload(5), tables)
    return found


def test_the_kernel_is_told_of_stages_only_where_there_are_several(monkeypatch: pytest.MonkeyPatch):
    assert told(monkeypatch, staged(1), plain_tables(staged(1), 0.01)) == {}
    config = staged(3, tensor_parallel=4)
    pair = [plain_tables(config, seconds) for seconds in (0.01, 0.02, 0.01)]
    size = pair[0].layout.size
    # Two stages of four GPUs fill a node. Hidden state and residual, 4096 wide, in two bytes, over four links.
    part = 2 * 4096 * 2 / 4
    assert told(monkeypatch, config, pair) == {
        "stage_bases": (0, size, 0),
        "send_latency_s": (8e-6, 20e-6, 0.0),
        "send_s_per_token": pytest.approx((part / (0.8 * 450e9), part / (0.8 * 50e9), 0.0)),
    }


# Tables that say what they are of


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"pipeline_parallel": 2}, ["32 layers", "16 layers and embedding"]),
        ({"tensor_parallel": 2}, ["tp 1", "tensor_parallel = 2"]),
        ({"model": "Qwen/Qwen3-8B"}, ["32 layers", "36 layers", "Qwen3-8B"]),
    ],
)
def test_tables_of_other_layers_or_gpus_are_refused(fields: dict[str, Any], words: list[str]):
    config = SimulationConfig(num_kv_blocks=1000, scheduler_options={"max_num_seqs": 4})
    tables = tables_for(config)
    other = config.with_fields(**fields)
    with pytest.raises(ConfigError) as refusal:
        join_tables(other, tables, load_machine(other)[2], model=load_machine(other)[0])
    assert refusal.value.field == "tables"
    for word in words:
        assert word in str(refusal.value)
    assert join_tables(config, tables, load_machine(config)[2], model=load_machine(config)[0]).hash == tables.hash
