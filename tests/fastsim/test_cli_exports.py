"""``fastsim run --trace-window``, ``--event-trace``, and ``fastsim explain``."""

import gzip
import json
import re
from pathlib import Path

import polars as pl
import pytest
from cli_calls import Cli
from trace_rules import check_trace

pytestmark = pytest.mark.filterwarnings("default::UserWarning")

_SMALL = ("--max-model-len", 512, "--num-kv-blocks", 200, "--scheduler.max-num-seqs", 16)
_SMALL += ("--scheduler.max-num-batched-tokens", 128, "--lengths", "fixed", "--lengths.prompt", 150)
_SMALL += ("--lengths.output", 20, "--requests", 80, "--qps", 40)


def test_a_run_writes_what_was_asked_for(cli: Cli, tmp_path: Path):
    out, events = tmp_path / "out", tmp_path / "events.jsonl"
    assert cli("run", *_SMALL, "--out", out, "--trace-window", "0.5:1", "--event-trace", events).code == 0
    names = {"config.toml", "requests.parquet", "summary.json", "timeseries.parquet", "trace.json.gz"}
    assert {path.name for path in out.iterdir()} == names
    check_trace(json.loads(gzip.decompress((out / "trace.json.gz").read_bytes()))["traceEvents"])
    assert {json.loads(line)["kind"] for line in events.read_text().splitlines()} >= {"batch", "prefill"}
    frame = pl.read_parquet(out / "timeseries.parquet")
    assert frame["arrivals"].sum() == frame["completions"].sum() == 80
    # The same directory again, without: nothing of the run before is left.
    assert cli("run", *_SMALL, "--out", out).code == 0
    assert {path.name for path in out.iterdir()} == names - {"trace.json.gz"}


def test_tracing_changes_nothing_else(cli: Cli, tmp_path: Path):
    outs = [tmp_path / "plain", tmp_path / "traced"]
    assert cli("run", *_SMALL, "--out", outs[0]).code == 0
    assert cli("run", *_SMALL, "--out", outs[1], "--trace-window", ":").code == 0
    assert pl.read_parquet(outs[0] / "requests.parquet").equals(pl.read_parquet(outs[1] / "requests.parquet"))
    assert (outs[0] / "config.toml").read_text() == (outs[1] / "config.toml").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--trace-window", "1:2"), ("trace_window", "nowhere", "--out DIR")),
        (("--trace-window", "2:1", "--event-trace", "e.jsonl"), ("trace_window", "2:1", "A:B")),
        (("--event-trace", "no/such/place.jsonl"), ("event_trace", "directory")),
        (("--event-trace", "e.jsonl", "--parity", "vidur"), ("parity", "vidur")),
    ],
)
def test_what_cannot_be_traced_is_refused(words: tuple[str, ...], said: tuple[str, ...], cli: Cli):
    cli("run", "--requests", 5, *words).assert_refused(*said)


@pytest.fixture
def directory(cli: Cli, tmp_path: Path) -> Path:
    assert cli("run", *_SMALL, "--out", tmp_path / "run").code == 0
    return tmp_path / "run"


def test_explanations_add_up_to_the_summary(cli: Cli, directory: Path):
    explained = cli("explain", directory, "--json").summary
    metrics = json.loads((directory / "summary.json").read_text())["metrics"]
    assert explained["notes"] == []
    assert list(explained["metrics"]) == ["ttft_s", "tbt_s", "e2e_s"]
    for name, groups in explained["metrics"].items():
        assert groups["mean"]["value_s"] == pytest.approx(metrics[name]["mean"], rel=1e-9)
        for group in groups.values():
            assert sum(group["parts_s"].values()) == pytest.approx(group["value_s"], rel=1e-12)
            assert sum(group["shares"].values()) == pytest.approx(1.0)


def test_an_explanation_in_words_and_as_a_picture(cli: Cli, directory: Path, tmp_path: Path):
    plot = tmp_path / "why.html"
    outcome = cli("explain", directory, "--metric", "ttft", "--plot", plot)
    assert outcome.code == 0
    assert all(len(line) <= 120 for line in outcome.out.splitlines()[1:])
    for word in ("TTFT", "queueing", "prefill alone", "interference", "slowest 1 %", "modelled", "█"):
        assert word in outcome.out
    assert "TBT" not in outcome.out
    percentages = [re.findall(r"([\d.]+) %", line) for line in outcome.out.splitlines()[3:] if line]
    percentages = percentages[: percentages.index(["100.0", "100.0"])]
    for group in zip(*percentages, strict=True):
        assert sum(map(float, group)) == pytest.approx(100.0)
    page = plot.read_text()
    assert page.count("<rect") >= 6
    assert "<svg" in page
    assert "http" not in page


def test_other_tables_are_noted(cli: Cli, directory: Path):
    summary = json.loads((directory / "summary.json").read_text())
    summary["hashes"]["tables"] = "0" * 64
    (directory / "summary.json").write_text(json.dumps(summary))
    assert any("other iteration tables" in note for note in cli("explain", directory).notes)


@pytest.mark.parametrize("missing", ["config.toml", "summary.json", "requests.parquet"])
def test_a_directory_that_lacks_a_file_is_refused(missing: str, cli: Cli, directory: Path):
    (directory / missing).unlink()
    cli("explain", directory).assert_refused("directory", missing)


def test_what_cannot_be_explained_is_refused(cli: Cli, directory: Path, tmp_path: Path):
    cli("explain").assert_refused("directory", "not given")
    cli("explain", tmp_path / "nowhere").assert_refused("directory", "config.toml")
    cli("explain", directory, "--metric", "speed").assert_refused("metric", "ttft")
    cli("explain", directory, "--plot", "why.png").assert_refused("plot", ".html")
