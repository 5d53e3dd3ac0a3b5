"""The page about a search: what is read, computed and refused. `test_explorer_in_chromium.py` looks at it."""

import json
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from cli_calls import Cli
from report_files import write_run
from search_cases import SLO, SPACE, search_workload
from search_files import ABOUT, TRIED, search_frames, write_search
from test_report import Balanced

from fastsim.report.explorer.measures import NO_VALUE, cases, knobs
from fastsim.report.explorer.page import draw_explorer
from fastsim.report.explorer.payload import payload
from fastsim.report.explorer.searches import Search, read_search
from fastsim.report.quantities import NOTHING, significant
from fastsim.searching.runner import run_search

SECTIONS = ["Limits", "Fronts", "Configurations", "Parallel coordinates", "Probes", "Table"]
SECTIONS += ["Left out", "Space", "Search"]


def search(configurations: pl.DataFrame | None = None, **about: Any) -> Search:
    made, probes = search_frames()
    return Search("s", ABOUT | about, made if configurations is None else configurations, probes)


def headings(page: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", page)


def test_the_command_writes_a_page_with_every_section_that_loads_nothing(cli: Cli, tmp_path: Path):
    out = tmp_path / "page.html"
    done = cli("report", write_search(tmp_path / "s"), "--out", out)
    assert (done.code, done.out) == (0, f"written to {out}\n")
    page = out.read_text(encoding="utf-8")
    assert headings(page) == SECTIONS
    assert not re.findall(r"""(?:src|href)=['"](?!data:,)|@import|url\(|https?://(?!www\.w3\.org/2000/svg")""", page)
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    assert "36 configurations under 2 workloads, 330 rates tried, 330,000 requests simulated" in page


def test_every_text_is_escaped():
    evil = "</script><b class=evil>&'\""
    frame, probes = search_frames()
    texts = ["workload", "scheduler", "reason", "binding"]
    frame = frame.with_columns((pl.col(name) + evil).alias(name) for name in texts)
    frame = frame.with_columns(scheduler=pl.col("scheduler") + pl.col("config_id"))
    probes = probes.with_columns(workload=pl.col("workload") + evil, binding=pl.lit(evil))
    page = draw_explorer(Search(evil, ABOUT | {evil: evil}, frame.rename({"max_num_seqs": evil}), probes))
    assert "<b class" not in page
    assert page.count("<script") == page.count("</script>") == 2
    assert "\\u003cb class=evil>" in page


def test_configurations_come_with_the_rates_at_which_they_were_tried():
    data = payload(search())
    frame, _ = search_frames()
    served = frame.filter(status="ok")
    assert [(row["id"], data["cases"][row["case"]]) for row in data["rows"]] == served.select(
        "config_id", "workload"
    ).rows()
    for row, capacity, ttft in zip(data["rows"], served["capacity_qps"], served["ttft_p90_s"], strict=True):
        assert [point[0] for point in row["points"]] == pytest.approx(
            [share * capacity for share, _ in TRIED], rel=1e-5
        )
        assert [bool(point[1]) for point in row["points"]] == [holds for _, holds in TRIED]
        at = [measure["column"] for measure in data["measures"]].index("ttft_p90_s") - 4
        assert row["points"][2][3 + at] == pytest.approx(ttft, rel=1e-5)


def test_axes_are_what_varies_in_order():
    found = {axis.name: axis.values for axis in knobs(search_frames()[0])}
    assert found == {
        "device": ("a100_sxm", "h100_sxm"),
        "tensor_parallel": ("1", "2", "4"),
        "scheduler": ("vllm_v1", "sarathi"),
        "scheduler.chunk_size": ("512", "1024", NO_VALUE),
        "max_num_seqs": ("64", "256"),
    }
    data = payload(search())
    assert [axis["label"] for axis in data["axes"]] == ["device", "tp", "scheduler", "chunk_size", "max_num_seqs"]
    assert data["rows"][0]["name"] == "a100_sxm, tp 1, vllm_v1, max_num_seqs 64"


def test_values_of_any_kind_are_told():
    frame = search_frames()[0].with_columns(
        flag=pl.Series([True, False] * 36),
        share=pl.Series([0.5, 0.25] * 36),
        pair=pl.Series([[1, 2], [3]] * 36),
        model=pl.Series(["org/m", "other/n"] * 36),
    )
    found = {axis.name: axis.values for axis in knobs(frame)}
    assert (found["flag"], found["share"], found["pair"]) == (("True", "False"), ("0.25", "0.5"), ("[1, 2]", "[3]"))
    assert "model" not in found
    assert cases(frame)[:2] == ["m, chat", "n, code"]
    same = frame.with_columns(model=pl.Series(["org/m", "other/m"] * 36))
    assert cases(same)[:2] == ["org/m, chat", "other/m, code"]  # they must not become one


def test_the_best_of_each_workload_is_told_with_its_ties():
    frame, _ = search_frames()
    page = draw_explorer(search())
    best = frame.filter(status="ok").sort("qps_per_dollar", descending=True).group_by("workload", maintain_order=True)
    for row in best.first().iter_rows(named=True):
        assert f"<dt>Best: {row['workload']}</dt><dd><b>{row['qps_per_dollar']:,.0f} requests per dollar</b>" in page
    assert "cannot be told from it</small>" not in page
    wide = draw_explorer(search(frame.with_columns(qps_high=pl.col("capacity_qps") * 1.05)))
    assert "<small>1 more cannot be told from it</small>" in wide


def test_what_does_not_serve_is_told_with_its_reason():
    frame, _ = search_frames()
    first = pl.col("config_id") == "id00"
    frame = frame.with_columns(capacity_qps=pl.when(first).then(0.0).otherwise("capacity_qps"))
    page = draw_explorer(search(frame))
    left = page.partition("<h2>Left out</h2>")[2].partition("<h2>")[0]
    assert re.findall("<summary>(.*?)</summary>", left) == [
        "Holds the objectives at no rate: 1 configuration",
        "Does not fit in memory: 3 configurations",
    ]
    assert left.count("<td>needs 90 GB of 80 GB</td>") == 3
    assert left.count("<td>chat, code</td>") == 4
    assert "id00" not in {row["id"] for row in payload(search(frame))["rows"]}


def test_a_search_where_nothing_fits_has_no_charts(tmp_path: Path):
    path = write_search(tmp_path / "s")
    configurations, probes = search_frames()
    configurations.filter(pl.col("status") != "ok").write_parquet(path / "configurations.parquet")
    probes.clear().write_parquet(path / "probes.parquet")
    page = draw_explorer(read_search(str(path)))
    assert headings(page) == SECTIONS[-3:]
    assert "No configuration holds the objectives at any rate" in page


def test_without_probes_capacities_are_shown():
    frame, _ = search_frames()
    bare = Search("s", ABOUT, frame)
    assert "There is no probes.parquet" in draw_explorer(bare)
    assert {len(row["points"]) for row in payload(bare)["rows"]} == {1}


def test_shorter_runs_of_a_strategy_are_other_workloads():
    frame, probes = search_frames()
    short = probes.with_columns(head=pl.lit(100), qps=pl.col("qps") * 3)
    both = pl.concat([probes.with_columns(head=pl.lit(None, pl.Int32)), short])
    rows = payload(Search("s", ABOUT, frame, both))["rows"]
    assert {len(row["points"]) for row in rows} == {len(TRIED)}


def test_numbers_that_json_lacks_are_none():
    frame, _ = search_frames()
    frame = frame.with_columns(ttft_p90_s=pl.lit(float("nan")), qps_high=pl.lit(float("inf")))
    (row, *_) = payload(Search("s", ABOUT, frame))["rows"]
    assert row["high"] is None
    json.dumps(row, allow_nan=False)


def test_the_search_is_told_as_its_file_says():
    page = draw_explorer(search(strategy="halving"))
    told = page.partition("<h2>Search</h2>")[2]
    assert "Objectives: p99 scheduling delay \N{LESS-THAN OR EQUAL TO} 5 s, attainment" in page
    assert "<th scope='row'>strategy</th><td>halving</td>" in told
    assert "tensor_parallel" not in told
    given = page.partition("<h2>Space</h2>")[2].partition("<h2>Search</h2>")[0]
    assert re.findall("<th scope='row'>(.*?)</th><td>(.*?)</td>", given) == [
        ("tensor_parallel", "1, 2, 4"),
        ("scheduler", "vllm_v1, sarathi"),
        ("model", "m"),
        ("sarathi.chunk_size", "512"),
    ]


def test_findings_are_told_in_tables():
    values = [{"value": "h100_sxm", "best": 2.0, "reach": 1.0}, {"value": "a100_sxm", "best": 1.0, "reach": 0.5}]
    sensitivity = {"max_num_seqs": {"share": None, "values": []}, "device": {"share": 0.75, "values": values}}
    crossed = [
        {"model": None, "best_on": "chat", "config_id": "id00", "run_on": "chat", "factor": 1.0},
        {"model": None, "best_on": "chat", "config_id": "id00", "run_on": "code", "factor": 1.536},
        {"model": None, "best_on": "code", "config_id": "gone", "run_on": "chat", "factor": None},
    ]
    kept = {"model": None, "config_id": "id00", "regret": 0.25, "worst_on": "code", "worst_factor": 1.536}
    findings = {
        "cases": [{"model": None, "workload": "chat", "sensitivity": sensitivity}],
        "mismatch": crossed,
        "regret": [kept],
    }
    page = draw_explorer(search(findings=findings))
    assert headings(page) == [*SECTIONS[:6], "Sensitivity", "Misconfiguration", "One for all", *SECTIONS[6:]]
    cells = re.findall(r"<td>(.*?)</td>", page.partition("<h2>Sensitivity</h2>")[2].partition("<h2>Left out</h2>")[0])
    id00, times = "a100_sxm, tp 1, vllm_v1, max_num_seqs 64", "1.54 \N{MULTIPLICATION SIGN}"
    assert cells == [
        *("device", "75%", "h100_sxm: 100%, a100_sxm: 50%"),
        *("max_num_seqs", NOTHING, ""),
        *(id00, "1 \N{MULTIPLICATION SIGN}", times),
        *("gone", NOTHING, NOTHING),
        *("25%", "code", times),
    ]
    assert "findings" not in page.partition("<h2>Search</h2>")[2]


def test_a_name_in_the_title_is_that_of_the_directory(tmp_path: Path):
    assert "<h1>Search found</h1>" in draw_explorer(read_search(str(write_search(tmp_path / "found"))))


def test_directories_that_cannot_be_read_are_refused(cli: Cli, tmp_path: Path):
    good, run, bad, out = (
        write_search(tmp_path / "s"),
        write_run(tmp_path / "run"),
        tmp_path / "bad",
        tmp_path / "p.html",
    )
    cli("report", good, run, "--out", out).assert_refused("is of a search", "give it alone")
    bad.mkdir()
    (bad / "journal.jsonl").write_text("{}\n")
    cli("report", bad, "--out", out).assert_refused("has not ended", "--resume")
    (bad / "search.json").write_text("[]")
    cli("report", bad, "--out", out).assert_refused("is no JSON object")
    (bad / "search.json").write_text("{}")
    cli("report", bad, "--out", out).assert_refused("has no configurations.parquet")
    frame, probes = search_frames()
    frame.drop("status").write_parquet(bad / "configurations.parquet")
    cli("report", bad, "--out", out).assert_refused("configurations.parquet", "has no column status")
    frame.write_parquet(bad / "configurations.parquet")
    probes.drop("holds").write_parquet(bad / "probes.parquet")
    cli("report", bad, "--out", out).assert_refused("probes.parquet", "has no column holds")
    (bad / "search.json").unlink()
    (bad / "journal.jsonl").unlink()
    cli("report", bad, "--out", out).assert_refused("has no search.json")
    assert not out.exists()


def test_a_real_search_is_read_as_it_was_written(tmp_path: Path):
    workloads = {"chat": search_workload(), "code": search_workload(seed=1)}
    done = run_search(SPACE, workloads, SLO, threads=1, directory=tmp_path / "s")
    found = read_search(str(tmp_path / "s"))
    data = payload(found)
    assert data["axes"][0]["label"] == "tp"
    assert len(data["rows"]) == 16
    assert sum(len(row["points"]) for row in data["rows"]) == len(done.probes)
    page = draw_explorer(found)
    assert headings(page) == [*SECTIONS[:6], "Sensitivity", "Misconfiguration", "One for all", "Space", "Search"]
    assert "Objectives: p90 TTFT \N{LESS-THAN OR EQUAL TO} 500 ms" in page
    for workload, by_model in done.record["best"].items():
        (best,) = by_model.values()
        assert f"<dt>Best: {workload}</dt><dd><b>{significant(best['qps_per_dollar'])} requests per dollar" in page
