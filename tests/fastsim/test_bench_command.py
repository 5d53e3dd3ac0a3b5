"""``fastsim bench``: the scenarios, their results, and what is written."""

import json
import threading
from pathlib import Path

import polars as pl
import pytest
from chromium import PATH, Chromium
from cli_calls import Cli

from fastsim.progress import SpokenLine
from fastsim.suite import files
from fastsim.suite.columns import COLUMNS, written
from fastsim.suite.page import draw_page
from fastsim.suite.running import run_suite
from fastsim.suite.scenarios import DEPLOYMENTS, LOAD, SCHEDULERS, WORKLOADS, all_scenarios, choose_scenarios

PATTERN = "chat-1m/llama-3.1-8b/l40s/*"
FEW = ("bench", "--scenario", PATTERN, "--requests", "60")


@pytest.fixture(scope="module")
def document() -> dict:
    return run_suite(choose_scenarios(PATTERN), 60, threads=1).document()


def numbers(document: dict) -> dict:
    return {key: value for key, value in document.items() if key != "simulation"}


def test_the_suite_is_every_workload_with_every_policy_everywhere():
    scenarios = all_scenarios()
    assert len({scenario.name for scenario in scenarios}) == len(scenarios) == 288
    assert len(scenarios) == len(WORKLOADS) * len(DEPLOYMENTS) * len(SCHEDULERS)
    for scenario in scenarios:
        assert scenario.config(7).seed == 7  # which also checks all its fields


@pytest.mark.parametrize("workload", WORKLOADS)
def test_rates_are_the_stated_part_of_what_vllm_v1_serves(workload: str):
    (scenario,) = choose_scenarios(f"{workload}/llama-3.1-8b/l40s/vllm_v1")
    (row,) = run_suite([scenario], 4000).rows
    assert row["qps"] == pytest.approx(LOAD * row["offline_requests_per_s"], rel=0.05)
    assert row["piles_up"] is False


def test_results_do_not_depend_on_threads_and_do_on_the_seed(document: dict):
    several = run_suite(choose_scenarios(PATTERN), 60, threads=4)
    assert several.threads == 4
    assert numbers(several.document()) == numbers(document)
    other = run_suite(choose_scenarios(PATTERN), 60, seed=1).document()
    assert other["hash"] != document["hash"]
    # Its numbers do not depend on the scenarios beside it.
    alone = run_suite(choose_scenarios("chat-1m/llama-3.1-8b/l40s/orca"), 60)
    assert list(alone.rows) == [row for row in document["rows"] if row["scheduler"] == "orca"]


def test_rows_are_those_of_runs(cli: Cli, document: dict):
    row = document["rows"][0]
    words = ("--model", row["model"], "--device", row["device"], "--max-model-len", 4096, "--dtype", "auto")
    load = ("--workload", row["workload"], "--qps", row["qps"], "--requests", 60)
    summary = cli("run", *words, *load, "--slo", "ttft=2s,tpot=100ms", "--json").summary
    assert summary["hashes"] == {"tables": row["tables"], "workload": row["workload_hash"]}
    for column in COLUMNS:
        if not column.offline:
            assert row[column.name] == column.of(summary), column.name
    offline = ("--workload", row["workload"], "--qps", 1e9, "--requests", 60)
    rate = cli("run", *words, *offline, "--json").summary["metrics"]["throughput_requests_per_s"]
    assert row["offline_requests_per_s"] == pytest.approx(rate, rel=0.01)


def test_the_terminal_has_a_line_for_each_and_the_hash(cli: Cli, document: dict):
    told = cli(*FEW)
    assert told.code == 0
    lines = told.out.splitlines()
    assert lines[0] == "chat-1m, meta-llama/Llama-3.1-8B on 1 l40s, 6.7 requests/s"
    assert [line.split()[0].rstrip("*") for line in lines[2:10]] == list(SCHEDULERS)
    assert len({len(line) for line in lines[1:10]}) == 1
    assert f"suite 1, 8 of 288 scenarios, 60 requests, seed 0: results {document['hash'][:16]}" in lines


def test_json_and_files_say_the_same(cli: Cli, document: dict, tmp_path: Path):
    printed = json.loads(cli(*FEW, "--json", "--threads", 2, "--out", tmp_path / "new" / "results").out)
    assert numbers(printed) == numbers(document)
    directory = tmp_path / "new" / "results"
    assert sorted(path.name for path in directory.iterdir()) == sorted(files.FILES)
    assert json.loads((directory / "suite.json").read_text()) == printed
    frame = pl.read_parquet(directory / "results.parquet")
    assert frame.to_dicts() == printed["rows"]
    assert frame["piles_up"].dtype == pl.Boolean


def test_writing_that_fails_leaves_what_was_there(document: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    files.write_results(document, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(pl.DataFrame, "write_parquet", lambda self, file: file.write(b"half") / 0)
    with pytest.raises(ZeroDivisionError):
        files.write_results(document, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_list_says_what_the_scenarios_are(cli: Cli):
    listed = cli("bench", "--list").out
    assert "288 scenarios" in listed
    for deployment in DEPLOYMENTS:
        place = f"{deployment.name:20}{deployment.tensor_parallel} x {deployment.device}"
        assert listed.count(place) == len(WORKLOADS)
    some = json.loads(cli("bench", "--list", "--scenario", "*/h200_sxm/lightllm", "--json").out)
    assert [one["scenario"] for one in some["scenarios"]] == [
        f"{workload}/llama-3.1-70b-fp8/h200_sxm/lightllm" for workload in WORKLOADS
    ]
    assert some["scenarios"][0]["config"]["block_size"] == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--scenario", "llama"), ("scenario", "llama", "--list")),
        (("--requests", "0"), ("requests", "0", "1 to 1000000")),
        (("--requests", "1e9"), ("requests", "1000000000")),
        (("--requests", "many"), ("requests", "many")),
        (("--seed", "-1"), ("seed", "-1")),
        (("--threads", "0"), ("threads", "0")),
        (("--out", ""), ("out",)),
        (("--out", __file__), ("out", "not a directory")),
        (("--list", "--out", "x"), ("out", "--list")),
        (("--requets", "5"), ("--requets",)),
    ],
)
def test_refusals(cli: Cli, words: tuple[str, ...], said: tuple[str, ...]):
    cli("bench", *words).assert_refused(*said)


def test_an_interruption_waits_for_no_more_than_what_has_begun():
    done = []

    def interrupt(scenario: object) -> None:
        done.append(scenario)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_suite(all_scenarios(), 1, threads=1, when_done=interrupt)
    assert len(done) < 10
    assert threading.active_count() < 10


def test_one_request_is_enough(cli: Cli):
    printed = json.loads(cli("bench", "--scenario", PATTERN, "--requests", 1, "--json").out)
    assert all(row["piles_up"] is None for row in printed["rows"])
    draw_page(printed)


def test_cells():
    assert [written(value, "s") for value in (None, 0.0, 0.01234, 1.5)] == ["\N{EN DASH}", "0 s", "12.3 ms", "1.5 s"]
    assert written(0.1234, "share") == "12.3%"
    assert written(1234.5, "$") == "1,234.50"


def test_what_is_written_on_the_page_is_escaped(document: dict):
    rows = [row | {"deployment": "<script>alert(1)</script>", "scenario": "a'><b>"} for row in document["rows"]]
    page = draw_page(document | {"rows": rows})
    assert "<script>alert" not in page
    assert "<b>" not in page.replace("<b>TTFT", "").partition("id='all'")[2]


def test_a_line_of_progress_knows_nothing_by_itself():
    with pytest.raises(NotImplementedError):
        SpokenLine("waiting").tell(1.0)


@pytest.mark.skipif(not PATH.exists(), reason=f"needs a browser, {PATH} (apt-get install chromium)")
def test_the_page_in_a_browser(document: dict, tmp_path: Path):
    files.write_results(document, tmp_path)
    with Chromium(tmp_path / "profile") as browser:
        for width, scheme in ((1280, "light"), (390, "dark")):
            browser.open(tmp_path / "index.html", width, scheme=scheme)
            assert browser.evaluate("document.documentElement.scrollWidth") <= width
            boxes = browser.evaluate(
                "[...document.querySelectorAll('.dot')].map(dot => { const box = dot.getBoundingClientRect();"
                " return [box.left, box.right] })"
            )
            assert len(boxes) == 6 * 8
            assert all(0 <= left < right <= width for left, right in boxes)
            colours = "[...new Set([...document.querySelectorAll('.dot')].map(dot => getComputedStyle(dot).stroke))]"
            assert len(browser.evaluate(colours)) == 8
        first = "document.querySelector('.results tbody tr:not([hidden])').cells[0].dataset.value"
        button = "document.querySelectorAll('.results button')[2]"
        ttft = sorted((row["ttft_p50_s"], row["scenario"]) for row in document["rows"])
        browser.evaluate(f"{button}.click()")
        assert browser.evaluate(first) == ttft[0][1]
        browser.evaluate(f"{button}.click()")
        assert browser.evaluate(first) == ttft[-1][1]
        assert browser.evaluate(f"{button}.closest('th').getAttribute('aria-sort')") == "descending"
        field = "document.querySelector('.filter input')"
        browser.evaluate(f"{field}.value = 'Chat lightllm'; {field}.dispatchEvent(new Event('input'))")
        assert browser.evaluate(first) == "chat-1m/llama-3.1-8b/l40s/lightllm"
        assert browser.evaluate("document.getElementById('shown').innerText") == "1 of 8 scenarios"
        assert browser.errors == []
        assert {address.partition("#")[0] for address in browser.requested} == {(tmp_path / "index.html").as_uri()}
