"""The public call and its result."""

import json
from pathlib import Path
from typing import IO

import numba
import numpy as np
import polars as pl
import pytest
from plain_tables import plain_config, plain_tables
from simulate_calls import SMALL, run, some_workload, without_wall_time

import fastsim
from fastsim import ConfigError, SimulationConfig, Workload
from fastsim.batch_policy import Pool
from fastsim.kernel.jit import DISABLED
from fastsim.machine import tables_for
from fastsim.preparing import compile_kernel

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
ARRAYS = ("arrival_s", "prompt_tokens", "output_tokens")


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


def test_classes_and_sessions_are_columns_where_the_workload_has_them():
    plain = some_workload(60)
    arrays = plain.arrival_s, plain.prompt_tokens, plain.output_tokens
    request_class, session = np.arange(60) % 3, np.arange(60) // 2 - 1
    frame = run(Workload.from_arrays(*arrays, request_class=request_class, session=session)).requests
    assert frame.columns == [*REQUEST_COLUMNS, "request_class", "session"]
    assert frame["request_class"].to_list() == request_class.tolist()
    assert frame["session"].to_list() == session.tolist()
    assert run(Workload.from_arrays(*arrays, session=session)).requests.columns == [*REQUEST_COLUMNS, "session"]
    assert frame.select(REQUEST_COLUMNS).equals(run(plain).requests)


@pytest.mark.parametrize("keep_requests", [True, False])
def test_summary_by_class_agrees_with_the_frame(keep_requests: bool):
    # Bursts, so that requests are preempted.
    arrays = np.repeat(np.arange(20.0) * 30, 20), np.full(400, 150), np.tile([1, 120], 200)
    workload = Workload.from_arrays(*arrays, request_class=np.tile([5, 0, 0, 2], 100))
    frame = run(workload, num_kv_blocks=60).requests
    summary = run(workload, num_kv_blocks=60, keep_requests=keep_requests).summary
    assert list(summary["classes"]) == ["0", "2", "5"]
    assert summary["metrics"]["preemptions"] > 0
    for number, described in summary["classes"].items():
        own = frame.filter(pl.col("request_class") == int(number))
        assert described["requests"] == len(own)
        assert described["preemptions"] == own["preemptions"].sum()
        for name in ("ttft_s", "tpot_s", "e2e_s", "scheduling_delay_s"):
            values = own[name].drop_nulls()
            assert described[name]["mean"] == (pytest.approx(values.mean()) if len(values) else None)
            for quantile, q in (("p50", 0.5), ("p99", 0.99)):
                tolerance = 1e-9 if keep_requests else 0.005
                truth = values.quantile(q, "linear")
                expected = None if truth is None else pytest.approx(truth, rel=tolerance, abs=1e-6)
                assert described[name][quantile] == expected
    assert summary["classes"]["5"]["tpot_s"]["p50"] is None  # of requests with one output token


@pytest.mark.parametrize("request_class", [0, 4])
def test_one_class_needs_no_summary_of_its_own(request_class: int):
    workload = Workload.from_arrays([0.0, 0.5], [5, 5], [3, 3], request_class=[request_class] * 2)
    assert "classes" not in run(workload).summary


def test_a_session_stays_on_its_replica():
    rng = np.random.default_rng(3)
    session = rng.integers(-1, 12, 300)
    workload = Workload.from_arrays(*(getattr(some_workload(), name) for name in ARRAYS), session=session)
    frame = run(workload, replicas=3, router="session_affinity").requests
    per_session = frame.filter(pl.col("session") >= 0).group_by("session").agg(pl.col("replica").n_unique())
    assert len(per_session) == 12
    assert per_session["replica"].to_list() == [1] * 12
    assert frame["replica"].n_unique() == 3


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
        limits=config.batch_policy.limits(Pool(config.num_kv_blocks - 1, config.block_size, config.max_model_len)),
        num_replicas=1,
        num_blocks=config.num_kv_blocks - 1,
        block_size=config.block_size,
        router_reads_replicas=False,
    )
    # A finished run has nothing left to do.
    assert statuses(state, tables.values, compile_kernel(config, workload)[1]) == (0, 0)
    assert state.requests["completed_s"].tolist() == run(workload).requests["completed_s"].to_list()


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

    def fail_halfway(self: pl.DataFrame, file: IO[bytes]) -> None:
        file.write(b"half a file")
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
