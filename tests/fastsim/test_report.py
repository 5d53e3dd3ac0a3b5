"""The page about runs: what is read, computed and refused. `test_report_in_chromium.py` looks at it."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_calls import Cli
from report_files import CONFIG, requests, summary, timeseries, write_run

from fastsim.errors import ConfigError
from fastsim.report.latencies import LEVELS, distributions
from fastsim.report.notes import notes
from fastsim.report.over_time import charts_over_time
from fastsim.report.page import draw_page
from fastsim.report.quantities import change, significant, written
from fastsim.report.runs import Run, read_runs, short_names
from fastsim.report.scales import Scale, from_zero

SECTIONS = ["Latencies", "Over time", "Objectives", "Operators", "Replicas", "Numbers", "Configuration"]


def run(name: str = "a", **change_of_summary: Any) -> Run:
    return Run(name, summary(**change_of_summary), requests(), timeseries())


def data(page: str) -> list[dict[str, Any]]:
    """What the charts of lines tell."""
    return [json.loads(text) for text in re.findall(r"<script type='application/json'>(.*?)</script>", page)]


class Balanced(HTMLParser):
    """Checks that every element is closed, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_command_writes_a_page_with_every_section_that_loads_nothing(cli: Cli, tmp_path: Path):
    first, second = write_run(tmp_path / "first"), write_run(tmp_path / "second", 2.0)
    out = tmp_path / "page.html"
    done = cli("report", first, second, "--out", out)
    assert (done.code, done.out) == (0, f"written to {out}\n")
    page = out.read_text(encoding="utf-8")
    assert re.findall(r"<h2>(.*?)</h2>", page) == SECTIONS
    assert not re.findall(r"""(?:src|href)=['"](?!data:,)|@import|url\(|https?://(?!www\.w3\.org/2000/svg")""", page)
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []


def test_names_and_operators_are_escaped():
    page = draw_page([run("<b>&'"), run("b")])
    assert "<norm>" not in page
    assert "&lt;norm&gt;" in page
    assert "<b>&'" not in page
    assert "\\u003cb>&'" in page  # in the data of a chart, which is JSON


def test_distributions_tell_the_quantiles_of_the_summary():
    (ttft, *_) = distributions([run()])
    (line,) = ttft.lines
    told = dict(zip(LEVELS.tolist(), line.x.tolist(), strict=True))
    assert [told[level] for level in (0.5, 0.9, 0.99)] == pytest.approx([0.51, 0.91, 1.0])
    assert (line.x == np.quantile(requests()["ttft_s"].to_numpy(), LEVELS)).all()
    assert ttft.limits == [(0.5, "objective 500 ms")]


@pytest.mark.parametrize(("limit_s", "drawn"), [(0.5, True), (1.9, True), (2.1, False)])
def test_an_objective_is_drawn_where_it_is_or_not_at_all(limit_s: float, drawn: bool):
    slo = summary()["slo"]
    slo["classes"]["0"]["objectives"]["ttft_s"]["limit_s"] = limit_s
    (ttft, *_) = distributions([run(slo=slo)])  # the slowest request takes 1.01 s
    assert [value for value, _ in ttft.limits] == [limit_s] * drawn
    assert all(value <= ttft.x.high for value, _ in ttft.limits)


def test_a_delay_of_nothing_is_drawn():
    (chart,) = (chart for chart in distributions([run()]) if chart.title == "Scheduling delay")
    assert not chart.x.logarithmic
    assert chart.lines[0].x.max() == 0


def test_requests_of_a_warm_up_are_left_out(tmp_path: Path):
    config = CONFIG | {"client": {"name": "closed", "warmup_requests": 100}}
    (found,) = read_runs([str(write_run(tmp_path / "a", config=config))])
    assert found.requests is not None
    assert found.requests["e2e_s"].to_list() == [101.0]


def test_requests_outside_of_a_window_are_left_out(tmp_path: Path):
    # The cool-down begins with the request that arrives at 50 s.
    window = {"start_s": 10.0, "end_s": 50.0, "requests": 40}
    (found,) = read_runs([str(write_run(tmp_path / "a", window=window))])
    assert found.requests is not None
    assert found.requests["arrival_s"].to_list() == list(map(float, range(10, 50)))


def test_replicas_are_added_up_or_averaged_over_time():
    charts = {chart.title: chart for chart in charts_over_time([run()])}
    assert list(charts) == ["Requests", "Queue", "Batch", "KV cache", "Tokens", "Busy"]  # there were no preemptions
    sent, completed = charts["Requests"].lines
    assert (sent.label, completed.label) == ("sent", "completed")
    assert (sent.y == 4.0).all()
    assert (completed.y == 2.0).all()
    (batch,) = charts["Batch"].lines
    assert batch.low is not None
    assert batch.high is not None
    assert {*batch.low} | {*batch.y} | {*batch.high} == {1.0, 1.5, 2.0}
    assert batch.x.tolist() == [2.0 * i + 1 for i in range(50)]
    assert "mean over engines" in charts["Batch"].note


def test_engines_of_a_replica_count_each():
    renamed = timeseries().rename({"replica": "engine"}).with_columns(replica=0)
    charts = {chart.title: chart for chart in charts_over_time([Run("a", summary(), None, renamed)])}
    assert charts["Requests"].lines[0].y.tolist() == [4.0] * 50
    assert charts["Batch"].lines[0].y.tolist() == [1.5] * 50


@pytest.mark.parametrize("bins", [1, 140, 141, 512])
def test_joined_bins_keep_the_sums(bins: int):
    (requests_chart, *_) = charts_over_time([Run("a", summary(), None, timeseries(bins, 1))])
    sent, _ = requests_chart.lines
    assert len(sent.x) <= 140
    # The last of the joined bins may be shorter, but its rate is that of its own time.
    assert sent.y == pytest.approx(2.0)
    assert "engines" not in requests_chart.note


def test_differences_say_which_is_better():
    faster = summary()["metrics"] | {"throughput_requests_per_s": 2.02, "mfu": 0.2}
    page = draw_page([run("a"), run("b", metrics=faster)])
    assert '<small class="better">' not in page
    assert "<small class='better'>+100.0%</small>" in page
    assert "<small class='worse'>\N{MINUS SIGN}20.0%</small>" in page
    assert "<small class='same'>±0%</small>" in page


def test_intervals_are_shown():
    within = {"estimate": 0.51, "low": 0.459, "high": 0.561}
    confidence = {"method": "seeds", "level": 0.95, "metrics": {"ttft_s": {"p50": within, "p99": None}}}
    window = {"requests": 90, "start_s": 10.0, "end_s": 100.0}
    page = draw_page([run(confidence=confidence, window=window)])
    assert "Latencies and objectives are of the 90 requests that arrived from 10 s to 100 s" in page
    assert re.findall("<span>([^<]*)</span> <small class='same'>± (.*?)</small>", page) == [("510 ms", "10%")]
    assert "± is a confidence of 95% for what is random, over runs of other seeds." in page


def test_what_differs_in_the_configurations_comes_first():
    other = run("b", config=CONFIG | {"replicas": 4})
    configuration = draw_page([run(), other]).partition("<h2>Configuration</h2>")[2].partition("<details>")[0]
    assert re.findall("<th scope='row'>(.*?)</th>", configuration) == ["replicas"]
    assert "are the same" in draw_page([run(), run("b")])


def test_what_is_missing_is_said_and_not_drawn():
    bare = summary()
    del bare["operators"], bare["slo"]
    page = draw_page([Run("a", bare), run("b")])
    assert "a: There is no requests.parquet" in page
    assert "a: There is no timeseries.parquet" in page
    assert "a: The operators were not recorded" in page
    assert {line["run"] for chart in data(page) for line in chart["lines"]} == {1}
    alone = draw_page([Run("a", bare)])
    assert re.findall(r"<h2>(.*?)</h2>", alone) == ["Latencies", "Replicas", "Numbers", "Configuration"]
    assert data(alone) == []


def test_notes_say_what_runs_cannot_be_compared_by():
    overloaded = run("b", hashes={"workload": "other"}, load={"growing": True})
    first, second, third = notes([run(), overloaded])
    assert first == "5 requests were cut."
    assert second.startswith("b: More and more requests were waiting")
    assert third.startswith("The runs had different workloads")


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0123456, "s", "12.35 ms"),
        (0.0, "s", "0 s"),
        (42e-6, "s", "42 µs"),
        (7200.0, "s", "120 min"),
        (0.12345, "share", "12.3%"),
        (1234567.0, "", "1,234,567"),
        (3.2, "$", "$3.20"),
        (None, "s", "\N{EN DASH}"),
    ],
)
def test_numbers_as_text(value: float | None, unit: str, text: str):
    assert written(value, unit) == text


def test_changes_as_text():
    assert change(1.1, 1.0) == "+10.0%"
    assert change(0.5, 1.0) == "\N{MINUS SIGN}50.0%"
    assert change(50.0, 1.0) == "\N{MULTIPLICATION SIGN} 50"
    assert change(1.0, 0.0) == change(None, 1.0) == ""
    assert significant(0.000123456) == "0.0001235"


@pytest.mark.parametrize("largest", [1e-6, 0.0314, 7.0, 821.3, 5e4, 1e6])
@pytest.mark.parametrize("unit", ["", "s", "share"])
def test_axes_hold_what_is_drawn_and_have_a_few_ticks(largest: float, unit: str):
    scale = from_zero(largest, unit)
    assert largest <= scale.high <= max(2 * largest, 1.0)
    assert 2 <= len(scale.ticks()) <= 6
    assert len({label for _, label in scale.ticks()}) == len(scale.ticks())
    assert 0 <= scale.place(largest / 2) <= scale.place(largest) <= 1


@pytest.mark.parametrize("ratio", [10.0, 100.0, 1e3, 1e5])
def test_logarithmic_axes_have_a_few_ticks(ratio: float):
    scale = Scale(0.003, 0.003 * ratio, "s", logarithmic=True)
    assert 3 <= len(scale.ticks()) <= 9
    assert scale.place(0.003 * ratio**0.5) == pytest.approx(0.5)
    assert scale.place(0.0) == 0


def test_names_are_as_short_as_can_be():
    assert short_names([Path("/x/a/r"), Path("/x/b/r")]) == ["a/r", "b/r"]
    assert short_names([Path("/x/a"), Path("/x/b")]) == ["a", "b"]


def test_directories_that_cannot_be_read_are_refused(cli: Cli, tmp_path: Path):
    good, bad = write_run(tmp_path / "good"), write_run(tmp_path / "bad")
    out = tmp_path / "page.html"
    cli("report", "--out", out).assert_refused("DIR", "is not given")
    cli("report", tmp_path / "none", "--out", out).assert_refused("has no summary.json", "fastsim run --out")
    cli("report", good, tmp_path / "." / "good", "--out", out).assert_refused("is given twice")
    cli("report", *[tmp_path / str(i) for i in range(9)], "--out", out).assert_refused("8 or fewer")
    cli("report", good, "--out", tmp_path / "page.pdf").assert_refused("page.pdf", "give FILE.html")
    (bad / "timeseries.parquet").write_bytes(b"no Parquet")
    cli("report", bad, "--out", out).assert_refused("timeseries.parquet", "is no Parquet file")
    requests().drop("ttft_s").write_parquet(bad / "requests.parquet")
    cli("report", bad, "--out", out).assert_refused("requests.parquet", "has no column ttft_s")
    (bad / "summary.json").write_text("{}")
    cli("report", bad, "--out", out).assert_refused("without config")
    (bad / "summary.json").write_text("no JSON")
    cli("report", bad, "--out", out).assert_refused("is no JSON")
    assert not out.exists()


def test_nothing_is_read_of_no_run():
    with pytest.raises(ConfigError, match="is not given"):
        read_runs([])
