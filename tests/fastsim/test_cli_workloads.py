"""``fastsim run``: traces, classes, conversations and clients."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_calls import TRACES, Cli, without_speed

# Warnings become notes on stderr, as in a process of their own; under the "error" of the other tests they would raise.
pytestmark = pytest.mark.filterwarnings("default::UserWarning")


# Real traces


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


# Classes and sessions


def test_shares_of_classes_give_a_line_each_and_repeat(cli: Cli, tmp_path: Path):
    words = ("run", "--requests", 300, "--class-shares", "0.2,0.8")
    plain, first = cli("run", "--requests", 300, "--json").summary, cli(*words, "--out", tmp_path, "--json").summary
    assert first["metrics"] == plain["metrics"]
    assert "classes" not in plain
    assert sum(described["requests"] for described in first["classes"].values()) == 300
    assert first["workload"]["source"]["generator"]["class_shares"] == [0.2, 0.8]
    again = cli("run", "--config", tmp_path / "config.toml", "--json").summary
    assert without_speed(again) == without_speed(first)
    lines = [line for line in cli(*words).out.splitlines() if line.startswith("class ")]
    assert [line.split()[1:3] for line in lines] == [[k, str(first["classes"][k]["requests"])] for k in ("0", "1")]
    for line in lines:
        assert all(word in line for word in ("TTFT p50", "E2E p50", "p99", "preemptions"))
        assert len(line) <= 120


def test_shares_of_classes_replace_those_of_a_trace(cli: Cli, tmp_path: Path, make_trace: Callable[..., Path]):
    header = "arrived_at,num_prefill_tokens,num_decode_tokens,request_class"
    trace = make_trace(*(f"{i}.0,10,5,{3 + i % 2}" for i in range(40)), header=header)
    own = cli("run", "--trace", trace, "--json").summary
    assert list(own["classes"]) == ["3", "4"]
    words = ("run", "--trace", trace, "--class-shares", "0.5,0.5", "--seed", 2, "--out", tmp_path / "out", "--json")
    drawn = cli(*words).summary
    assert list(drawn["classes"]) == ["0", "1"]
    assert drawn["workload"]["source"]["classes"] == {"shares": [0.5, 0.5], "seed": 2}
    again = cli("run", "--config", tmp_path / "out" / "config.toml", "--json").summary
    assert without_speed(again) == without_speed(drawn)


# Clients and engines


def test_closed_clients_and_an_engine_from_flags_and_again_from_the_file(cli: Cli, tmp_path: Path):
    words = ("--client", "closed", "--client.concurrency", 8, "--client.warmup-requests", 20, "--engine", "vllm-0.12")
    outcome = cli("run", "--requests", 200, *words, "--engine.launch-s", "2e-3", "--out", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert "8, each with one request at a time; latencies are without the first 20 requests" in outcome.out
    assert "prefix cache      0.0% of the prompt tokens" in outcome.out
    config = (tmp_path / "out" / "config.toml").read_text()
    assert "qps" not in config  # nobody asks when requests would arrive
    summary = cli("run", "--config", tmp_path / "out" / "config.toml", "--json").summary
    assert summary["config"]["client"]["concurrency"] == 8
    assert (summary["config"]["engine"]["name"], summary["config"]["engine"]["launch_s"]) == ("vllm-0.12", 2e-3)
    assert without_speed(summary) == without_speed(json.loads((tmp_path / "out" / "summary.json").read_text()))


def test_closed_clients_in_place_of_the_rate_of_a_file(cli: Cli, tmp_path: Path):
    assert cli("run", "--requests", 50, "--qps", 3, "--out", tmp_path / "out").code == 0
    words = ("--client", "closed", "--client.concurrency", 2, "--json")
    assert cli("run", "--config", tmp_path / "out" / "config.toml", *words).summary["simulation"]["completed"] == 50


def test_conversations_find_what_was_said(cli: Cli):
    words = ("--conversations", "fixed", "--conversations.turns", 4, "--conversations.think-s", 1)
    summary = cli("run", "--requests", 200, *words, "--json").summary
    assert summary["prefix_cache"]["enabled"]
    assert 0.3 < summary["prefix_cache"]["hit_rate"] < 0.9
