"""From measured times of one model's operators on a device of one's own to a simulation on it."""

import json
import shutil
from pathlib import Path

import pytest
from cli_calls import Cli
from toy_device import true_iteration_s, write_toy

from estimators import IterationTables, load_model
from estimators.operators import iteration_calls
from estimators.regressors import KINDS
from fastsim import SimulationConfig, simulate
from fastsim.profiled_range import ProfiledRangeWarning
from traces import Workload

LIMITS = {"max_tokens": 512, "max_sequences": 32, "max_model_len": 2048}


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A profiled device, trained as the command line does it, but with the fastest kind of regressors alone."""
    from fastsim.cli import main

    place = write_toy(tmp_path_factory.mktemp("toy") / "mine")
    words = ["--device", place, "--source", "own", "--directory", place, "--dtype", "fp32", "--kind", "auto"]
    with pytest.MonkeyPatch.context() as patch:
        for kind in set(KINDS) - {"linear"}:
            patch.delitem(KINDS, kind)
        assert main(["estimators", "train", *map(str, words), "--out", str(place / "estimators")]) == 0
    return place


def test_its_tables_say_what_was_measured(device: Path):
    model = load_model(device)
    calls = iteration_calls(model, dtype="fp32")
    tables = IterationTables.build(model, device, dtype="fp32", **LIMITS)
    for decodes, kv, chunks in [(1, 700, []), (24, 24 * 300, []), (0, 0, [(0, 300)]), (7, 900, [(256, 200), (0, 40)])]:
        tokens = decodes + sum(chunk for _, chunk in chunks)
        told = tables.iteration_time_s(tokens, decodes + len(chunks), decodes, kv, chunks)
        assert told == pytest.approx(true_iteration_s(calls, decodes, kv, chunks), rel=0.1)
    assert tables.provenance["outside_profiles"] == []
    assert tables.provenance["attention_launch_s"] == 0.0
    assert tables.provenance["profiled"]["tokens"] == [1, 2048]
    assert tables.provenance["profiled"]["sequences"] == [1, 2048]


def test_the_command_line_runs_on_it(cli: Cli, device: Path):
    words = ("--model", device, "--device", device, "--dtype", "fp32", "--max-model-len", 2048)
    limits = ("--scheduler.max-num-seqs", 32, "--scheduler.max-num-batched-tokens", 512)
    lengths = ("--lengths", "fixed", "--lengths.prompt", 100, "--lengths.output", 20)
    outcome = cli("run", *words, *limits, *lengths, "--requests", 100, "--qps", 20, "--json")
    assert outcome.summary["simulation"]["completed"] == 100
    assert outcome.summary["config"]["device"] == str(device)
    calls = iteration_calls(load_model(device), dtype="fp32")
    assert outcome.summary["metrics"]["tpot_s"]["p50"] > 0.9 * true_iteration_s(calls, 1, 100, [])


def test_python_runs_on_it_and_says_where_it_leaves_what_was_measured(device: Path):
    limits = {"max_num_seqs": 8, "max_num_batched_tokens": 4096}
    config = SimulationConfig(
        model=device, device=device, dtype="fp32", max_model_len=4096, num_kv_blocks=600, scheduler_options=limits
    )
    simulate(config, Workload.from_arrays([0.0], [1000], [5]))
    with pytest.warns(ProfiledRangeWarning) as caught:
        simulate(config, Workload.from_arrays([0.0], [4090], [2]))
    (sentence,) = (str(one.message) for one in caught if one.category is ProfiledRangeWarning)
    assert "up to 4090 tokens in a batch, measured up to 2048" in sentence
    assert "up to 4090 tokens in a chunk, measured up to 2160" in sentence


def test_an_iteration_is_shown_with_whose_times_it_has(cli: Cli, device: Path):
    shown = cli("estimators", "show", device, device, "--dtype", "fp32", "--decodes", 8, "--json")
    rows = {row["name"]: row for row in shown.summary["operations"]}
    measured = "toy engine 1, fastsim's profiler, a toy CPU, 2026-11-28"
    assert {row["source"] for row in rows.values()} == {measured}
    assert all(row["inside"] for row in rows.values())
    assert (rows["input_norm"]["operator"], rows["act"]["operator"]) == ("norm", "activation")


def test_its_estimators_are_listed_and_shown(cli: Cli, device: Path):
    assert cli("estimators", "list", "--device", device).out.split() == ["cpu", "fp32"]
    shown = cli("estimators", "show", "--device", device)
    assert "intervals hold" in shown.out
    assert "of unseen sizes" in shown.out
    report = json.loads(cli("estimators", "show", "--device", device, "--json").out)["cpu fp32"]
    assert report["gemm"]["regressor"]["kind"] == "linear"


def test_types_that_were_not_measured_are_refused(cli: Cli, device: Path):
    words = ("run", "--model", device, "--device", device)
    cli(*words).assert_refused("dtype 'bf16' has no matrix units on cpu", "choose one of fp32")
    cli(*words, "--dtype", "fp32", "--kv-dtype", "fp8").assert_refused("'cpu fp8' has no estimators", "cpu fp32")
    cli(*words, "--dtype", "fp32", "--tp", 2).assert_refused("tensor_parallel 2 is more than the 1 GPUs")


def test_a_profile_that_was_not_finished_is_refused(cli: Cli, tmp_path: Path):
    cli("run", "--device", tmp_path).assert_refused("is no finished profile", "it goes on where it stopped")
    cli("estimators", "list", "--device", tmp_path).assert_refused("is no finished profile")


def test_cached_tables_follow_what_is_in_the_directory_and_not_where_it_is(
    device: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model, copy = load_model(device), shutil.copytree(device, tmp_path / "copy")

    def kept(place: Path) -> int:
        IterationTables.build(model, place, dtype="fp32", **LIMITS)
        return len(list((tmp_path / "cache" / "fastsim" / "tables").glob("*.npy")))

    assert [kept(device), kept(copy)] == [1, 1]
    trained = copy / "estimators" / "cpu-fp32"
    shutil.copy(trained / "norm.onnx.xz", trained / "rope.onnx.xz")
    assert kept(copy) == 2
