"""``fastsim run`` of so many requests that they are streamed."""

import json
from pathlib import Path

import polars as pl
import pytest
from cli_calls import Cli, without_speed

import traces
from fastsim import metrics

pytestmark = pytest.mark.filterwarnings("default::UserWarning")

WORDS = ("run", "--requests", "3e2", "--qps", 20, "--max-model-len", 1000)


@pytest.fixture
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stream more than 100 requests."""
    monkeypatch.setattr(metrics, "KEEP_LIMIT", 100)


def test_many_requests_are_streamed_and_written(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    held = cli(*WORDS, "--out", tmp_path / "held", "--json")
    monkeypatch.setattr(metrics, "KEEP_LIMIT", 100)
    streamed = cli(*WORDS, "--out", tmp_path / "streamed", "--json")
    rows, all_rows = (pl.read_parquet(tmp_path / name / "requests.parquet") for name in ("streamed", "held"))
    assert rows.equals(all_rows.select(rows.columns))
    assert streamed.summary["simulation"]["quantiles"].startswith("from a histogram")
    assert streamed.summary["workload"] == held.summary["workload"]
    assert streamed.summary["replicas"] == held.summary["replicas"]
    cut = [note for note in held.notes if "were cut to max_model_len 1000" in note]
    assert len(cut) == 1
    assert set(streamed.notes) > set(cut)
    assert any("without --record-metrics nothing is recorded over time" in note for note in streamed.notes)
    files = {path.name for path in (tmp_path / "streamed").iterdir()}
    assert files == {"requests.parquet", "summary.json", "config.toml"}
    assert json.loads((tmp_path / "streamed" / "summary.json").read_text()) == streamed.summary


@pytest.mark.usefixtures("few_are_many")
def test_its_config_repeats_it(cli: Cli, tmp_path: Path):
    first = cli(*WORDS, "--out", tmp_path, "--json").summary
    again = cli("run", "--config", tmp_path / "config.toml", "--json").summary
    assert without_speed(again) == without_speed(first)


@pytest.mark.usefixtures("few_are_many")
def test_no_rows_are_written_where_none_are_asked_for(cli: Cli, tmp_path: Path):
    assert cli(*WORDS, "--no-keep-requests", "--out", tmp_path).code == 0
    assert not (tmp_path / "requests.parquet").exists()


@pytest.mark.usefixtures("few_are_many")
@pytest.mark.parametrize(
    ("words", "section"),
    [
        (("--warmup", "1s"), "window"),
        (("--record-metrics",), "operators"),
        (("--confidence",), "confidence"),
        (("--client", "closed", "--client.concurrency", 4), "load"),
        (("--conversations", "fixed", "--conversations.turns", 3), "load"),
        (("--engine", "vllm-0.19"), "load"),
    ],
)
def test_what_needs_all_requests_holds_them(cli: Cli, words: tuple, section: str):
    base = WORDS[:3] + WORDS[5:] if "closed" in words else WORDS
    summary = cli(*base, *words, "--json").summary
    assert section in summary
    assert "load" in summary


@pytest.mark.usefixtures("few_are_many")
def test_a_report_of_a_stream_and_a_workload_by_name(cli: Cli):
    outcome = cli("run", "--requests", 300, "--workload", "mooncake-conv-like", "--max-model-len", 8192)
    assert outcome.code == 0, outcome.err
    assert "300" in outcome.out
    assert any("mooncake-conv-like: " in note for note in outcome.notes)


@pytest.mark.parametrize("order", [1, -1], ids=["in order of arrival", "in another"])
def test_a_large_trace_is_streamed_if_it_can_be(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: int):
    drawn = traces.Workload.generate(num_requests=300, qps=20, seed=1, max_total_tokens=900)
    columns = {name: getattr(drawn, name)[::order] for name in ("arrival_s", "prompt_tokens", "output_tokens")}
    pl.DataFrame(columns).write_parquet(tmp_path / "trace.parquet")
    words = ("run", "--trace", tmp_path / "trace.parquet", "--json")
    held = cli(*words, "--out", tmp_path / "held")
    monkeypatch.setattr(metrics, "KEEP_LIMIT", 100)
    streamed = cli(*words, "--out", tmp_path / "streamed")
    assert (tmp_path / "streamed" / "timeseries.parquet").exists() == (order == -1)  # of what is held
    assert streamed.summary["replicas"] == held.summary["replicas"]
    assert streamed.summary["workload"] == held.summary["workload"]
    again = cli("run", "--config", tmp_path / "streamed" / "config.toml", "--json")
    assert without_speed(again.summary) == without_speed(streamed.summary)
