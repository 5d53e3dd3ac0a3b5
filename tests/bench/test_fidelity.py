"""bench/fidelity.py and bench/effects.py: on runs made here, and on those in ../shared/data."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from run_files import REPOSITORY, TOY, bench, refusal, write_profiles, write_run

import fastsim
from estimators import IterationTables, TableLayout
from estimators.expert_layout import ExpertLayout
from estimators.joint import JointLayout, SkewLayout
from estimators.layerwise import layerwise_tables
from estimators.models import model_from_config

SHARED = REPOSITORY.parent / "shared" / "data"
#: Three prompts, the last of which begins like the first; more than the engine takes at a time.
ARRIVAL_S, PROMPT, OUTPUT = (0.0, 0.001, 0.2), (64, 40, 64), (5, 1, 8)
BLOCKS = ([0, 1, 2, 3], [4, 5], [0, 1, 6, 7])
NO_FRONT_END: dict[str, Any] = {"ingress_s": 0.0, "ingress_s_per_token": 0.0, "egress_s": 0.0}
META: dict[str, Any] = {
    "vllm_version": "0.19.0",
    "engine_kwargs": {"tensor_parallel_size": 1, "max_num_seqs": 4, "max_num_batched_tokens": 48, "block_size": None},
    "kv_cache": {"num_gpu_blocks": 20, "block_size": 16},
    "resolved_config": {"scheduler_config": {"async_scheduling": True, "max_num_seqs": 99}, "moe_config": None},
}


def simulated(profiles: Path, **change: Any) -> fastsim.SimulationResult:
    """What a run of META would take if the world were fastsim."""
    config = fastsim.SimulationConfig(
        model=str(profiles / "llmservingsim" / "toy.json"),
        max_model_len=256,
        num_kv_blocks=20,
        scheduler_options={"max_num_seqs": 4, "max_num_batched_tokens": 48},
        engine="vllm-0.19",
        engine_options=NO_FRONT_END,
    ).with_fields(**change)
    workload = fastsim.Workload.from_arrays(ARRIVAL_S, PROMPT, OUTPUT, block_ids=BLOCKS, block_tokens=16)
    return fastsim.simulate(config, workload, tables_of(profiles, 48, 4))


def tables_of(profiles: Path, max_tokens: int, max_sequences: int) -> IterationTables:
    """Tables of the toy model."""
    model = model_from_config(TOY, "toy")
    directory = profiles / "llmservingsim" / "TOYGPU" / "lab" / "toy"
    return layerwise_tables(directory, model, max_tokens=max_tokens, max_sequences=max_sequences, max_model_len=256)


def requests_of(result: fastsim.SimulationResult) -> list[dict[str, Any]]:
    """The record of a simulated run; the engine's loop picked up the first request at once."""
    frame = result.requests.sort("request_id")
    return [
        {
            "input_toks": PROMPT[i],
            "output_toks": OUTPUT[i],
            "blocks": BLOCKS[i],
            "arrival_s": ARRIVAL_S[i],
            "queued_s": ARRIVAL_S[i] + 0.25 * i,
            "scheduled_s": frame["scheduled_s"][i],
            "first_s": frame["first_token_s"][i],
            "last_s": frame["completed_s"][i],
        }
        for i in range(len(PROMPT))
    ]


def test_a_run_that_went_as_simulated_has_no_error(tmp_path: Path):
    profiles = write_profiles(tmp_path / "profiles")
    result = simulated(profiles)
    write_run(tmp_path / "runs" / "TOYGPU_toy", META, requests_of(result))
    code, printed, _ = bench("fidelity.py", tmp_path / "runs", "--profiles", profiles)
    assert code == 0
    rows = printed["rows"]
    assert [(row["metric"], row["statistic"]) for row in rows] == [
        (metric, statistic) for metric in ("ttft", "tpot", "latency") for statistic in ("mean", "p50", "p90", "p99")
    ]
    assert {row["run"] for row in rows} == {"TOYGPU_toy"}
    # The wall clock is told to a quarter of a microsecond.
    assert [row["error"] for row in rows] == pytest.approx([0] * 12, abs=1e-4)
    frame = result.requests.sort("request_id")
    assert rows[0]["measured_s"] == pytest.approx(frame["ttft_s"].mean(), abs=1e-6)
    # A request of one token has no time per token.
    assert rows[4]["measured_s"] == pytest.approx(frame["tpot_s"].mean(), abs=1e-6)
    (run,) = printed["runs"]
    assert run["makespan"]["measured_s"] == pytest.approx(frame["completed_s"].max(), abs=1e-6)
    assert run["preemptions"] == {"measured": None, "simulated": 0}
    assert run["prefix_hits"]["simulated_tokens"] == 32
    assert run["queued_after_arrival_s"]["mean"] == pytest.approx(0.25, abs=1e-6)
    assert any(said.startswith("enable_prefix_caching = True (vLLM's default)") for said in run["assumptions"])
    assert not any("num_gpu_blocks" in said for said in run["assumptions"])


def test_what_a_run_records_of_its_engine_is_obeyed(tmp_path: Path):
    """The same run under other rules has errors, and none if meta.json tells them."""
    profiles = write_profiles(tmp_path / "profiles")
    other = simulated(
        profiles,
        engine_options=NO_FRONT_END | {"async_scheduling": False},
        scheduler_options={"max_num_seqs": 1, "max_num_batched_tokens": 48, "enable_prefix_caching": False},
    )
    told = META | {
        "engine_kwargs": META["engine_kwargs"] | {"max_num_seqs": 1, "enable_prefix_caching": False},
        "resolved_config": {"scheduler_config": {"async_scheduling": False}},
    }
    write_run(tmp_path / "runs" / "TOYGPU_silent", META, requests_of(other))
    write_run(tmp_path / "runs" / "TOYGPU_telling", told, requests_of(other))
    code, printed, _ = bench("fidelity.py", tmp_path / "runs", "--profiles", profiles)
    assert code == 0
    worst = {
        run: max(abs(row["error"]) for row in printed["rows"] if row["run"] == run)
        for run in ("TOYGPU_silent", "TOYGPU_telling")
    }
    assert worst["TOYGPU_telling"] < 1e-4
    assert worst["TOYGPU_silent"] > 0.01


def test_memory_that_was_not_recorded_is_planned_and_said(tmp_path: Path):
    profiles = write_profiles(tmp_path / "profiles")
    meta = {name: value for name, value in META.items() if name != "kv_cache"}
    requests = requests_of(simulated(profiles))
    del requests[0]["blocks"]
    requests[2] |= {"first_s": None, "last_s": None}
    run = write_run(tmp_path / "TOYGPU_toy", meta, requests)
    code, printed, said = bench("fidelity.py", run, "--profiles", profiles)
    assert (code, printed["rows"]) == (2, [])
    assert "num_gpu_blocks" in said
    (run / "upstream_sim_config.json").write_text(
        '{"nodes": [{"instances": [{"hardware": "TOYGPU", "npu_mem": {"mem_size": 8}}]}]}'
    )
    code, printed, _ = bench("fidelity.py", run, "--profiles", profiles)
    assert (code, printed["runs"][0]["requests"]) == (0, 2)
    assumed = "; ".join(printed["runs"][0]["assumptions"])
    for word in (
        "GPU memory of 8 GiB",
        "num_gpu_blocks = ",
        "no prompt shares a prefix",
        "1 requests that lack a time",
    ):
        assert word in assumed


def test_requests_that_are_not_recorded_are_said(tmp_path: Path):
    profiles = write_profiles(tmp_path / "profiles")
    requests = requests_of(simulated(profiles))
    requests[1] |= {"output_toks": None}
    run = write_run(tmp_path / "TOYGPU_toy", META | {"num_requests": 5}, requests)
    code, printed, _ = bench("fidelity.py", run, "--profiles", profiles)
    assert (code, printed["runs"][0]["requests"]) == (0, 2)
    assumed = "; ".join(printed["runs"][0]["assumptions"])
    assert "1 requests that lack a time or a length are left out" in assumed
    assert "2 of 5 requests are left out" in assumed


def test_the_kv_blocks_of_data_parallel_engines_are_recorded_as_their_sum(tmp_path: Path):
    profiles = write_profiles(tmp_path / "profiles")
    meta = META | {
        "engine_kwargs": META["engine_kwargs"] | {"data_parallel_size": 2},
        "kv_cache": {"num_gpu_blocks": 43, "block_size": 16},
    }
    run = write_run(tmp_path / "TOYGPU_toy", meta, requests_of(simulated(profiles)))
    code, printed, _ = bench("fidelity.py", run, "--profiles", profiles)
    assert (code, printed["runs"][0]["num_kv_blocks"]) == (0, 21)
    assert "21 KV blocks of each of 2 engines (all have 43)" in printed["runs"][0]["assumptions"]
    code, printed, said = bench("steps.py", run, "--profiles", profiles)
    assert (code, printed["rows"]) == (0, [])
    assert "TOYGPU_toy: has several engines" in said


def test_a_run_that_cannot_be_simulated_hides_no_other(tmp_path: Path):
    profiles = write_profiles(tmp_path / "profiles")
    requests = requests_of(simulated(profiles))
    for name, meta in (
        ("TOYGPU_a", META | {"engine_kwargs": META["engine_kwargs"] | {"tensor_parallel_size": 2}}),
        ("TOYGPU_b", META),
        ("OTHERGPU_c", META),
    ):
        write_run(tmp_path / "runs" / name, meta, requests)
    many = META | {"engine_kwargs": META["engine_kwargs"] | {"max_num_seqs": "many"}}
    write_run(tmp_path / "runs" / "TOYGPU_e", many, requests)
    half = write_run(tmp_path / "runs" / "TOYGPU_d", META, requests)
    (half / "requests.jsonl").unlink()
    plot = tmp_path / "plot.html"
    code, printed, _ = bench("fidelity.py", tmp_path / "runs", "--profiles", profiles, "--plot", plot)
    assert code == 2
    assert {row["run"] for row in printed["rows"]} == {"TOYGPU_b"}
    skipped = {run["run"]: run.get("skipped") for run in printed["runs"]}
    assert "all-reduce" in skipped["TOYGPU_a"]
    assert "OTHERGPU" in skipped["OTHERGPU_c"]
    assert "requests.jsonl" in skipped["TOYGPU_d"]
    assert "max_num_seqs 'many' of meta.json" in skipped["TOYGPU_e"]
    page = plot.read_text()
    # One of each request in both plots, and one in the legend.
    assert [page.count(f"<circle class='{name}'") for name in ("measured", "simulated")] == [8, 8]
    assert bench("fidelity.py", profiles, "--profiles", profiles)[:2] == (2, None)
    code, printed, _ = bench("effects.py", tmp_path / "runs", "--profiles", profiles)
    assert (code, {row["run"] for row in printed["rows"]}) == (2, {"TOYGPU_b"})
    assert {row["run"]: row["skipped"] for row in printed["runs"]} == {
        run: why for run, why in skipped.items() if why is not None
    }


@pytest.mark.parametrize(
    ("name", "why"), [("plot.png", "is no HTML file"), ("nowhere/plot.html", "is in a directory that does not exist")]
)
def test_a_plot_that_cannot_be_drawn_is_refused_at_once(tmp_path: Path, name: str, why: str):
    write_run(tmp_path / "TOYGPU_toy", META, [])
    assert why in refusal("fidelity.py", tmp_path, "--profiles", tmp_path, "--plot", tmp_path / name)


def test_effects_of_rules_on_a_run(tmp_path: Path):
    profiles = write_profiles(tmp_path / "profiles")
    run = write_run(tmp_path / "TOYGPU_toy", META, requests_of(simulated(profiles)))
    code, printed, _ = bench("effects.py", run, "--profiles", profiles)
    assert code == 0
    effects = {(row["change"], row["metric"]): row for row in printed["rows"]}
    # The last prompt computes its first half again.
    caching = effects["no prefix caching", "ttft"]
    assert caching["effect"] > 0.01
    assert caching["error"] == pytest.approx(caching["effect"], abs=1e-4)
    assert effects["no cost of unequal decodes", "latency"]["effect"] == 0.0


def test_tables_without_the_cost_of_unequal_decodes_keep_their_other_parts(script: Callable[[str], ModuleType]):
    effects = script("effects")
    layout, joint, skew = TableLayout(4, 2, 64, 64, 4), JointLayout(4, 64, 2, 64), SkewLayout(1, 2, 3, 1, 2)
    expert = ExpertLayout(8, 2)
    size = layout.size + joint.size + skew.size + expert.size
    tables = IterationTables(np.arange(float(size)), layout, "joint", {}, joint, skew, expert)
    changed = effects.without_skew(effects.Deployment(fastsim.SimulationConfig(), tables, ())).tables
    assert changed.skew is None
    for part in ("token_s", "prefill_s", "joint_s", "expert_s"):
        assert np.array_equal(getattr(changed, part), getattr(tables, part)), part


@pytest.mark.parametrize("is_asynchronous", [True, False])
def test_batches_of_a_run_that_went_as_simulated_take_what_the_tables_say(tmp_path: Path, is_asynchronous: bool):
    profiles = write_profiles(tmp_path / "profiles")
    config = fastsim.SimulationConfig(
        model=str(profiles / "llmservingsim" / "toy.json"),
        max_model_len=256,
        num_kv_blocks=200,
        scheduler_options={"max_num_seqs": 8, "max_num_batched_tokens": 128},
        engine="vllm-0.19",
        engine_options=NO_FRONT_END | {"async_scheduling": is_asynchronous},
    )
    # Two that start together, and so link their ends; then two prompts in neighbouring batches beside their decodes.
    arrival_s, prompt, output = [0.0, 0.0, 0.06, 0.0625], [30, 20, 64, 50], [40, 60, 20, 90]
    workload = fastsim.Workload.from_arrays(arrival_s, prompt, output)
    frame = fastsim.simulate(config, workload, tables_of(profiles, 128, 8)).requests.sort("request_id")
    requests = [
        {
            "input_toks": row["prompt_tokens"],
            "output_toks": row["output_tokens"],
            "arrival_s": row["arrival_s"],
            "queued_s": row["arrival_s"],
            "scheduled_s": row["scheduled_s"],
            "first_s": row["first_token_s"],
            "last_s": row["completed_s"],
        }
        for row in frame.iter_rows(named=True)
    ]
    engine = {"max_num_seqs": 8, "max_num_batched_tokens": 128, "max_model_len": 256}
    engine |= {"async_scheduling": is_asynchronous}
    meta = {"vllm_version": "0.19.0", "engine_kwargs": engine, "kv_cache": {"num_gpu_blocks": 200}}
    run = write_run(tmp_path / "TOYGPU_toy", meta, requests)
    code, printed, _ = bench("steps.py", run, "--profiles", profiles)
    assert code == 0
    rows = {kind: [row for row in printed["rows"] if row["kind"] == kind] for kind in ("prompts", "decodes")}
    # A synchronous engine schedules after the end of the batch before, so no predecessor tells when prompts began.
    expected = [(50 + 3, 3)] if is_asynchronous else []
    assert [(row["tokens"], row["decodes"]) for row in rows["prompts"]] == expected
    assert rows["decodes"]
    # Contexts are in proportion to time: that of the third request is 3 tokens too long, each worth 12 us of 14 ms.
    assert [row["error"] for row in rows["prompts"]] == pytest.approx([0] * len(rows["prompts"]), abs=4e-3)
    assert [row["error"] for row in rows["decodes"]] == pytest.approx([0] * len(rows["decodes"]), abs=2e-2)


@pytest.mark.skipif(not (SHARED / "groundtruth" / "vllm").is_dir(), reason="measured runs are not here: ../shared/data")
def test_measured_runs():
    """The figures of docs/accuracy.md."""
    code, printed, _ = bench("fidelity.py", SHARED / "groundtruth" / "vllm", "--profiles", SHARED / "profiles")
    assert code == 0
    errors = {(row["run"].partition("_")[0], row["metric"], row["statistic"]): row["error"] for row in printed["rows"]}
    assert len(errors) == 24
    for (gpu, metric, statistic), error in errors.items():
        most = 0.02 if gpu == "RTX4090" else {"ttft": 0.12, "latency": 0.025, "tpot": 0.015}[metric]
        assert abs(error) < most, (gpu, metric, statistic)
    runs = {run["run"].partition("_")[0]: run for run in printed["runs"]}
    assert runs["RTX4090"]["assumptions"] == []
    assert "num_gpu_blocks = " in "".join(runs["RTXPRO6000"]["assumptions"])
