"""Engines: their presets, what goes with what, and what they add to the tables."""

import json
from typing import Any

import numpy as np
import pytest
from plain_tables import plain_config, plain_tables
from simulate_calls import run, some_workload

import fastsim
from fastsim import ConfigError, SimulationConfig, Workload
from fastsim.batch_policy import Pool
from fastsim.engine_presets import ENGINES, Engine, engine_limits, engine_of_vllm
from fastsim.kernel.slots import ROUTE, compiled
from fastsim.kernel.state import CLUSTER, REPLICA, REQUEST, records
from fastsim.stage_tables import StageTables, engine_values, join_tables

SYNCHRONOUS = "vllm-0.12"


def joined(config: SimulationConfig, *stages: Any) -> StageTables:
    return join_tables(config, stages, Pool(config.num_kv_blocks - 1, config.block_size, config.max_model_len))


# Presets


def test_ideal_costs_nothing_and_the_others_are_instances_of_one_dataclass():
    assert ENGINES["ideal"] == Engine()
    assert {type(engine) for engine in ENGINES.values()} == {Engine}


@pytest.mark.parametrize("name", sorted(ENGINES))
def test_names_with_dots_and_dashes_survive_toml_and_json(name: str):
    scheduler = "sglang" if name.startswith("sglang") else "vllm_v1"
    config = SimulationConfig(scheduler=scheduler, engine=name, engine_options={"launch-s": 2e-3})
    assert config.engine_choice.launch_s == 2e-3
    again = SimulationConfig.from_toml(config.to_toml())
    assert again == config
    assert SimulationConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert again.engine_options == {"launch_s": 2e-3}  # all else is the preset's


def test_a_field_given_as_the_preset_has_it_makes_no_other_configuration():
    value = ENGINES["vllm-0.9"].launch_s
    assert SimulationConfig(engine="vllm-0.9", engine_options={"launch_s": value}) == SimulationConfig(
        engine="vllm-0.9"
    )


def test_rules_of_the_versions():
    rules = {
        name: (e.async_scheduling, e.full_sequence_gate, e.uncached_blocks_first, e.capture_sizes)
        for name, e in ENGINES.items()
        if name.startswith("vllm")
    }
    assert rules == {
        "vllm-0.9": (False, False, False, "by_8"),
        "vllm-0.12": (False, False, False, "by_8_and_16"),
        "vllm-0.19": (True, True, False, "by_8_and_16"),
        "vllm-head": (True, True, True, "by_8_and_16"),
    }


def test_capture_sizes():
    assert ENGINES["ideal"].padded_sizes(256, 2048) == ()
    old = ENGINES["vllm-0.9"].padded_sizes(16, 64)
    assert old == (1, 2, 4, *range(8, 520, 8))
    new = ENGINES["vllm-0.19"].padded_sizes(256, 2048)
    assert new[:5] == (1, 2, 4, 8, 16)
    assert new[-18:-14] == (248, 256, 272, 288)
    assert new[-1] == 512
    assert ENGINES["vllm-0.19"].padded_sizes(20, 2048)[-1] == 40
    assert ENGINES["vllm-0.19"].padded_sizes(20, 35)[-1] == 32
    assert ENGINES["sglang-0.5"].padded_sizes(2048, 8192)[3:6] == (8, 12, 16)
    assert ENGINES["sglang-0.5"].padded_sizes(2048, 8192)[-1] == 256


# What goes with what

REFUSED = [
    ({"engine": "vllm-0.19", "scheduler": "sarathi"}, "engine", ["vllm-0.19", "sarathi", "vllm_v1"]),
    ({"engine": "sglang-0.5"}, "engine", ["sglang-0.5", "vllm_v1"]),
    ({"engine": "vllm-0.19", "queue": "priority"}, "queue", ["priority", "asynchronous"]),
    (
        {
            "engine": "vllm-0.19",
            "scheduler_options": {"preemption_mode": "swap", "enable_prefix_caching": False},
        },
        "scheduler.preemption_mode",
        ["swap", "asynchronous"],
    ),
    (
        {"engine": SYNCHRONOUS, "scheduler_options": {"preemption_mode": "swap"}},
        "scheduler.preemption_mode",
        ["swap", "prefix caching"],
    ),
    (
        {"scheduler_options": {"preemption_mode": "swap", "enable_prefix_caching": True}},
        "scheduler.preemption_mode",
        ["swap", "prefix caching"],
    ),
    ({"scheduler": "orca", "engine_options": {"async_scheduling": True}}, "scheduler", ["orca", "asynchronous"]),
    ({"engine_options": {"launch_s": -1}}, "engine.launch_s", ["-1", "give 0 to 3600"]),
    ({"engine_options": {"egress_s": 1e308}}, "engine.egress_s", ["1e+308", "give 0 to 3600"]),
    ({"scheduler": "orca", "engine_options": {"prefix_caching": True}}, "engine.prefix_caching", ["orca", "sglang"]),
    ({"engine_options": {"launch_s": "soon"}}, "engine.launch_s", ["soon", "finite number"]),
    ({"engine_options": {"capture_sizes": "all"}}, "engine.capture_sizes", ["all", "by_8_and_16"]),
    ({"engine_options": {"gpu": 1}}, "engine.gpu", ["launch_s, launch_s_per_request"]),
    ({"engine_options": {"launch_s": 1}, "parity": "vidur", "scheduler": "sarathi"}, "engine", ["Vidur"]),
    ({"scheduler_options": {"enable_prefix_caching": "perhaps"}}, "scheduler.enable_prefix_caching", ["perhaps"]),
]


@pytest.mark.parametrize(("fields", "field", "words"), REFUSED)
def test_refusals(fields: dict[str, Any], field: str, words: list[str]):
    with pytest.raises(ConfigError) as refusal:
        SimulationConfig(**fields)
    assert refusal.value.field == field
    for word in words:
        assert word in str(refusal.value)


def test_with_stages_nothing_is_scheduled_ahead_so_nothing_is_refused():
    config = SimulationConfig(engine="vllm-0.19", queue="priority", pipeline_parallel=2)
    limits = engine_limits(config, names_blocks=False)
    assert (limits["async_scheduling"], limits["launch_s"]) == (False, 0.0)


def test_no_function_of_ones_own_is_scheduled_ahead():
    config = plain_config(16, 128, engine="vllm-0.19")
    with pytest.raises(ConfigError, match="asynchronous"):
        fastsim.simulate(config, some_workload(3), plain_tables(config, 0.01), batch_policy=lambda r, s, i: 0)


# What the kernel is told


def test_an_asynchronous_engine_tells_its_times_and_a_synchronous_one_has_them_in_the_tables():
    engine = ENGINES["vllm-0.19"]
    limits = engine_limits(SimulationConfig(engine="vllm-0.19"), names_blocks=False)
    assert limits == {
        "async_scheduling": True,
        "caching": True,
        "uncached_first": False,
        "launch_s": engine.launch_s,
        "launch_s_per_request": engine.launch_s_per_request,
        "process_s": engine.process_s,
        "process_s_per_request": engine.process_s_per_request,
    }
    times = [
        value for name, value in engine_limits(SimulationConfig(engine=SYNCHRONOUS), False).items() if "_s" in name
    ]
    assert not any(times)


@pytest.mark.parametrize(
    ("preset", "asked", "names_blocks", "expected"),
    [
        (None, None, False, False),
        (None, None, True, True),
        (None, True, False, True),
        (None, False, True, False),
        ("own", None, False, True),
        ("own", False, True, False),
    ],
)
@pytest.mark.parametrize(("scheduler", "own"), [("vllm_v1", "vllm-0.9"), ("sglang", "sglang-0.5")])
def test_whether_prefixes_are_cached(
    scheduler: str, own: str, preset: str | None, asked: bool | None, names_blocks: bool, expected: bool
):
    engine = own if preset else "ideal"
    config = SimulationConfig(engine=engine, scheduler=scheduler, scheduler_options={"enable_prefix_caching": asked})
    assert engine_limits(config, names_blocks)["caching"] is expected
    assert SimulationConfig.from_toml(config.to_toml()) == config


def test_old_engines_have_no_full_sequence_gate():
    config = plain_config(16, 128, num_kv_blocks=20)
    workload = Workload.from_arrays([0.0, 0.0], [100, 250], [100, 1])
    second = {}
    for engine in ("ideal", SYNCHRONOUS):
        given = config.with_fields(
            engine=engine, engine_options={} if engine == "ideal" else dict.fromkeys(("launch_s", "process_s"), 0.0)
        )
        requests = fastsim.simulate(given, workload, plain_tables(given, 1.0)).requests
        second[engine] = requests["scheduled_s"][1]
    # 20 - 1 blocks: the first holds 7, and the second needs 16 in all but 2 for its first chunk.
    assert second[SYNCHRONOUS] < second["ideal"]


# Tables


def test_an_engine_that_adds_nothing_reads_the_tables_as_they_are():
    config = plain_config(16, 128)
    tables = joined(config, plain_tables(config, 0.01))
    values, bases = engine_values(config, tables)
    assert values is tables.values
    assert bases == tables.bases


def test_cpu_time_and_padding_are_added_to_a_copy():
    options = {"launch_s": 1.0, "launch_s_per_request": 0.25, "process_s": 2.0, "process_s_per_request": 0.5}
    config = plain_config(16, 128, engine=SYNCHRONOUS, engine_options=options)
    table = plain_tables(config, 0.0, 1.0)
    table.values.setflags(write=False)
    values, bases = engine_values(config, joined(config, table))
    layout = table.layout
    assert bases == (0,)
    token, sequence = values[: layout.sequence_offset], values[layout.sequence_offset : layout.decode_offset]
    # 2 * 16 is the largest size.
    sizes = [0, 1, 2, 4, 4, *[8] * 4, *[16] * 8, *[24] * 8, *[32] * 8]
    assert token.tolist() == [*sizes, *range(33, 129)]
    assert sequence.tolist() == [0.0, *(3.0 + 0.75 * m for m in range(1, 17))]
    assert np.array_equal(values[layout.decode_offset :], table.values[layout.decode_offset :])
    assert table.values[3] == 3.0


def test_a_padded_number_beyond_the_table_reads_its_last_entry():
    config = plain_config(3, 11, engine="vllm-0.9", engine_options={"launch_s": 0, "process_s": 0})
    table = plain_tables(config, 0.0, 1.0)
    values, _ = engine_values(config, joined(config, table))
    assert values[:12].tolist() == [0, 1, 2, 4, 4, 8, 8, 8, 8, 11, 11, 11]


def test_only_the_first_stage_waits_for_the_cpu_and_every_stage_is_padded():
    config = plain_config(16, 128, pipeline_parallel=3, engine="vllm-0.19", engine_options={"launch_s": 1.0})
    first, second = plain_tables(config, 0.0, 1.0), plain_tables(config, 0.0, 2.0)
    offset, size = first.layout.sequence_offset, first.layout.size
    for stages, starts in (
        ((first, first, first), (size, 0, 0)),
        ((first, second, second), (0, size, size)),
        ((first, second, first), (2 * size, size, 0)),
    ):
        values, bases = engine_values(config, joined(config, *stages))
        assert bases == starts
        for stage, (table, base) in enumerate(zip(stages, bases, strict=True)):
            assert values[base + 3] == table.values[4]
            assert values[base + offset] == 0.0
            assert (values[base + offset + 1] > 1.0) == (stage == 0)


def test_padding_needs_no_cpu_time_and_then_stages_share_their_tables():
    config = plain_config(16, 128, pipeline_parallel=2, engine_options={"capture_sizes": "by_8"})
    table = plain_tables(config, 0.0, 1.0)
    values, bases = engine_values(config, joined(config, table, table))
    assert bases == (0, 0)
    assert len(values) == table.layout.size
    assert values[3] == 4.0


def test_every_iteration_of_a_synchronous_engine_takes_the_cpu_time_longer():
    alone = Workload.from_arrays([0.0], [10], [4])
    options = {"launch_s": 0.5, "process_s": 0.25, "process_s_per_request": 0.25}
    result = run(alone, engine_options=options)
    plain = run(alone)
    assert result.requests["completed_s"][0] - plain.requests["completed_s"][0] == pytest.approx(4 * 1.0)
    assert result.summary["config"]["engine"]["launch_s"] == 0.5
    assert result.summary["hashes"]["tables"] == plain.summary["hashes"]["tables"]


# A router that looks into the caches


def test_the_prefix_aware_router_spreads_load_where_nothing_is_cached():
    workload = some_workload(300, 100.0)
    aware = run(workload, replicas=3, router="prefix_aware").requests
    tokens = run(workload, replicas=3, router="least_outstanding_tokens").requests
    assert aware["replica"].equals(tokens["replica"])


def test_its_weight_is_a_field():
    config = SimulationConfig(router="prefix_aware", router_options={"hit_weight": 2})
    assert config.router_choice.hit_weight == 2.0
    with pytest.raises(ConfigError, match="hit_weight"):
        SimulationConfig(router="prefix_aware", router_options={"hit_weight": -0.5})


@pytest.mark.parametrize(("hits", "expected"), [((0, 0), 1), ((0, 50), 1), ((19, 0), 1), ((20, 0), 0)])
def test_hits_are_weighed_against_load(hits: tuple[int, int], expected: int):
    requests, replicas, cluster = records(REQUEST, 1), records(REPLICA, 2), records(CLUSTER, 1)
    replicas["outstanding_tokens"], replicas["hit_tokens"] = (110, 100), hits
    cluster["hit_weight"] = 0.5
    assert compiled("routing:prefix_aware", ROUTE)(requests, replicas, cluster[0], 0) == expected


@pytest.mark.parametrize(
    ("version", "found"),
    [
        ("0.9.2", ("vllm-0.9", {})),
        ("0.11", ("vllm-0.9", {})),
        ("0.11.0", ("vllm-0.9", {})),
        ("0.11.1", ("vllm-0.12", {})),
        ("v0.11.2rc3", ("vllm-0.12", {})),
        ("0.12.0", ("vllm-0.12", {})),
        ("0.13.1rc2", ("vllm-0.12", {})),
        ("v0.14.0", ("vllm-0.12", {"async_scheduling": True})),
        ("0.18.2", ("vllm-0.12", {"async_scheduling": True})),
        ("0.19.0", ("vllm-0.19", {})),
        ("0.19.2.dev7+g677424c7a", ("vllm-0.19", {})),
        ("0.20.0", ("vllm-head", {})),
        ("1.0", ("vllm-head", {})),
        ("", ("vllm-head", {})),
    ],
)
def test_the_preset_of_a_version_of_vllm(version: str, found: tuple[str, dict]):
    assert engine_of_vllm(version) == found


def test_what_is_no_version_of_vllm_is_refused():
    with pytest.raises(ConfigError, match="nightly"):
        engine_of_vllm("nightly")
