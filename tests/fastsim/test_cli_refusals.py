"""The command line: what it refuses, and what it mends with a note."""

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_calls import Cli, process, without_speed

from fastsim.cli import COMMANDS
from fastsim.kernel.jit import DISABLED, cache_directory

# Warnings become notes on stderr, as in a process of their own; under the "error" of the other tests they would raise.
pytestmark = pytest.mark.filterwarnings("default::UserWarning")


# Bad input

#: Words of the command line, and words of the one sentence: what is wrong, and what there is instead.
BAD_FLAGS = [
    (["--model", "Llama-9"], ["'Llama-9'", "meta-llama/Llama-3.1-8B"]),
    (["--device", "abacus"], ["'abacus'", "a100_sxm, b200_sxm, h100_sxm"]),
    (["--scheduler", "fifo"], ["scheduler 'fifo'", "vllm_v1"]),
    (["--router", "dice"], ["router 'dice'", "random, round_robin"]),
    (["--engine", "magic"], ["engine 'magic'", "ideal"]),
    (["--engine", "vllm-0.19", "--queue", "priority"], ["queue 'priority'", "asynchronous"]),
    (["--engine", "sglang-0.5"], ["engine 'sglang-0.5'", "vllm_v1"]),
    (["--engine.launch-s", "-1"], ["engine.launch_s -1.0", "0 to 3600"]),
    (["--client", "closed"], ["client.concurrency 0", "such as 64"]),
    (["--client", "closed", "--client.concurrency", "4", "--qps", "3"], ["qps", "closed clients"]),
    (["--client.concurrency", "4"], ["client.concurrency 4", "open has no fields"]),
    (["--arrivals", "tidal"], ["arrivals", "'tidal'", "poisson, replay, static, trace"]),
    (["--lengths", "long"], ["lengths", "'long'", "correlated, empirical, fixed, lognormal"]),
    (["--arrivals", "gamma"], ["cv", "missing"]),
    (["--lengths", "fixed", "--lengths.prompt", "0", "--lengths.output", "1"], ["prompt", "0", "from 1"]),
    (["--lengths", "fixed", "--lengths.prompt", "10", "--lengths.output", "-1"], ["output", "-1", "from 1"]),
    (["--lengths", "fixed", "--lengths.prefill", "10"], ["prefill", "prompt, output"]),
    (["--scheduler.max-seqs", "3"], ["scheduler.max_seqs", "max_num_seqs, max_num_batched_tokens"]),
    (["--router.turn", "3"], ["router.turn", "round_robin has no fields"]),
    (["--scheduler.max-num-seqs"], ["scheduler.max-num-seqs", "has no value"]),
    (["--scheduler.max-num-seqs", "many"], ["scheduler.max_num_seqs 'many'", "whole number"]),
    (["--scheduler.max-num-seqs", "1e4"], ["max_num_batched_tokens", "2048", "10000"]),
    (["--requests", "0"], ["requests 0 is too small", "1 or more"]),
    (["--requests", "-5"], ["requests -5 is too small"]),
    (["--requests", "2.5"], ["requests '2.5'", "whole number"]),
    (["--requests", "lots"], ["requests 'lots'", "whole number"]),
    (["--qps", "0"], ["qps", "0"]),
    (["--qps", "-3"], ["qps", "-3"]),
    (["--qps", "nan"], ["qps 'nan'", "finite"]),
    (["--class-shares", "0.2,0.7"], ["class_shares", "sums to 0.9", "sum to 1"]),
    (["--class-shares", "1.5,-0.5"], ["class_shares", "-0.5 at index 1", "above 0"]),
    (["--class-shares", "few,many"], ["class_shares 'few'", "finite number"]),
    (["--class-shares", ""], ["class_shares ''", "finite number"]),
    (["--arrivals", "trace", "--arrivals.path", "5"], ["path is 5", "CSV file"]),
    (["--lengths", "trace", "--lengths.path", "null"], ["path is None", "CSV file"]),
    (["--trace.prompt-scale", "2"], ["trace.prompt_scale 2", "without a trace", "--trace FILE"]),
    (["--queue", "lifo"], ["queue 'lifo'", "fcfs, priority, sjf"]),
    (["--queue", "sjf", "--queue.prediction-error", "-1"], ["queue.prediction_error -1.0", "give 0"]),
    (["--queue.prediction-error", "1"], ["queue.prediction_error 1", "fcfs has no fields"]),
    (["--scheduler.preemption-mode", "drop"], ["scheduler.preemption_mode 'drop'", "recompute, swap"]),
    (["--scheduler", "orca", "--scheduler.preemption-mode", "swap"], ["preemption_mode", "fields of orca are"]),
    (["--scheduler.enable-chunked-prefill", "false"], ["max_num_batched_tokens 2048", "max_model_len = 8192"]),
    (["--scheduler", "sarathi", "--pp", "8", "--scheduler.max-num-seqs", "4"], ["max_num_seqs 4", "micro-batch"]),
    (["--seed", "-1"], ["seed", "-1", "0 or more"]),
    (["--tp", "3"], ["tp 3", "1, 2, 4, 8"]),
    (["--tp", "0"], ["tensor_parallel 0", "1 or more"]),
    (["--pp", "0"], ["pipeline_parallel 0", "1 or more"]),
    (["--pp", "40"], ["pipeline_parallel 40", "32 layers", "give 32 or less"]),
    (["--tp", "16"], ["tensor_parallel 16", "8 GPUs of a h100_sxm node", "pipeline_parallel"]),
    (["--pp", "2", "--scheduler", "lightllm", "--block-size", "1"], ["pipeline_parallel 2", "lightllm", "give 1"]),
    (["--gpu-memory-utilization", "1.5"], ["gpu_memory_utilization 1.5"]),
    (["--dtype", "fp4"], ["dtype 'fp4'", "bf16"]),
    (["--dtype", "nvfp4"], ["dtype 'nvfp4'", "no matrix units on h100_sxm"]),
    (["--model", "gpt-oss-20b"], ["dtype 'bf16'", "gpt-oss-20b", "give auto or mxfp4"]),
    (["--expert-load", "zipf"], ["expert_load 'zipf'", "power_law_1.2, power_law_1.01 or balanced"]),
    (["--expert-load", "balanced"], ["expert_load 'balanced' needs experts"]),
    (["--expert-exchange", "all_to_all"], ["expert_exchange 'all_to_all'", "data_parallel"]),
    (["--model", "meta-llama/Llama-3.1-70B"], ["does not fit on h100_sxm", "GiB are missing", "tensor_parallel ="]),
    (["--num-kv-blocks", "1"], ["num_kv_blocks 1", "null block"]),
    (["--max-model-len", "1"], ["max_model_len 1", "give 2 or more"]),
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


def test_a_trace_is_never_looped(cli: Cli, make_trace: Callable[..., Path]):
    trace = make_trace("0.0,10,5", "1.0,10,5")
    cli("run", "--trace", trace, "--requests", 3).assert_refused("requests 3 is more than the 2", "give 2 or less")


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
    "shares of no number": ('[workload]\nclass_shares = [0.5, "half"]\n', ["class_shares", "'half' at index 1"]),
    "shares that are no list": ("[workload]\nclass_shares = 0.5\n", ["class_shares is 0.5", "sum to 1"]),
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
    monkeypatch.setattr("fastsim.commands.run.prepare", started)
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


SMALL_KERNELS = ("columns.", "routing.")


@pytest.mark.skipif(DISABLED, reason="NUMBA_DISABLE_JIT is set")
def test_damaged_kernels_are_compiled_again_with_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    words = ("run", "--requests", 20, "--json")
    first = process(*words)
    copy = tmp_path / "fastsim" / "jit" / cache_directory().name
    shutil.copytree(cache_directory(), copy, ignore=shutil.ignore_patterns("*.tmp"))  # what others write just now
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    # Small ones, because the loop takes long.
    damaged = [path for path in copy.glob("*.kernel") if path.name.startswith(SMALL_KERNELS)]
    assert damaged
    for kept in damaged:
        kept.write_bytes(b"damaged")
    second, third = process(*words), process(*words)
    assert any("compiled again" in note for note in second.notes)
    assert not third.notes
    assert without_speed(first.summary) == without_speed(second.summary) == without_speed(third.summary)
