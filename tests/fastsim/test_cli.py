"""The command line: what it prints and writes, and how it starts and ends."""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import polars as pl
import pytest
from cli_calls import REPOSITORY, Cli, Outcome, process, without_speed

from fastsim import __version__
from fastsim.cli import COMMANDS
from fastsim.commands.estimators import _OF_ACTION, EstimatorsCommand
from fastsim.config import SimulationConfig
from fastsim.kernel.jit import DISABLED
from fastsim.options import ROUTERS
from fastsim.schedulers import SCHEDULERS

# Warnings become notes on stderr, as in a process of their own; under the "error" of the other tests they would raise.
pytestmark = pytest.mark.filterwarnings("default::UserWarning")


# The main job


def test_bare_run_with_json_prints_one_object_and_nothing_else():
    outcome = process("run", "--requests", "200", "--json")
    assert set(outcome.summary) >= {"config", "versions", "replicas", "simulation", "metrics"}
    assert outcome.out.count("\n") == 1
    assert outcome.summary["simulation"]["completed"] == 200
    assert all(line.startswith("fastsim: ") for line in outcome.err.splitlines())


def test_bare_run_prints_a_readable_summary(cli: Cli):
    outcome = cli("run", "--requests", "1e3")
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    assert all(len(line) <= 120 for line in lines)
    for word in ("TTFT", "TPOT", "TBT", "E2E", "scheduling delay", "throughput", "KV cache", "preemptions", "batch"):
        assert any(word in line for line in lines)
    assert lines[2].split() == ["mean", "p50", "p90", "p99", "from", "least", "to", "most"]
    assert "1,000 requests" in lines[0]
    assert lines[-1].startswith("simulated in ")
    assert lines[-1].endswith(" requests/s")


def test_a_summary_without_second_tokens_has_no_tpot(cli: Cli):
    words = ("run", "--requests", 50, "--lengths", "fixed", "--lengths.prompt", 100, "--lengths.output", 1)
    line = next(line for line in cli(*words).out.splitlines() if line.startswith("TPOT"))
    assert line.split()[1:5] == ["-", "-", "-", "-"]
    assert cli(*words, "--json").summary["metrics"]["tpot_s"]["mean"] is None


def test_the_seed_decides(cli: Cli):
    first, same, other = (cli("run", "--requests", 300, "--json", "--seed", seed).summary for seed in (3, 3, 4))
    assert without_speed(first) == without_speed(same)
    assert first["metrics"]["e2e_s"] != other["metrics"]["e2e_s"]
    assert first["hashes"]["workload"] != other["hashes"]["workload"]


def test_a_process_of_its_own_gives_the_same_numbers(cli: Cli):
    words = ("run", "--requests", 300, "--seed", 9, "--json")
    assert without_speed(process(*words).summary) == without_speed(cli(*words).summary)


def test_flags_reach_the_configuration(cli: Cli):
    summary = cli(
        *("run", "--requests", 20, "--json", "--model", "Qwen2.5-7B", "--device", "a100_sxm", "--tp", 2),
        *("--replicas", 3, "--router", "least_outstanding", "--max-model-len", 4096, "--num-kv-blocks", 5000),
        *("--scheduler.max-num-seqs", 64, "--scheduler.enable-chunked-prefill=true", "--no-keep-requests"),
    ).summary
    expected = SimulationConfig(
        model="Qwen2.5-7B",
        device="a100_sxm",
        tensor_parallel=2,
        replicas=3,
        router="least_outstanding",
        max_model_len=4096,
        num_kv_blocks=5000,
        scheduler_options={"max_num_seqs": 64},
        keep_requests=False,
    )
    assert summary["config"] == expected.to_dict()
    assert [replica["kv_blocks"] for replica in summary["replicas"]] == [4999] * 3


# Files

#: Settings that differ from every default that matters.
UNUSUAL = (
    *("--requests", 400, "--seed", 11, "--qps", 30.5, "--arrivals", "gamma", "--arrivals.cv", 2.5),
    *("--lengths", "lognormal", "--lengths.prompt-mean", 500, "--lengths.prompt-cv", 1),
    *("--lengths.output-mean", 100, "--lengths.output-cv", 0.5, "--tp", 2, "--replicas", 2, "--max-model-len", 4096),
    *("--router", "least_outstanding", "--scheduler.max-num-seqs", 32, "--scheduler.max-num-batched-tokens", 512),
    *("--gpu-memory-utilization", 0.85, "--block-size", 32),
)


@pytest.mark.parametrize("settings", [("--requests", 300), UNUSUAL], ids=["default", "unusual"])
def test_out_writes_files_from_which_the_run_repeats(cli: Cli, tmp_path: Path, settings: tuple):
    out = tmp_path / "out"
    first = cli("run", *settings, "--out", out, "--json").summary
    names = {"requests.parquet", "timeseries.parquet", "summary.json", "config.toml"}
    assert {path.name for path in out.iterdir()} == names
    assert json.loads((out / "summary.json").read_text()) == first
    frame = pl.read_parquet(out / "requests.parquet")
    assert frame["e2e_s"].mean() == pytest.approx(first["metrics"]["e2e_s"]["mean"])
    again = process("run", "--config", out / "config.toml", "--json", cwd=tmp_path).summary
    assert again["metrics"] == first["metrics"]
    assert without_speed(again) == without_speed(first)


def test_a_replayed_trace_repeats_from_another_directory(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_trace: Callable[..., Path]
):
    trace = make_trace("0.5,100,20", "1.0,9000,3")
    monkeypatch.chdir(trace.parent)
    first = cli("run", "--trace", trace.name, "--out", tmp_path / "out", "--json").summary
    monkeypatch.chdir("/")
    again = cli("run", "--config", tmp_path / "out" / "config.toml", "--json").summary
    assert without_speed(again) == without_speed(first)


def test_flags_override_the_file(cli: Cli, tmp_path: Path):
    file = tmp_path / "settings.toml"
    file.write_text(
        'replicas = 2\nseed = 5\nscheduler = {name = "vllm_v1", max_num_seqs = 8, max_num_batched_tokens = 512}\n'
        "[workload]\nrequests = 30\n"
    )
    given = cli("run", "--config", file, "--json").summary
    assert (given["config"]["replicas"], given["config"]["seed"], given["simulation"]["requests"]) == (2, 5, 30)
    changed = cli(
        "run", f"--config={file}", "--json", "--replicas", 3, "--requests", 20, "--scheduler.max-num-seqs", 4
    ).summary
    assert (changed["config"]["replicas"], changed["config"]["seed"], changed["simulation"]["requests"]) == (3, 5, 20)
    assert changed["config"]["scheduler"]["max_num_seqs"] == 4
    assert changed["config"]["scheduler"]["max_num_batched_tokens"] == 512


def test_flags_replace_the_workload_of_the_file(cli: Cli, tmp_path: Path, make_trace: Callable[..., Path]):
    """A trace takes the place of generated requests, and the other way round."""
    trace, generated, replayed = make_trace("0.0,10,5", "1.0,20,5"), tmp_path / "generated", tmp_path / "replayed"
    lengths = ("--lengths", "fixed", "--lengths.prompt", "30", "--lengths.output", "3")
    cli("run", "--requests", 9, "--qps", 4, *lengths, "--out", generated)
    instead = cli("run", "--config", generated / "config.toml", "--trace", trace, "--json", "--out", replayed).summary
    assert instead["simulation"]["requests"] == 2
    assert cli("run", "--config", replayed / "config.toml", "--json").summary["simulation"]["requests"] == 2
    back = cli("run", "--config", replayed / "config.toml", "--json", "--requests", 9, "--qps", 4, *lengths).summary
    assert without_speed(back) == without_speed(cli("run", "--config", generated / "config.toml", "--json").summary)


def test_another_choice_leaves_the_options_of_the_file_behind(cli: Cli, tmp_path: Path):
    file = tmp_path / "settings.toml"
    file.write_text('[workload]\nrequests = 30\nlengths = {name = "fixed", prompt = 100, output = 10}\n')
    summary = cli("run", "--config", file, "--json", "--lengths", "azure_conv_2023").summary
    assert summary["workload"]["source"]["generator"]["lengths"] == "azure_conv_2023"


def test_record_batches_writes_a_row_per_iteration(cli: Cli, tmp_path: Path):
    summary = cli("run", "--requests", 50, "--record-batches", "--out", tmp_path, "--json").summary
    # The configuration of a run that wrote them repeats it without writing anything.
    again = cli("run", "--config", tmp_path / "config.toml", "--json").summary
    assert again["metrics"] == summary["metrics"]
    frame = pl.read_parquet(tmp_path / "batches.parquet")
    assert len(frame) == summary["simulation"]["iterations"]


# What a run is made of


def test_the_context_is_no_longer_than_the_model_was_made_for(cli: Cli):
    words = ("run", "--model", "phi-2", "--device", "a100_sxm", "--requests", 20, "--json")
    assert cli(*words).summary["config"]["max_model_len"] == 2048


def test_a_model_of_ones_own_repeats_from_another_directory(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    shape = {"hidden_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4}
    shape |= {"intermediate_size": 512, "vocab_size": 1000, "max_position_embeddings": 8192}
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], **shape}))
    monkeypatch.chdir(tmp_path)
    first = cli("run", "--model", "config.json", "--requests", 20, "--out", "out", "--json")
    monkeypatch.chdir("/")
    second = cli("run", "--config", tmp_path / "out" / "config.toml", "--json")
    assert without_speed(first.summary)["metrics"] == without_speed(second.summary)["metrics"]


@pytest.mark.parametrize("words", [("--lengths", "fixed"), ("--arrivals", "gamma"), ("--arrivals.cv", "3")])
def test_a_trace_has_its_own_arrivals_and_lengths(cli: Cli, make_trace: Callable[..., Path], words: tuple[str, ...]):
    cli("run", "--trace", make_trace("0.0,10,5"), *words).assert_refused("trace")


def test_a_trace_can_be_cut_and_sped_up(cli: Cli, make_trace: Callable[..., Path]):
    trace = make_trace("0.0,10,5", "1.0,10,5", "2.0,10,5")
    summary = cli("run", "--trace", trace, "--requests", 2, "--qps", 4, "--json").summary
    assert summary["simulation"]["requests"] == 2
    assert summary["workload"]["source"]["scaled_to_qps"] == 4


def test_rows_that_have_nowhere_to_go_are_refused(cli: Cli):
    cli("run", "--record-batches").assert_refused("record_batches", "--out")
    cli("run", "--out", "").assert_refused("out")


def test_estimators_of_a_dtype_that_there_is_not_are_refused(cli: Cli):
    cli("estimators", "show", "--dtype", "fp4").assert_refused("fp4", "h100_sxm bf16")


# Help, versions and ends


def test_with_stages_requests_are_counted_in_flight(cli: Cli):
    words = ("run", "--requests", 30, "--lengths", "fixed", "--lengths.prompt", 9, "--lengths.output", 9)
    assert " requests on average" in cli(*words).out
    assert " requests in flight on average" in cli(*words, "--pp", 2).out


def test_version_and_bare_command(cli: Cli):
    assert cli("--version").out == f"fastsim {__version__}\n"
    bare = cli()
    assert bare.code == 0
    assert bare.out == cli("--help").out
    assert all(command in bare.out for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_mentions_every_field(cli: Cli, command: str):
    outcome = cli(command, "--help")
    assert outcome.code == 0
    module = importlib.import_module(f"fastsim.commands.{command}")
    for spec in fields(getattr(module, f"{command.capitalize()}Command")):
        assert spec.name.replace("_", "-") in outcome.out.lower()


def test_help_of_run_covers_the_configuration_and_its_choices(cli: Cli):
    text = cli("run", "--help").out
    for spec in fields(SimulationConfig):
        if not spec.name.endswith("_options"):
            assert spec.name.replace("_", "-") in text
    for kind, choices in (("scheduler", SCHEDULERS), ("router", ROUTERS)):
        for name, choice in choices.items():
            assert name in text
            for spec in fields(choice):
                assert f"--{kind}.{spec.name.replace('_', '-')}" in text


def test_help_of_run_covers_the_choices_of_the_workload(cli: Cli):
    from traces.arrivals import ARRIVALS
    from traces.lengths import LENGTHS

    text = cli("run", "--help").out
    for kind, choices in (("arrivals", ARRIVALS), ("lengths", LENGTHS)):
        for name, choice in choices.items():
            assert name in text
            for spec in fields(choice):
                assert spec.name == "qps" or f"--{kind}.{spec.name.replace('_', '-')}" in text


def test_an_interrupt_ends_with_130(cli: Cli, monkeypatch: pytest.MonkeyPatch):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fastsim.simulation.simulate", interrupted)
    outcome = cli("run", "--requests", 10)
    assert (outcome.code, outcome.out, outcome.err) == (130, "", "fastsim: interrupted\n")


def test_our_own_faults_are_not_dressed_up_as_bad_input(cli: Cli, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object, **__: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr("fastsim.simulation.simulate", broken)
    with pytest.raises(ValueError, match="a bug"):
        cli("run", "--requests", 10)


def test_a_reader_that_has_seen_enough_is_no_fault():
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "fastsim", "run", "--requests", "20"],
            stdout=closed,
            stderr=subprocess.PIPE,
            cwd=REPOSITORY,
            text=True,
            check=False,
        )
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


# fastsim estimators


def test_estimators_are_listed_and_shown(cli: Cli):
    listed = json.loads(cli("estimators", "list", "--json").out)
    assert {(entry["device"], entry["dtype"]) for entry in listed} >= {
        *((device, "bf16") for device in ("a100_sxm", "h100_sxm", "h200_sxm")),
        *((device, "fp8") for device in ("h100_sxm", "h200_sxm")),
    }
    assert cli("estimators").out == cli("estimators", "list").out
    shown = json.loads(cli("estimators", "show", "--device", "h100_sxm", "--json").out)
    assert set(shown) >= {"h100_sxm bf16", "h100_sxm fp8"}
    assert all(name.startswith("h100_sxm ") for name in shown)
    assert set(shown["h100_sxm bf16"]) >= {"gemm", "prefill_attention", "decode_attention", "moe", "all_reduce"}
    assert "all_reduce" not in shown["h100_sxm fp8"]  # what is sent is always of 16 bits
    of_fp8 = set(json.loads(cli("estimators", "show", "--dtype", "fp8", "--json").out))
    assert of_fp8 >= {"h100_sxm fp8", "h200_sxm fp8"}
    assert all(name.endswith(" fp8") for name in of_fp8)
    text = cli("estimators", "show", "--device", "h100_sxm").out
    assert all(operator in text for operator in shown["h100_sxm bf16"])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["fly"], ["action 'fly'", "list, show or train"]),
        (["show", "--device", "abacus"], ["abacus", "h100_sxm"]),
        (["show", "--device", "h100_sxm", "--dtype", "fp4"], ["fp4", "h100_sxm bf16"]),
        (["train"], ["device", "is not given"]),
        (["train", "--device", "h100_sxm"], ["out", "is not given"]),
        (["list", "--plot", "a.html"], ["plot 'a.html' means nothing to list", "show or train"]),
        (["show", "--out", "zoo"], ["out 'zoo' means nothing to show;", "train"]),
        (["show", "--decodes", "8"], ["decodes '8' means nothing to show;", "choose show of a model"]),
        (["train", "--decodes", "8"], ["decodes '8' means nothing to train", "choose show of a model"]),
    ],
)
def test_bad_words_of_estimators_are_refused(cli: Cli, words: list[str], expected: list[str]):
    cli("estimators", *words).assert_refused(*expected)


def test_flags_belong_to_all_actions_or_to_some():
    names = {spec.name for spec in fields(EstimatorsCommand)}
    assert names - set(_OF_ACTION) == {"action", "device", "dtype", "json"}
    assert {action for actions in _OF_ACTION.values() for action in actions} == {
        "list",
        "show",
        "show of a model",
        "train",
    }


def test_an_iteration_is_shown_operator_by_operator(cli: Cli):
    words = ("estimators", "show", "Llama-3.1-8B", "h100_sxm", "--decodes", 8, "--chunks", "256", "--json")
    found = json.loads(cli(*words).out)
    rows = {row["name"]: row for row in found["operations"]}
    assert rows["qkv_proj"]["layers"] == 32
    assert rows["decode_attention"]["inside"]
    assert rows["prefill_attention"]["source"].startswith("vllm")
    assert sum(row["share"] for row in rows.values()) == pytest.approx(1)
    assert found["iteration_s"] == pytest.approx(sum(row["seconds"] for row in rows.values()))


def test_intervals_are_printed_and_written(cli: Cli, tmp_path: Path):
    words = ("run", "--requests", 30, "--max-model-len", 1024, "--lengths", "fixed", "--lengths.prompt", 100)
    words += ("--lengths.output", 10, "--num-kv-blocks", 600, "--out", tmp_path)
    words += ("--scheduler.max-num-seqs", 8, "--scheduler.max-num-batched-tokens", 128)
    outcome = cli(*words, "--intervals", "--json")
    low, high = outcome.summary["intervals"]["metrics"]["tpot_s"]["p50"]
    estimate = outcome.summary["metrics"]["tpot_s"]["p50"]
    assert estimate * 0.7 < low < estimate < high < estimate * 1.4
    assert json.loads((tmp_path / "summary.json").read_text()) == outcome.summary
    again = cli("run", "--config", tmp_path / "config.toml")
    assert "intervals" not in again.out
    cli("run", "--intervals", "--parity", "vidur", "--scheduler", "sarathi").assert_refused("intervals", "parity")


def test_listing_the_estimators_of_an_unknown_device_is_refused(cli: Cli):
    cli("estimators", "list", "--device", "abacus").assert_refused("abacus", "h100_sxm")


# Start-up


def imported_packages(outcome: Outcome) -> set[str]:
    """Top-level names of what ``python -X importtime`` reports."""
    assert outcome.code == 0
    lines = [line for line in outcome.err.splitlines() if line.startswith("import time:")]
    names = {line.rsplit("|", 1)[1].strip().partition(".")[0] for line in lines}
    assert "fastsim" in names  # else the report was not understood
    return names


@pytest.mark.skipif(DISABLED, reason="NUMBA_DISABLE_JIT is set")
def test_help_loads_nothing_heavy():
    assert not imported_packages(process("--help", python=("-X", "importtime"))) & {"numpy", "numba", "polars"}


@pytest.mark.skipif(DISABLED, reason="NUMBA_DISABLE_JIT is set")
def test_a_cached_run_loads_no_estimators(cli: Cli):
    assert cli("run", "--requests", 20).code == 0  # now the tables are cached
    loaded = imported_packages(process("run", "--requests", 20, python=("-X", "importtime")))
    assert "numba" in loaded
    assert not loaded & {"sklearn", "onnxruntime", "onnx", "skl2onnx"}


def test_memory_that_does_not_suffice_is_told_in_one_sentence(cli: Cli, monkeypatch: pytest.MonkeyPatch):
    def too_much(words: list[str]) -> int:
        raise MemoryError("Unable to allocate 16.0 GiB for an array")

    monkeypatch.setattr("fastsim.commands.run.main", too_much)
    cli("run").assert_refused("memory does not suffice (Unable to allocate 16.0 GiB for an array)")
