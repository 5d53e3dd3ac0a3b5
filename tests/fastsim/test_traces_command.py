"""``fastsim traces``, and workloads by name in ``fastsim run``."""

import json
import xml.etree.ElementTree
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
from cli_calls import TRACES, Cli, without_speed

from fastsim.commands.trace_report import draw, render
from fastsim.commands.traces import _OF_ACTION, TracesCommand
from traces import Objective, Workload, describe, generate, read
from traces.named import WORKLOADS
from traces.public_traces import CATALOG

pytestmark = pytest.mark.filterwarnings("default::UserWarning")


@pytest.fixture(autouse=True)
def _an_empty_cache_of_traces(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("traces.catalog.cache_directory", lambda: tmp_path / "fetched")


def test_the_list_names_every_trace_and_workload_with_its_source(cli: Cli):
    found = json.loads(cli("traces", "list", "--json").out)
    assert (found["public"].keys(), found["synthetic"].keys()) == (CATALOG.keys(), WORKLOADS.keys())
    assert not any(entry["fetched"] for entry in found["public"].values())
    assert found["synthetic"]["chat-1m"]["source"].startswith("Lengths published: ")
    text = cli("traces").out
    assert text == cli("traces", "list").out
    assert all(name in text for name in (*CATALOG, *WORKLOADS))


def test_a_file_is_described_as_text_json_and_pictures(cli: Cli, make_trace: Callable[..., Path], tmp_path: Path):
    path = make_trace("0.0,3000,100", "0.5,200,10", "4.0,9,7")
    page = tmp_path / "page.html"
    text = cli("traces", "describe", path, "--plot", page).out
    assert f"{path}: 3 requests in 4 s, 0.5 requests/s" in text
    assert "CV of intervals 0.75" in text
    found = json.loads(cli("traces", "describe", path, "--json").out)
    assert found["prompt_tokens"]["max"] == 3000
    assert found["provenance"]["format"] == "vidur"
    assert {key: value for key, value in found.items() if key != "name"} == json.loads(json.dumps(describe(read(path))))
    content = page.read_text(encoding="utf-8")
    assert "http" not in content.replace("http-equiv", "")
    assert content.count("<svg") == 3
    for part in draw("x", describe(read(path)))[3::2]:
        assert xml.etree.ElementTree.fromstring(part).findall(".//rect/title")


@pytest.mark.parametrize("name", ["azure/AzureLLMInferenceTrace_conv.csv.gz", "mooncake/synthetic_trace.jsonl.gz"])
def test_public_traces_are_described(cli: Cli, name: str):
    if not (TRACES / name).exists():
        pytest.skip(f"the public trace {name} is not in ../shared/data/traces")
    lines = cli("traces", "describe", TRACES / name).out.splitlines()
    assert all(len(line) <= 140 for line in lines[1:])
    assert any("index of dispersion" in line for line in lines)


def test_text_of_conversations_and_classes():
    talk = generate(
        num_requests=60, qps=1, conversations="fixed", conversation_options={"turns": 3}, max_total_tokens=None
    )
    text = render("talk", describe(talk))
    assert "conversations     20, 3.00 turns each" in text
    assert "prefix reuse" in text
    promised = Workload.from_arrays(
        [0, 0], [1, 1], [1, 1], request_class=[0, 1], objectives=[Objective("chat", ttft_s=0.5), Objective("batch")]
    )
    text = render("promised", describe(promised))
    assert "class 0           1 requests  chat: TTFT 0.5 s" in text
    assert "class 1           1 requests  batch: nothing promised" in text
    assert "all at one time" in text


def test_synthetic_workloads_are_described_with_their_source(cli: Cli):
    outcome = cli("traces", "describe", "chat-1m", "--requests", "2000", "--qps", "4", "--json")
    found = json.loads(outcome.out)
    assert found["requests"] == 2000
    assert found["qps"] == pytest.approx(4, rel=0.1)
    assert outcome.notes == [f"fastsim: note: chat-1m: {WORKLOADS['chat-1m'].source}"]


def test_lengths_get_arrivals(cli: Cli, make_trace: Callable[..., Path]):
    path = make_trace("300,20", "200,10", "9,7", header="num_prefill_tokens,num_decode_tokens")
    assert json.loads(cli("traces", "describe", path, "--json").out)["qps"] is None
    assert json.loads(cli("traces", "describe", path, "--qps", "2", "--json").out)["qps"] > 0
    outcome = cli("run", "--trace", path, "--qps", "2", "--json")
    assert outcome.summary["simulation"]["completed"] == 3
    assert any("has no arrivals" in note for note in outcome.notes)


def test_what_is_converted_is_the_same_workload(cli: Cli, make_trace: Callable[..., Path], tmp_path: Path):
    path, out = make_trace("0.0,3000,100", "0.5,200,10"), tmp_path / "trace.parquet"
    found = json.loads(cli("traces", "convert", path, out, "--json").out)
    assert (found["format"], found["requests"]) == ("vidur", 2)
    assert read(out).hash == read(path).hash == found["hash"]
    assert "2 requests written to" in cli("traces", "convert", "bwb-4k", out, "--requests", 2).out
    assert without_speed(cli("run", "--trace", path, "--json").summary)["metrics"] is not None


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["show"], ["action", "show", "choose list, describe, convert or fetch"]),
        (["describe"], ["name is not given", "write fastsim traces describe FILE"]),
        (["fetch"], ["write fastsim traces fetch NAME"]),
        (["fetch", "azure"], ["trace is 'azure'", "choose one of azure-2023-conv"]),
        (["describe", "azure-2023-conv"], ["not fetched yet", "run fastsim traces fetch azure-2023-conv"]),
        (["describe", "none.csv"], ["'none.csv'", "cannot be read"]),
        (["describe", "chat-1m", "--plot", "a.png"], ["plot", "give FILE.html"]),
        (["convert", "chat-1m"], ["out is not given", "write fastsim traces convert chat-1m FILE.parquet"]),
        (["convert", "chat-1m", "a.csv"], ["out", "give FILE.parquet"]),
        (["describe", "chat-1m", "--qps", "0"], ["qps is 0", "give a number from 1e-09"]),
        (["describe", "chat-1m", "--requests", "0"], ["num_requests is 0", "from 1"]),
        (["list", "--qps", "3"], ["qps '3' means nothing to list", "choose describe or convert"]),
    ],
)
def test_bad_words_are_refused(cli: Cli, words: list[str], expected: list[str]):
    cli("traces", *words).assert_refused(*expected)


def test_flags_belong_to_all_actions_or_to_some():
    assert {spec.name for spec in fields(TracesCommand)} - set(_OF_ACTION) == {"action", "json"}


def test_a_run_takes_a_workload_by_name_and_repeats_it(cli: Cli, tmp_path: Path):
    out = tmp_path / "results"
    outcome = cli("run", "--workload", "chat-1m", "--qps", 3, "--requests", 200, "--out", out, "--json")
    assert outcome.summary["simulation"]["completed"] == 200
    assert any("chat-1m: Lengths published" in note for note in outcome.notes)
    again = cli("run", "--config", out / "config.toml", "--json")
    assert without_speed(again.summary) == without_speed(outcome.summary)
    plain = cli(
        "run",
        "--config",
        out / "config.toml",
        "--lengths",
        "fixed",
        "--lengths.prompt",
        5,
        "--lengths.output",
        5,
        "--json",
    )
    assert plain.summary["metrics"] != outcome.summary["metrics"]
    cli("run", "--workload", "chat").assert_refused("workload is 'chat'", "choose one of chat-1m")
    cli("run", "--workload", "chat-1m", "--arrivals", "gamma").assert_refused("arrivals", "leave out --arrivals")


def test_a_trace_is_run_with_more_users(cli: Cli, make_trace: Callable[..., Path]):
    path = make_trace(*(f"{second}.0,100,10" for second in range(50)))
    assert cli("run", "--trace", path, "--trace.rate-scale", 3, "--json").summary["simulation"]["completed"] == 150
    cli("run", "--trace", "azure-2023-conv").assert_refused("not fetched yet", "fastsim traces fetch azure-2023-conv")
