"""The command line: what it prints, writes and refuses."""

import gzip
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path

import polars as pl
import pytest

from fastsim import __version__
from fastsim.cli import COMMANDS, main
from fastsim.commands import parsing
from fastsim.config import SimulationConfig
from fastsim.kernel.jit import DISABLED, cache_directory
from fastsim.options import ROUTERS
from fastsim.schedulers import SCHEDULERS

REPOSITORY = Path(__file__).resolve().parents[2]
TRACES = REPOSITORY.parent / "shared" / "data" / "traces"

# Warnings become notes on stderr, as in a process of their own; under the "error" of the other tests they would raise.
pytestmark = pytest.mark.filterwarnings("default::UserWarning")


@dataclass(frozen=True)
class Outcome:
    """What one call of the command did."""

    code: int
    out: str
    err: str

    @property
    def summary(self) -> dict:
        """The one JSON object on stdout."""
        assert self.code == 0, self.err
        return json.loads(self.out)

    @property
    def notes(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.startswith("fastsim: note: ")]

    def assert_refused(self, *words: str) -> None:
        """Exit code 2, one sentence on stderr beside the notes, nothing on stdout."""
        assert self.code == 2
        assert self.out == ""
        sentences = [line for line in self.err.splitlines() if line not in self.notes]
        assert len(sentences) == 1
        assert sentences[0].startswith("fastsim: ")
        assert sentences[0].endswith(".")
        for word in words:
            assert word in sentences[0]


Cli = Callable[..., Outcome]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Call the command in this process, without progress lines, whose appearance depends on the machine."""
    monkeypatch.setattr(parsing, "PATIENCE_S", 1e6)

    def call(*words: object) -> Outcome:
        capsys.readouterr()
        try:
            code = main([str(word) for word in words])
        except SystemExit as end:  # argparse, after --help
            code = end.code
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call


def process(*words: object, python: tuple[str, ...] = (), cwd: Path = REPOSITORY) -> Outcome:
    """Call the command in a process of its own."""
    done = subprocess.run(
        [sys.executable, *python, "-m", "fastsim", *map(str, words)],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def without_speed(summary: dict) -> dict:
    """A summary but for how long the simulation took."""
    speed = {"wall_s", "requests_per_s"}
    return summary | {"simulation": {k: v for k, v in summary["simulation"].items() if k not in speed}}


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
    assert "mean         p50         p90         p99" in outcome.out
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
def test_out_writes_three_files_from_which_the_run_repeats(cli: Cli, tmp_path: Path, settings: tuple):
    out = tmp_path / "out"
    first = cli("run", *settings, "--out", out, "--json").summary
    assert {path.name for path in out.iterdir()} == {"requests.parquet", "summary.json", "config.toml"}
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


def test_another_choice_leaves_the_options_of_the_file_behind(cli: Cli, tmp_path: Path):
    file = tmp_path / "settings.toml"
    file.write_text('[workload]\nrequests = 30\nlengths = {name = "fixed", prompt = 100, output = 10}\n')
    summary = cli("run", "--config", file, "--json", "--lengths", "azure_conv_2023").summary
    assert summary["workload"]["source"]["generator"]["lengths"] == "azure_conv_2023"


def test_record_batches_writes_a_row_per_iteration(cli: Cli, tmp_path: Path):
    summary = cli("run", "--requests", 50, "--record-batches", "--out", tmp_path, "--json").summary
    frame = pl.read_parquet(tmp_path / "batches.parquet")
    assert len(frame) == summary["simulation"]["iterations"]


# Real traces


@pytest.fixture
def make_trace(tmp_path: Path) -> Callable[..., Path]:
    """Write lines below the header of a Vidur trace."""

    def write(*lines: str, header: str = "arrived_at,num_prefill_tokens,num_decode_tokens") -> Path:
        path = tmp_path / "trace.csv"
        path.write_text("\n".join((header, *lines)) + "\n")
        return path

    return write


@pytest.mark.parametrize(
    "name",
    [
        "azure/AzureLLMInferenceTrace_conv.csv.gz",
        "azure/AzureLLMInferenceTrace_code.csv.gz",
        "vidur/splitwise_conv.csv.gz",
    ],
)
def test_public_traces_run_whole(cli: Cli, name: str):
    if not (TRACES / name).exists():
        pytest.skip(f"the public trace {name} is not in ../shared/data/traces")
    with gzip.open(TRACES / name) as file:
        rows = sum(1 for line in file if line.strip()) - 1
    summary = cli("run", "--trace", TRACES / name, "--json").summary
    assert summary["simulation"]["requests"] == summary["simulation"]["completed"] == rows > 5000
    assert summary["workload"]["source"]["file"] == Path(name).name


def test_a_long_trace_raises_max_model_len_with_a_note_unless_it_is_given(cli: Cli, make_trace: Callable[..., Path]):
    trace = make_trace("0.0,9000,100")
    outcome = cli("run", "--trace", trace, "--json")
    assert outcome.summary["config"]["max_model_len"] == 9100
    assert any("max_model_len raised from 8192 to 9100" in note for note in outcome.notes)
    cli("run", "--trace", trace, "--max-model-len", 8192).assert_refused("max_model_len 8192", "request 0", "9100")


def test_an_unsorted_trace_is_sorted_with_a_note(cli: Cli, make_trace: Callable[..., Path]):
    outcome = cli("run", "--trace", make_trace("2.0,10,3", "1.0,20,4", "3.0,30,5"), "--json")
    assert "fastsim: note: 1 of 3 requests were out of order; sorted by arrival" in outcome.err.splitlines()
    assert outcome.summary["workload"]["notes"] == ["1 of 3 requests were out of order; sorted by arrival"]


# Bad input

#: Words of the command line, and words of the one sentence: what is wrong, and what there is instead.
BAD_FLAGS = [
    (["--model", "Llama-9"], ["'Llama-9'", "meta-llama/Llama-3.1-8B", "microsoft/phi-2"]),
    (["--device", "abacus"], ["'abacus'", "a100_sxm, h100_sxm, h200_sxm"]),
    (["--scheduler", "fifo"], ["scheduler 'fifo'", "vllm_v1"]),
    (["--router", "dice"], ["router 'dice'", "random, round_robin"]),
    (["--engine", "magic"], ["engine 'magic'", "ideal"]),
    (["--arrivals", "tidal"], ["arrivals", "'tidal'", "gamma, poisson, static"]),
    (["--lengths", "long"], ["lengths", "'long'", "azure_conv_2023, fixed, lognormal"]),
    (["--arrivals", "gamma"], ["cv", "missing"]),
    (["--lengths", "fixed", "--lengths.prompt", "0", "--lengths.output", "1"], ["prompt", "0", "from 1"]),
    (["--lengths", "fixed", "--lengths.prompt", "10", "--lengths.output", "-1"], ["output", "-1", "from 1"]),
    (["--lengths", "fixed", "--lengths.prefill", "10"], ["prefill", "prompt, output"]),
    (["--scheduler.max-seqs", "3"], ["scheduler.max_seqs", "max_num_seqs, max_num_batched_tokens"]),
    (["--router.turn", "3"], ["router.turn", "round_robin has no fields"]),
    (["--scheduler.max-num-seqs"], ["scheduler.max-num-seqs", "has no value"]),
    (["--scheduler.max-num-seqs", "many"], ["scheduler.max_num_seqs 'many'", "whole number"]),
    (["--scheduler.max-num-seqs", "1e4"], ["max_num_batched_tokens", "2048", "10000"]),
    (["--requests", "0"], ["requests", "0"]),
    (["--requests", "-5"], ["requests", "-5"]),
    (["--requests", "2.5"], ["requests '2.5'", "whole number"]),
    (["--requests", "lots"], ["requests 'lots'", "whole number"]),
    (["--qps", "0"], ["qps", "0"]),
    (["--qps", "-3"], ["qps", "-3"]),
    (["--qps", "nan"], ["qps 'nan'", "finite"]),
    (["--seed", "-1"], ["seed", "-1", "0 or more"]),
    (["--tp", "3"], ["tp 3", "1, 2, 4, 8"]),
    (["--tp", "0"], ["tensor_parallel 0", "1 or more"]),
    (["--pp", "2"], ["pipeline_parallel 2", "give 1"]),
    (["--gpu-memory-utilization", "1.5"], ["gpu_memory_utilization 1.5"]),
    (["--dtype", "fp4"], ["dtype 'fp4'", "bf16"]),
    (["--model", "meta-llama/Llama-3.1-70B"], ["does not fit on h100_sxm", "GiB are missing", "tensor_parallel ="]),
    (["--num-kv-blocks", "1"], ["num_kv_blocks 1", "null block"]),
    (["--max-model-len", "1"], ["1", "give"]),
    (["--config", "/nowhere/a.toml"], ["config '/nowhere/a.toml'", "cannot be read"]),
    (["--trace", "/nowhere/a.csv"], ["'/nowhere/a.csv'", "cannot be read"]),
    (["--trace", "/"], ["'/'", "cannot be read"]),
    (["--request", "5"], ["--request 5", "--help"]),
    (["everything"], ["everything", "--help"]),
    (["--seed"], ["--seed", "--help"]),
]


@pytest.mark.parametrize(("flags", "words"), BAD_FLAGS, ids=["_".join(flags) for flags, _ in BAD_FLAGS])
def test_bad_flags_are_refused_in_one_sentence(cli: Cli, tmp_path: Path, flags: list[str], words: list[str]):
    cli("run", "--out", tmp_path / "out", *flags).assert_refused(*words)
    assert not list(tmp_path.glob("out/*"))


def test_bad_input_leaves_no_directory_behind(cli: Cli, tmp_path: Path):
    cli("run", "--out", tmp_path / "out", "--model", "Llama-9").assert_refused("Llama-9")
    assert list(tmp_path.iterdir()) == []


VIDUR = "arrived_at,num_prefill_tokens,num_decode_tokens"
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens"
#: Text of a trace, and words of the sentence beside the name of the file.
BAD_TRACES = {
    "negative arrival": (f"{VIDUR}\n0.0,10,5\n-1.0,10,5\n", ["line 3", "arrived_at", "-1.0"]),
    "NaN arrival": (f"{VIDUR}\nnan,10,5\n", ["line 2", "arrived_at", "nan"]),
    "infinite arrival": (f"{VIDUR}\ninf,10,5\n", ["line 2", "arrived_at", "inf"]),
    "arrival that is no number": (f"{VIDUR}\n0.0,10,5\nsoon,10,5\n", ["line 3", "arrived_at", "'soon'"]),
    "arrival that is no time": (f"{AZURE}\nyesterday,10,5\n", ["line 2", "TIMESTAMP", "'yesterday'"]),
    "zero prompt tokens": (f"{VIDUR}\n0.0,0,5\n", ["line 2", "num_prefill_tokens", "'0'"]),
    "zero output tokens": (f"{AZURE}\n2023-11-16 18:15:46.68,10,0\n", ["line 2", "GeneratedTokens", "'0'"]),
    "negative tokens": (f"{VIDUR}\n0.0,10,5\n0.5,10,-5\n", ["line 3", "num_decode_tokens", "'-5'"]),
    "half a token": (f"{VIDUR}\n0.0,10.5,5\n", ["line 2", "num_prefill_tokens", "'10.5'"]),
    "missing cell": (f"{VIDUR}\n0.0,10,5\n0.5,,5\n", ["line 3", "num_prefill_tokens", "empty"]),
    "truncated line": (f"{VIDUR}\n0.0,10,5\n0.5,1", ["line 3", "num_prefill_tokens", "2 cells"]),
    "cell too many": (f"{VIDUR}\n0.0,10,5,7\n", ["line 2", "4 cells"]),
    "unknown header": ("when,what\n1,2\n", ["line 1", "when,what", VIDUR, AZURE]),
    "header alone": (f"{VIDUR}\n", ["no requests"]),
    "empty file": ("", ["empty"]),
}


@pytest.mark.parametrize("fault", BAD_TRACES)
def test_bad_traces_are_refused_with_file_line_and_column(cli: Cli, tmp_path: Path, fault: str):
    text, words = BAD_TRACES[fault]
    trace = tmp_path / "trace.csv"
    trace.write_text(text)
    cli("run", "--trace", trace, "--out", tmp_path / "out").assert_refused(str(trace), *words)
    assert not list(tmp_path.glob("out/*"))


def test_a_truncated_gzip_file_is_refused_with_its_last_line(cli: Cli, tmp_path: Path):
    trace = tmp_path / "trace.csv.gz"
    whole = gzip.compress("\n".join([VIDUR, *(f"{i * 0.37:.6f},{i * 7919 % 997 + 1},5" for i in range(9999))]).encode())
    trace.write_bytes(whole[: len(whole) // 2])
    cli("run", "--trace", trace).assert_refused(str(trace), "cut short after line")


def test_requests_that_are_too_long_are_refused(cli: Cli, make_trace: Callable[..., Path]):
    trace = make_trace("0.0,10,5", "1.0,900,101")
    words = ["request 1 (900 prompt + 101 output tokens)"]
    cli("run", "--trace", trace, "--max-model-len", 1000).assert_refused("max_model_len 1000", "give 1001", *words)
    cli("run", "--trace", trace, "--num-kv-blocks", 63).assert_refused("num_kv_blocks 63", "give 64", *words)
    assert cli("run", "--trace", trace, "--num-kv-blocks", 64).code == 0


BAD_FILES = {
    "not TOML": ("replicas = = 3\n", ["config", "not TOML", "line 1"]),
    "unknown field": ("replica = 3\n", ["replica 3", "the fields are", "replicas"]),
    "wrong value": ("replicas = 0\n", ["replicas 0", "1 or more"]),
    "unknown option": ("[scheduler]\nmax_seqs = 3\n", ["scheduler.max_seqs 3", "max_num_seqs"]),
    "workload that is no table": ("workload = 3\n", ["workload 3", "[workload]"]),
    "wrong request": ('[workload]\nrequests = "few"\n', ["requests 'few'", "whole number"]),
}


@pytest.mark.parametrize("fault", BAD_FILES)
def test_bad_configuration_files_are_refused(cli: Cli, tmp_path: Path, fault: str):
    text, words = BAD_FILES[fault]
    file = tmp_path / "settings.toml"
    file.write_text(text)
    cli("run", "--config", file).assert_refused(*words)


def test_an_unwritable_directory_is_found_before_the_run(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def started(*_: object) -> None:
        raise AssertionError("the run has started")

    monkeypatch.setattr("fastsim.simulation.simulate", started)
    monkeypatch.setattr("fastsim.commands.run._prepare", started)
    (tmp_path / "file").write_text("in the way")
    for out in (tmp_path / "file", tmp_path / "file" / "out"):
        cli("run", "--out", out).assert_refused(f"out '{out}'", "cannot be written")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_bad_input_in_a_process_of_its_own(tmp_path: Path):
    outcome = process("run", "--device", "abacus", "--json", "--out", tmp_path / "out")
    outcome.assert_refused("device 'abacus'", "h100_sxm")
    assert not list(tmp_path.glob("out/*"))


def test_unknown_commands_list_the_known_ones(cli: Cli):
    cli("fly").assert_refused("'fly'", *COMMANDS)


# The cache of tables


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-9] ^= 0x40
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("pattern", "damage"),
    [("*.npy", cut_in_half), ("*.npy", flip_a_byte), ("*.npy", Path.unlink), ("*.json", cut_in_half)],
)
def test_a_damaged_cache_is_rebuilt_with_a_note(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, damage: Callable[[Path], None]
):
    cache_directory()  # the compiled kernels stay where they are
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    words = ("run", "--requests", 20, "--json", "--lengths", "azure_code_2023", "--scheduler.max-num-seqs", 8)
    first = cli(*words)
    assert first.notes == []
    (kept,) = (tmp_path / "fastsim" / "tables").glob(pattern)
    damage(kept)
    second, third = cli(*words), cli(*words)
    assert len(second.notes) == 1
    assert "built again" in second.notes[0]
    assert third.notes == []
    assert without_speed(first.summary) == without_speed(second.summary) == without_speed(third.summary)


@pytest.mark.skipif(DISABLED, reason="NUMBA_DISABLE_JIT is set")
def test_damaged_kernels_are_compiled_again_with_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    words = ("run", "--requests", 20, "--json")
    first = process(*words)
    for kept in (tmp_path / "fastsim" / "jit").rglob("*.nb?"):
        kept.write_bytes(b"damaged")
    second, third = process(*words), process(*words)
    assert any("compiled again" in note for note in second.notes)
    assert not third.notes
    assert without_speed(first.summary) == without_speed(second.summary) == without_speed(third.summary)


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
    (behind,) = (value for name, value in vars(module).items() if name.endswith("Command") and is_dataclass(value))
    for spec in fields(behind):
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
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fastsim.simulation.simulate", interrupted)
    outcome = cli("run", "--requests", 10)
    assert (outcome.code, outcome.out, outcome.err) == (130, "", "fastsim: interrupted\n")


def test_our_own_faults_are_not_dressed_up_as_bad_input(cli: Cli, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object) -> None:
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
        (device, "bf16") for device in ("a100_sxm", "h100_sxm", "h200_sxm")
    }
    assert cli("estimators").out == cli("estimators", "list").out
    shown = json.loads(cli("estimators", "show", "--device", "h100_sxm", "--json").out)
    assert set(shown) == {"h100_sxm bf16"}
    assert set(shown["h100_sxm bf16"]) == {"gemm", "prefill_attention", "decode_attention", "all_reduce"}
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
    ],
)
def test_bad_words_of_estimators_are_refused(cli: Cli, words: list[str], expected: list[str]):
    cli("estimators", *words).assert_refused(*expected)


def test_listing_the_estimators_of_an_unknown_device_is_refused(cli: Cli):
    cli("estimators", "list", "--device", "abacus").assert_refused("abacus", "h100_sxm")


# Start-up


def imported_packages(outcome: Outcome) -> set[str]:
    """Top-level names of what ``python -X importtime`` reports."""
    assert outcome.code == 0
    lines = [line for line in outcome.err.splitlines() if line.startswith("import time:")]
    assert len(lines) > 50
    return {line.rsplit("|", 1)[1].strip().partition(".")[0] for line in lines}


@pytest.mark.skipif(DISABLED, reason="NUMBA_DISABLE_JIT is set")
def test_help_loads_nothing_heavy():
    assert not imported_packages(process("--help", python=("-X", "importtime"))) & {"numpy", "numba", "polars"}


@pytest.mark.skipif(DISABLED, reason="NUMBA_DISABLE_JIT is set")
def test_a_cached_run_loads_no_estimators(cli: Cli):
    assert cli("run", "--requests", 20).code == 0  # now the tables are cached
    loaded = imported_packages(process("run", "--requests", 20, python=("-X", "importtime")))
    assert "numba" in loaded
    assert not loaded & {"sklearn", "onnxruntime", "onnx", "skl2onnx"}
