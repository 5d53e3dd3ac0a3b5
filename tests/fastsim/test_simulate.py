"""The public call, its result, and what it refuses."""

import json
import warnings
from pathlib import Path

import numba
import numpy as np
import polars as pl
import pytest
from plain_tables import plain_config, plain_tables

import fastsim
from estimators import EstimatorError
from fastsim import ConfigError, SimulationConfig, Workload
from fastsim.kernel.jit import DISABLED
from fastsim.schedulers import SCHEDULERS
from fastsim.simulation import ContextLengthWarning, ProfiledRangeWarning, compile_kernel, tables_for

#: DESIGN.md, section 4.
REQUEST_COLUMNS = [
    "request_id",
    "replica",
    "arrival_s",
    "scheduled_s",
    "first_token_s",
    "completed_s",
    "prompt_tokens",
    "output_tokens",
    "cached_tokens",
    "preemptions",
    "scheduling_delay_s",
    "ttft_s",
    "tpot_s",
    "e2e_s",
    "e2e_normalized_s",
]

#: Small enough that its tables are built in a moment.
SMALL = {
    "max_model_len": 512,
    "num_kv_blocks": 200,
    "scheduler_options": {"max_num_seqs": 16, "max_num_batched_tokens": 128},
}


def some_workload(n: int = 300, qps: float = 20.0, seed: int = 0, **more) -> Workload:
    rng = np.random.default_rng(seed)
    arrival_s = rng.exponential(1 / qps, n).cumsum()
    return Workload.from_arrays(arrival_s, rng.integers(1, 200, n), rng.integers(1, 100, n), **more)


def run(workload: Workload | None = None, **fields) -> fastsim.SimulationResult:
    config = plain_config(16, 128, **fields)
    return fastsim.simulate(config, workload or some_workload(), plain_tables(config, 0.01, 1e-5))


def without_wall_time(summary: dict) -> dict:
    speed = {"wall_s", "requests_per_s"}
    return summary | {"simulation": {k: v for k, v in summary["simulation"].items() if k not in speed}}


# What comes back


def test_requests_frame_has_the_columns_of_the_contract():
    workload = some_workload()
    frame = run(workload).requests
    assert frame.columns == REQUEST_COLUMNS
    assert frame["request_id"].to_list() == list(range(len(workload)))
    assert frame["arrival_s"].to_list() == workload.arrival_s.tolist()
    assert frame["prompt_tokens"].to_list() == workload.prompt_tokens.tolist()
    assert frame["output_tokens"].to_list() == workload.output_tokens.tolist()
    derived = frame.select(
        scheduling_delay_s=pl.col("scheduled_s") - pl.col("arrival_s"),
        ttft_s=pl.col("first_token_s") - pl.col("arrival_s"),
        tpot_s=pl.when(pl.col("output_tokens") > 1).then(
            (pl.col("completed_s") - pl.col("first_token_s")) / (pl.col("output_tokens") - 1)
        ),
        e2e_s=pl.col("completed_s") - pl.col("arrival_s"),
        e2e_normalized_s=(pl.col("completed_s") - pl.col("arrival_s")) / pl.col("output_tokens"),
    )
    assert frame.select(derived.columns).equals(derived)


def test_tpot_is_null_for_one_output_token():
    frame = run(Workload.from_arrays([0.0, 0.0, 0.1], [5, 5, 5], [1, 3, 1])).requests
    assert frame["tpot_s"].is_null().to_list() == [True, False, True]
    assert frame["tpot_s"].is_nan().sum() == 0
    assert not any(frame[name].null_count() for name in REQUEST_COLUMNS if name != "tpot_s")


def test_all_single_tokens_leave_no_tpot_and_no_tbt():
    metrics = run(Workload.from_arrays([0.0, 0.0], [5, 5], [1, 1])).summary["metrics"]
    none = {"mean": None, "p50": None, "p90": None, "p99": None}
    assert metrics["tpot_s"] == metrics["tbt_s"] == none


def test_summary_has_the_keys_of_the_contract_and_is_json():
    summary = run(replicas=2).summary
    assert {"config", "versions", "replicas", "simulation", "metrics"} <= set(summary)
    assert {
        "requests",
        "completed",
        "rejected",
        "iterations",
        "makespan_s",
        "wall_s",
        "requests_per_s",
    } <= set(summary["simulation"])
    for name in ("ttft_s", "tpot_s", "tbt_s", "e2e_s", "scheduling_delay_s"):
        assert {"mean", "p50", "p90", "p99"} <= set(summary["metrics"][name])
        assert summary["metrics"][name]["p50"] <= summary["metrics"][name]["p90"] <= summary["metrics"][name]["p99"]
    assert len(summary["replicas"]) == 2
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_summary_agrees_with_the_frame():
    workload = some_workload()
    result = run(workload, replicas=3)
    frame, metrics, simulation = result.requests, result.summary["metrics"], result.summary["simulation"]
    assert simulation["requests"] == simulation["completed"] == len(workload)
    makespan_s = frame["completed_s"].max() - frame["arrival_s"].min()
    assert simulation["makespan_s"] == makespan_s
    assert simulation["requests_per_s"] == simulation["requests"] / simulation["wall_s"]
    assert metrics["throughput_requests_per_s"] == pytest.approx(len(workload) / makespan_s)
    assert metrics["throughput_output_tokens_per_s"] == pytest.approx(frame["output_tokens"].sum() / makespan_s)
    assert metrics["preemptions"] == frame["preemptions"].sum()
    for name in ("ttft_s", "tpot_s", "e2e_s", "e2e_normalized_s", "scheduling_delay_s"):
        values = frame[name].drop_nulls()
        assert metrics[name]["mean"] == pytest.approx(values.mean())
        for quantile, q in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
            assert metrics[name][quantile] == pytest.approx(values.quantile(q, "linear"))
    assert [replica["requests"] for replica in result.summary["replicas"]] == frame["replica"].value_counts().sort(
        "replica"
    )["count"].to_list()
    assert simulation["iterations"] == sum(replica["iterations"] for replica in result.summary["replicas"])
    assert metrics["gpu_hours"] == pytest.approx(3 * makespan_s / 3600)
    assert 0 < metrics["utilization"] <= 1
    assert 0 < metrics["mfu"] < 1
    assert 0 < metrics["kv_use_mean"] <= metrics["kv_use_max"] <= 1


def test_mfu_counts_the_operations_of_the_model():
    # One request, P = 3 and D = 2: four tokens through the layers, two rows of logits, 6 + 4 attention pairs.
    from estimators import load_device, load_model

    result = run(Workload.from_arrays([0.0], [3], [2]))
    model, device = load_model(result.config.model), load_device(result.config.device)
    flops = (
        4 * model.linear_flops_per_token + 2 * model.lm_head_flops_per_sequence + 10 * model.attention_flops_per_pair
    )
    seconds = result.summary["simulation"]["makespan_s"]
    assert result.summary["metrics"]["mfu"] == pytest.approx(flops / seconds / device.peak_flops["bf16"])


def test_batches_frame_has_a_row_per_iteration_and_only_on_demand():
    assert run().batches is None
    result = run(record_batches=True, replicas=2)
    frame = result.batches
    assert frame.columns == [
        "replica",
        "stage",
        "start_s",
        "end_s",
        "num_tokens",
        "num_sequences",
        "num_decodes",
        "used_blocks",
        "decode_kv",
        "preempted",
    ]
    assert len(frame) == result.summary["simulation"]["iterations"]
    assert frame["num_tokens"].sum() == sum(
        r["prefill_tokens"] + r["decode_tokens"] for r in result.summary["replicas"]
    )
    busy = frame.group_by("replica").agg((pl.col("end_s") - pl.col("start_s")).sum()).sort("replica")["end_s"]
    assert busy.to_list() == pytest.approx([replica["busy_s"] for replica in result.summary["replicas"]])
    # Recording changes nothing else.
    assert result.requests.equals(run(replicas=2).requests)


def test_without_requests_the_quantiles_are_sketched():
    workload = some_workload(20_000, qps=60)
    exact, sketched = (run(workload, keep_requests=keep).summary for keep in (True, False))
    assert run(workload, keep_requests=False).requests is None
    assert exact["simulation"]["quantiles"] == "exact"
    assert "histogram" in sketched["simulation"]["quantiles"]
    for name in ("ttft_s", "tpot_s", "e2e_s", "e2e_normalized_s", "scheduling_delay_s", "tbt_s"):
        assert sketched["metrics"][name]["mean"] == pytest.approx(exact["metrics"][name]["mean"])
        for quantile in ("p50", "p90", "p99"):
            # Below a microsecond a duration counts as zero.
            truth = exact["metrics"][name][quantile]
            assert sketched["metrics"][name][quantile] == pytest.approx(truth, rel=0.01, abs=1e-6)
    others = {key for key, value in exact["metrics"].items() if not isinstance(value, dict)}
    assert {key: sketched["metrics"][key] for key in others} == {key: exact["metrics"][key] for key in others}


def test_tbt_quantiles_are_those_of_the_gaps():
    # Two requests that decode alone and together: gaps of 10 ms plus 10 us per token in the batch.
    metrics = run(Workload.from_arrays([0.0, 1.0], [1, 1], [200, 100])).summary["metrics"]
    assert metrics["tbt_s"]["p50"] == pytest.approx(0.01002, rel=0.004)
    assert metrics["tbt_s"]["mean"] == pytest.approx((100 * 0.01001 + 198 * 0.01002) / 298, rel=1e-3)


def test_replicas_without_requests_are_described_too():
    summary = run(Workload.from_arrays([0.0], [10], [5]), replicas=3).summary
    assert [replica["requests"] for replica in summary["replicas"]] == [1, 0, 0]
    assert summary["metrics"]["utilization"] == pytest.approx(1 / 3)


def test_a_saturated_replica_is_busy_all_the_time_and_not_more():
    for output_tokens in range(1, 40):
        metrics = run(Workload.from_arrays([0.3], [10], [output_tokens])).summary["metrics"]
        assert metrics["utilization"] == pytest.approx(1)
        assert metrics["utilization"] <= 1


# The same, again


def test_the_same_arguments_give_the_same_result():
    first, second = run(), run()
    assert first.requests.equals(second.requests)
    assert without_wall_time(first.summary) == without_wall_time(second.summary)


@pytest.mark.parametrize("threads", [1, 2, 5, None])
def test_many_at_once_equal_one_by_one(threads: int | None):
    configs = [
        SimulationConfig(**SMALL, replicas=replicas, router=router)
        for replicas in (1, 2, 3)
        for router in ("round_robin", "least_outstanding")
    ]
    workloads = [some_workload(200, seed=seed) for seed in range(len(configs))]
    many = fastsim.simulate_many(configs, workloads, threads=threads)
    assert [result.config for result in many] == configs
    for result, config, workload in zip(many, configs, workloads, strict=True):
        alone = fastsim.simulate(config, workload)
        assert result.requests.equals(alone.requests)
        assert without_wall_time(result.summary) == without_wall_time(alone.summary)


def test_one_workload_serves_many_configurations():
    configs = [SimulationConfig(**SMALL, replicas=replicas) for replicas in (1, 2)]
    workload = some_workload(50)
    many = fastsim.simulate_many(configs, [workload])
    assert [result.summary["hashes"]["workload"] for result in many] == [workload.hash] * 2


def test_workloads_that_do_not_match_the_configurations_are_refused():
    configs = [SimulationConfig(**SMALL)] * 3
    with pytest.raises(ConfigError, match="do not match 3 configs") as caught:
        fastsim.simulate_many(configs, [some_workload(5)] * 2)
    assert (caught.value.field, caught.value.value) == ("workloads", 2)


def test_tables_are_built_when_not_given():
    config, workload = SimulationConfig(**SMALL), some_workload(50)
    tables = tables_for(config)
    built, given = fastsim.simulate(config, workload), fastsim.simulate(config, workload, tables)
    assert built.summary["hashes"]["tables"] == tables.hash
    assert built.requests.equals(given.requests)


@pytest.mark.skipif(DISABLED, reason="NUMBA_DISABLE_JIT is set")
def test_the_kernel_can_be_called_from_jitted_code():
    from fastsim.kernel.prepare import new_state

    kernel_run = fastsim.kernel.run

    @numba.njit
    def statuses(state, tables, policies):
        return kernel_run(state, tables, policies), kernel_run(state, tables, policies)

    workload = some_workload(50)
    config = plain_config(16, 128)
    tables = plain_tables(config, 0.01, 1e-5)
    state = new_state(
        workload,
        tables.layout,
        tables.prefill_rule,
        limits=vars(config.batch_policy),
        num_replicas=1,
        num_blocks=config.num_kv_blocks - 1,
        block_size=config.block_size,
        router_reads_replicas=False,
    )
    # A finished run has nothing left to do.
    assert statuses(state, tables.values, compile_kernel(config)[1]) == (0, 0)
    assert state.requests["completed_s"].tolist() == run(workload).requests["completed_s"].to_list()


# Memory


def test_num_kv_blocks_overrides_the_planner_less_the_null_block():
    planned = run(num_kv_blocks=500).summary["replicas"][0]
    assert planned["kv_blocks"] == 499
    # P + D - 1 = 160 tokens fill ten blocks; the engine keeps block 0 for itself.
    workload = Workload.from_arrays([0.0], [100], [61])
    assert run(workload, num_kv_blocks=11).summary["metrics"]["kv_use_max"] == 1.0
    with pytest.raises(ConfigError):
        run(workload, num_kv_blocks=10)


def test_few_blocks_mean_preemptions():
    workload = some_workload(200, qps=1e4)
    few, many = (run(workload, num_kv_blocks=blocks, max_model_len=300) for blocks in (21, 1000))
    assert many.summary["metrics"]["preemptions"] == 0
    assert few.summary["metrics"]["preemptions"] == few.requests["preemptions"].sum() > 0
    assert few.summary["metrics"]["kv_use_max"] == 1.0
    recomputed = few.summary["replicas"][0]["prefill_tokens"] - workload.prompt_tokens.sum()
    assert recomputed > 0


def test_a_model_that_does_not_fit_is_refused_with_what_is_missing_and_what_would_do():
    config = SimulationConfig(model="meta-llama/Llama-3.1-70B")
    with pytest.raises(ConfigError) as caught:
        fastsim.simulate(config, some_workload(5))
    sentence = str(caught.value)
    assert (caught.value.field, caught.value.value) == ("model", "meta-llama/Llama-3.1-70B")
    # 70.6e9 weights of 2 bytes are 131.4 GiB; of the card's 79.6 GiB the engine may use 71.7.
    assert "131.4 GiB of 79.6 GiB per GPU" in sentence
    missing_gib = float(sentence.split("GiB are missing")[0].split()[-1])
    assert 59.8 < missing_gib < 64
    assert sentence.endswith("; give tensor_parallel = 4.") or sentence.endswith("; give tensor_parallel = 2.")
    fitting = int(sentence.rstrip(".").split()[-1])
    tried = SimulationConfig(model=config.model, tensor_parallel=fitting)
    assert fastsim.simulate(tried, some_workload(5)).summary["simulation"]["completed"] == 5


# What is refused


def test_a_request_longer_than_max_model_len():
    workload = Workload.from_arrays([0.0, 1.0, 2.0], [10, 100, 10], [10, 50, 10])
    assert run(workload, max_model_len=150).summary["simulation"]["completed"] == 3
    with pytest.raises(ConfigError) as caught:
        run(workload, max_model_len=149)
    assert (caught.value.field, caught.value.value) == ("max_model_len", 149)
    assert "request 1 (100 prompt + 50 output tokens)" in str(caught.value)
    assert caught.value.mend.startswith("give 150 or more")


def test_a_request_longer_than_all_kv_blocks():
    # 100 + 61 - 1 = 160 tokens are 10 blocks of 16; one more is the null block.
    workload = Workload.from_arrays([0.0, 1.0], [10, 100], [10, 61])
    assert run(workload, num_kv_blocks=11).summary["simulation"]["completed"] == 2
    with pytest.raises(ConfigError) as caught:
        run(workload, num_kv_blocks=10)
    assert (caught.value.field, caught.value.value) == ("num_kv_blocks", 10)
    assert "holds 144 tokens" in str(caught.value)
    assert "request 1 (100 prompt + 61 output tokens)" in str(caught.value)
    assert caught.value.mend.startswith("give 11 or more")


def test_a_pool_of_the_null_block_alone():
    config = plain_config(16, 128)
    with pytest.raises(ConfigError, match="give 2 or more"):
        fastsim.simulate(config.with_fields(num_kv_blocks=1), some_workload(5), plain_tables(config, 0.01))


@pytest.mark.parametrize(
    ("axis", "least"),
    [("max_tokens", 128), ("max_sequences", 16), ("max_kv", 100 * 16), ("max_history", 512), ("max_chunk", 128)],
)
def test_tables_that_are_too_small_are_refused(axis: str, least: int):
    config = plain_config(16, 128, num_kv_blocks=101, max_model_len=512)
    assert fastsim.simulate(config, some_workload(5), plain_tables(config, 0.01, **{axis: least}))
    with pytest.raises(ConfigError) as caught:
        fastsim.simulate(config, some_workload(5), plain_tables(config, 0.01, **{axis: least - 1}))
    assert (caught.value.field, caught.value.value) == (f"tables.{axis}", least - 1)
    assert f"less than the {least} " in str(caught.value)


def test_tables_too_small_for_the_equivalent_of_several_chunks_are_refused():
    # Four prompts of 30 tokens in one batch of up to 128 are looked up as one chunk of 60.
    config = plain_config(16, 128, max_model_len=32, num_kv_blocks=100)
    tables = plain_tables(config, 0.01, prefill_rule="equivalent_chunk", max_history=99 * 16, max_chunk=32)
    with pytest.raises(ConfigError):
        fastsim.simulate(config, Workload.from_arrays(np.zeros(4), np.full(4, 30), np.full(4, 2)), tables)


@pytest.mark.parametrize(
    ("fields", "field", "known"),
    [
        ({"model": "Llama-9-9000B"}, "model", "meta-llama/Llama-3.1-8B"),
        ({"device": "abacus"}, "device", "h100_sxm"),
        ({"tensor_parallel": 3}, "tp", "1, 2, 4, 8"),
    ],
)
def test_unknown_models_and_devices_list_the_known_ones(fields: dict, field: str, known: str):
    with pytest.raises(EstimatorError) as caught:
        fastsim.simulate(SimulationConfig(**fields), some_workload(5))
    assert caught.value.field == field
    assert known in str(caught.value)


# Profiled range


def test_reads_outside_the_profiled_range_warn():
    config, workload = plain_config(16, 128), Workload.from_arrays([0.0], [100], [10])
    profiled = {
        "tokens": [1, 99],
        "sequences": [1, 16],
        "decode_context": [1, 108],
        "history": [0, 0],
        "chunk": [1, 128],
    }
    tables = plain_tables(config, 0.01, provenance={"profiled": profiled})
    with pytest.warns(
        ProfiledRangeWarning,
        match="100 tokens in a batch.* up to 99; 109 tokens of context.* up to 108",
    ):
        fastsim.simulate(config, workload, tables)


def test_reads_inside_the_profiled_range_do_not_warn():
    config, workload = plain_config(16, 128), Workload.from_arrays([0.0], [100], [10])
    profiled = {"tokens": [1, 100], "sequences": [1, 1], "decode_kv": [1, 109], "history": [0, 0], "chunk": [1, 100]}
    with warnings.catch_warnings():
        warnings.simplefilter("error", ProfiledRangeWarning)
        fastsim.simulate(config, workload, plain_tables(config, 0.01, provenance={"profiled": profiled}))


def test_the_warning_points_at_the_caller():
    config, workload = plain_config(16, 128), Workload.from_arrays([0.0], [100], [10])
    tables = plain_tables(config, 0.01, provenance={"profiled": {"tokens": [1, 50]}})
    with pytest.warns(ProfiledRangeWarning) as caught:
        fastsim.simulate(config, workload, tables)
    assert [warning.filename for warning in caught if warning.category is ProfiledRangeWarning] == [__file__]


# Files


def files(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_write_and_write_again(tmp_path: Path):
    out = tmp_path / "new" / "out"
    result = run()
    for _ in range(2):
        result.write(out)
        assert files(out) == {"requests.parquet", "summary.json", "config.toml"}
        assert pl.read_parquet(out / "requests.parquet").equals(result.requests)
        assert json.loads((out / "summary.json").read_text()) == result.summary
        again = SimulationConfig.from_toml((out / "config.toml").read_text())
        assert again.to_dict() == result.config.to_dict()


def test_write_batches_where_they_are_kept(tmp_path: Path):
    result = run(record_batches=True, keep_requests=False)
    result.write(tmp_path)
    assert files(tmp_path) == {"batches.parquet", "summary.json", "config.toml"}
    assert pl.read_parquet(tmp_path / "batches.parquet").equals(result.batches)


def test_write_leaves_nothing_of_an_earlier_result(tmp_path: Path):
    run(record_batches=True).write(tmp_path)
    run(some_workload(7)).write(tmp_path)
    assert files(tmp_path) == {"requests.parquet", "summary.json", "config.toml"}


def test_a_file_that_cannot_be_finished_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run().write(tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}

    def fail_halfway(self: pl.DataFrame, path: Path) -> None:
        Path(path).write_bytes(b"half a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pl.DataFrame, "write_parquet", fail_halfway)
    with pytest.raises(OSError, match="No space left"):
        run(some_workload(7)).write(tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in files(tmp_path)} == before


def test_a_directory_that_cannot_be_written_is_refused(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError) as caught:
        run().write(tmp_path / "file" / "out")
    assert (caught.value.field, caught.value.value) == ("out", str(tmp_path / "file" / "out"))
    assert "cannot be written" in str(caught.value)
    assert (tmp_path / "file").read_text() == "in the way"


# What a run rests on


def test_shapes_that_were_not_measured_are_named():
    # The catalogue has head size 128 alone for A100, and no more than 8 key/value heads in decodes.
    config = SimulationConfig(model="phi-2", device="a100_sxm", max_model_len=512)
    with pytest.warns(ProfiledRangeWarning, match="head size 80"):
        fastsim.simulate(config, Workload.from_arrays([0.0], [100], [10]))


@pytest.mark.filterwarnings("ignore::fastsim.simulation.ProfiledRangeWarning")
def test_contexts_that_the_model_was_not_made_for_are_named():
    config = SimulationConfig(model="phi-2", device="a100_sxm", max_model_len=4096)
    with pytest.warns(ContextLengthWarning, match="2048 positions"):
        fastsim.simulate(config, Workload.from_arrays([0.0], [3000], [10]))


def test_the_default_rests_on_measured_shapes():
    with warnings.catch_warnings():
        warnings.simplefilter("error", ProfiledRangeWarning)
        fastsim.simulate(SimulationConfig(), Workload.generate(num_requests=300, qps=10))


def test_tables_of_zeros_have_no_rates():
    config = plain_config(16, 128)
    metrics = fastsim.simulate(config, some_workload(5), plain_tables(config, 0.0)).summary["metrics"]
    assert metrics["ttft_s"]["p99"] == 0.0
    burst = Workload.from_arrays([0.0, 0.0], [10, 10], [5, 5])
    metrics = fastsim.simulate(config, burst, plain_tables(config, 0.0)).summary["metrics"]
    assert metrics["throughput_requests_per_s"] is None
    assert metrics["mfu"] is None


def test_tables_can_be_injected_into_many():
    configs = [plain_config(16, 128), plain_config(16, 128, replicas=2)]
    tables = [plain_tables(config, seconds) for config, seconds in zip(configs, (0.01, 0.5), strict=True)]
    slow = fastsim.simulate_many(configs, some_workload(50), tables=tables)[1]
    assert slow.summary["metrics"]["tpot_s"]["p50"] == pytest.approx(0.5)
    with pytest.raises(ConfigError, match="tables"):
        fastsim.simulate_many(configs, some_workload(50), tables=tables[:1])


@pytest.mark.parametrize("scheduler", sorted(set(SCHEDULERS) - {"vllm_v1"}))
def test_requests_that_a_batch_policy_could_never_run_are_refused(scheduler: str):
    options = {"max_num_batched_tokens": 300} if scheduler in ("vllm_v0", "lightllm") else {}
    block_size = 1 if scheduler == "lightllm" else 16
    config = SimulationConfig(
        scheduler=scheduler,
        scheduler_options=options,
        block_size=block_size,
        max_model_len=600,
        num_kv_blocks=512 // block_size,
    )
    # 512 tokens of KV: enough for the request alone, but not for what the policy asks for beside it.
    workload = Workload.from_arrays([0.0], [480], [20 if scheduler == "orca" else 33])
    with pytest.raises(ConfigError) as caught:
        fastsim.simulate(config, workload)
    assert caught.value.field == "scheduler"
    assert "480 prompt" in str(caught.value)
