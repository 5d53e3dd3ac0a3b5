"""``fastsim run --vidur-config`` and ``--parity``."""

import json
from pathlib import Path

import polars as pl
import pytest
from cli_calls import TRACES, Cli, without_speed
from vidur_files import write_vidur

TRACE = "arrived_at,num_prefill_tokens,num_decode_tokens\n0,50,5\n1,60,6\n2.5,3000,7\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_vidur(tmp_path / "config.json")


def test_by_our_rules(cli: Cli, config: Path):
    summary = cli("run", "--vidur-config", config, "--json").summary
    assert summary["simulation"]["completed"] == 60
    assert summary["config"]["router"]["name"] == "least_outstanding"
    assert summary["config"]["parity"] is None
    assert summary["workload"]["source"]["generator"]["lengths"] == "fixed"


def test_by_vidurs_rules_and_again(cli: Cli, config: Path, tmp_path: Path):
    out = tmp_path / "out"
    words = ("run", "--vidur-config", config, "--parity", "vidur", "--json", "--record-batches", "--out", out)
    summary = cli(*words).summary
    assert summary["config"]["parity"]["nccl_cpu_launch_overhead_ms"] == 0.05
    assert summary["simulation"]["completed"] == 60
    assert pl.read_parquet(out / "requests.parquet")["execution_time_s"].min() > 0
    assert pl.read_parquet(out / "batches.parquet").height == summary["simulation"]["iterations"]
    again = cli("run", "--config", out / "config.toml", "--json", "--out", tmp_path / "again").summary
    assert without_speed(again) == without_speed(summary)
    assert json.loads((out / "summary.json").read_text()) == summary


def test_flags_override_the_file(cli: Cli, config: Path):
    words = ("--parity", "vidur", "--requests", "7", "--scheduler.chunk-size", "99", "--parity.time-limit-s", "50")
    summary = cli("run", "--vidur-config", config, "--json", *words, "--router", "random", "--pp", "2").summary
    assert summary["simulation"]["requests"] == 7
    assert summary["config"]["scheduler"]["chunk_size"] == 99
    assert summary["config"]["scheduler"]["max_num_seqs"] == 64
    assert summary["config"]["parity"]["time_limit_s"] == 50
    assert (summary["config"]["router"]["name"], summary["config"]["pipeline_parallel"]) == ("random", 2)


def test_parity_without_a_file(cli: Cli):
    words = ("run", "--parity", "vidur", "--scheduler", "orca", "--scheduler.max-num-seqs", "8", "--router", "lor")
    sizes = ("--max-model-len", "4096", "--replicas", "2", "--requests", "50", "--qps", "3", "--json")
    assert cli(*words, *sizes).summary["simulation"]["completed"] == 50


def test_the_table_of_text(cli: Cli, config: Path):
    outcome = cli("run", "--vidur-config", config, "--parity", "vidur")
    assert outcome.out.startswith("meta-llama/Llama-2-70b-hf on 2 replicas of 4 a100_sxm, sarathi, 60 requests in")


def test_a_trace_that_is_not_there(cli: Cli, tmp_path: Path):
    lengths = {"name": "trace", "trace_file": "data/processed_traces/mine.csv", "prefill_scale_factor": 1.0}
    config = write_vidur(tmp_path / "config.json", whole={"lengths": lengths})
    refused = cli("run", "--vidur-config", config)
    refused.assert_refused("mine.csv", "neither beside the configuration nor in the working directory", "--trace FILE")
    (tmp_path / "elsewhere.csv").write_text(TRACE)
    elsewhere = tmp_path / "elsewhere.csv"
    drawn = cli("run", "--vidur-config", config, "--lengths.path", elsewhere, "--json").summary
    assert drawn["workload"]["source"]["generator"]["length_options"]["max_total"] == 2048
    assert drawn["simulation"]["requests"] == 60
    replayed = cli("run", "--vidur-config", config, "--trace", elsewhere, "--json")
    assert replayed.summary["simulation"]["requests"] == 3
    assert replayed.notes == ["fastsim: note: 1 of 3 requests were cut to 2048 tokens"]


def test_replaying_a_trace(cli: Cli, tmp_path: Path):
    replay = {"name": "trace_replay", "trace_file": "x/mine.csv", "time_scale_factor": 2.0, "max_tokens": 4096}
    config = write_vidur(tmp_path / "config.json", whole={"requests": replay})
    cli("run", "--vidur-config", config).assert_refused("x/mine.csv", "give it with --trace FILE")
    (tmp_path / "moved.csv").write_text(TRACE)
    # The same trace elsewhere: the file's factors hold.
    out = tmp_path / "out"
    moved = cli("run", "--vidur-config", config, "--trace", tmp_path / "moved.csv", "--json", "--out", out).summary
    assert pl.read_parquet(out / "requests.parquet")["arrival_s"].to_list() == [0.0, 2.0, 5.0]
    again = cli("run", "--config", out / "config.toml", "--json").summary
    assert without_speed(again) == without_speed(moved)
    (tmp_path / "moved.csv").rename(tmp_path / "mine.csv")
    found = cli("run", "--vidur-config", config, "--json", "--trace.output-scale", "2").summary
    assert found["workload"]["source"]["resized"]["output_scale"] == 2
    assert found["workload"]["source"]["resized"]["time_scale"] == 2


def test_an_embedded_trace_is_noted(cli: Cli, tmp_path: Path):
    lengths = {"name": "trace", "trace_file": "data/processed_traces/splitwise_conv.csv", "decode_scale_factor": 1}
    config = write_vidur(tmp_path / "config.json", whole={"lengths": lengths})
    outcome = cli("run", "--vidur-config", config, "--json")
    assert outcome.summary["workload"]["source"]["generator"]["lengths"] == "azure_conv_2023"
    assert "splitwise_conv.csv is not here; lengths follow our table azure_conv_2023" in outcome.notes[0]
    quiet = cli(
        "run", "--vidur-config", config, "--json", "--lengths", "fixed", *("--lengths.prompt", 9, "--lengths.output", 9)
    )
    assert quiet.notes == []
    (tmp_path / "mine.csv").write_text(TRACE)
    drawn = cli("run", "--vidur-config", config, "--json", "--lengths.path", tmp_path / "mine.csv")
    assert drawn.summary["workload"]["source"]["generator"]["lengths"] == "trace"
    assert drawn.notes == []
    if TRACES.is_dir():
        real = TRACES / "vidur" / "splitwise_conv.csv.gz"
        assert (
            cli("run", "--vidur-config", config, "--trace", real, "--json").summary["simulation"]["requests"] > 10_000
        )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--parity", "vidur2"), ("parity 'vidur2' is not known",)),
        (("--parity", "vidur"), ("scheduler 'vllm_v1' does not exist in Vidur", "sarathi")),
        (("--parity.time-limit-s", "5"), ("belong to no choice", "give parity")),
        (("--router", "lor"), ("counts requests that wait but not those that run", "give least_outstanding")),
        (
            ("--parity", "vidur", "--scheduler", "sarathi", "--router", "least_kv"),
            ("router 'least_kv' does not exist in Vidur", "choose lor, random, round_robin"),
        ),
        (
            ("--parity", "vidur", "--scheduler", "sarathi", "--parity.kv-cache-prediction-granularity", "0"),
            ("parity.kv_cache_prediction_granularity 0 is too small",),
        ),
        (
            ("--parity", "vidur", "--scheduler", "sarathi", "--scheduler.preemption-mode", "swap"),
            ("scheduler.preemption_mode 'swap' does not exist in Vidur",),
        ),
        (
            ("--parity", "vidur", "--scheduler", "sarathi", "--queue", "sjf"),
            ("queue 'sjf' does not exist in Vidur", "choose fcfs"),
        ),
        (
            ("--parity", "vidur", "--scheduler", "sarathi", "--parity.x", "0"),
            ("parity.x 0 is not known", "time_limit_s"),
        ),
        (("--trace.x", "0", "--trace", "setup.cfg"), ("setup.cfg",)),
        (("--vidur-config", "nowhere.json"), ("vidur-config 'nowhere.json' cannot be read as JSON",)),
        (("--vidur-config", "a.json", "--config", "b.toml"), ("is given beside --config",)),
    ],
)
def test_refusals(cli: Cli, words: tuple[str, ...], expected: tuple[str, ...]):
    cli("run", *words).assert_refused(*expected)


def test_a_device_of_vidurs_that_we_do_not_have(cli: Cli, tmp_path: Path):
    config = write_vidur(tmp_path / "config.json", replica={"device": "a40"})
    cli("run", "--vidur-config", config).assert_refused("device 'a40' is neither known nor a directory", "a100_sxm")
    assert (
        cli("run", "--vidur-config", config, "--device", "h100_sxm", "--json").summary["simulation"]["completed"] == 60
    )


def test_the_help_names_the_choices(cli: Cli):
    text = cli("run", "--help").out
    for word in ("--vidur-config", "--parity vidur", "--parity.time-limit-s", "--trace FILE", "--trace.prompt-scale"):
        assert word in text
