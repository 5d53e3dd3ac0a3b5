"""The record: its page is made of it, no bench is forgotten, and it holds what the docs claim of operators."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from run_files import REPOSITORY

DOCS = REPOSITORY / "docs"
Script = Callable[[str], ModuleType]
#: Names of operators in docs/accuracy.md, and of what was held out where they differ.
OPERATORS = {
    "products": "gemm",
    "prefill attention": "prefill_attention",
    "decode attention": "decode_attention",
    "latent prefill (MLA)": "latent_prefill",
    "latent decode": "latent_decode",
    "latent products": "latent_bmm",
    "experts": "moe",
    "all-reduce": "all_reduce",
    "all-gather": "all_gather",
    "reduce-scatter": "reduce_scatter",
    "all-to-all": "all_to_all",
}
DEVICES = ("a100_sxm", "h100_sxm", "h200_sxm", "b200_sxm", "l40s")


@pytest.fixture(scope="module")
def committed() -> dict[str, Any]:
    return json.loads((DOCS / "record.json").read_text(encoding="utf-8"))


def bench(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", *map(str, words)]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)


def test_the_page_and_the_table_of_the_readme_are_made_of_the_record(script: Script, committed: dict[str, Any]):
    pages = script("record_page")
    assert (DOCS / "record.md").read_text(encoding="utf-8") == pages.page_of(committed)
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert readme == pages.readme_of(readme, committed)


def test_a_record_of_the_standard_work_replaces_the_table_of_the_readme(script: Script, committed: dict[str, Any]):
    row = script("common").figure(script("common").STANDARD_WORK, "orca", "1 replica", 3.7e6, "requests/s")
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    made = script("record_page").readme_of(readme, committed | {"rows": [row]})
    outside = [re.sub(r"(?s)<!-- record.*<!-- record: end -->", "", text) for text in (readme, made)]
    assert outside[0] == outside[1]
    assert "| orca | 3.7 M |" in made
    assert "| `orca` |" not in made
    assert committed["machine"]["cpu"] in made


def test_every_bench_is_recorded_or_said_not_to_be(script: Script):
    registry = script("registry")
    scripts = {
        path.stem for path in (REPOSITORY / "bench").glob("[a-z]*.py") if "__main__" in path.read_text(encoding="utf-8")
    }
    recorded = {bench.name for bench in registry.BENCHES}
    assert scripts == recorded | {name.split()[0] for name in registry.NOT_RECORDED}
    pages = {bench.page for bench in registry.BENCHES} | {page for page, _ in registry.NOT_RECORDED.values()}
    assert [page for page in sorted(pages) if not (DOCS / page).is_file()] == []


def test_rows_say_what_where_and_how(script: Script, committed: dict[str, Any]):
    assert committed["rows"]
    recorded = {bench.name for bench in script("registry").BENCHES}
    for row in committed["rows"]:
        assert list(row) == ["bench", "what", "name", "of", "figure", "unit", "command"]
        assert row["bench"] in recorded
        assert row["command"].startswith(f"python bench/{row['bench']}.py")
    assert not re.search(r'[" ]/[a-z]', json.dumps(committed))  # no path of the machine


def test_no_two_figures_have_one_place(committed: dict[str, Any]):
    places = [(row["bench"], row["what"], row["name"], row["of"]) for row in committed["rows"]]
    assert len(places) == len(set(places))


def test_errors_of_the_operators_are_those_of_the_package(committed: dict[str, Any], tmp_path: Path):
    done = bench("operator_errors", "--json", "--data", tmp_path)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert rows == [row for row in committed["rows"] if row["bench"] == "operator_errors"]


def test_the_page_on_accuracy_claims_of_operators_what_the_record_has(committed: dict[str, Any]):
    known = {
        (row["what"].split()[0], row["name"], row["of"]): f"{100 * row['figure']:.1f}"
        for row in committed["rows"]
        if row["bench"] == "operator_errors"
    }
    claimed = {}
    for line in (DOCS / "accuracy.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 3 + len(DEVICES) and cells[0] in OPERATORS:
            split = "shapes" if cells[2] == "sizes" else cells[2]
            name = f"{OPERATORS[cells[0]]}, {cells[1]}, {split}"
            for device, cell in zip(DEVICES, cells[3:], strict=True):
                if found := re.fullmatch(r"([\d.]+) % \(([\d.]+) %\)", cell):
                    claimed |= {("Mean", name, device): found[1], ("Median", name, device): found[2]}
    assert claimed == known


def test_the_page_on_accuracy_claims_of_measured_runs_what_the_record_has(committed: dict[str, Any]):
    known = {(row["name"], row["of"]): row["figure"] for row in committed["rows"] if row["bench"] == "fidelity"}
    lines = (DOCS / "accuracy.md").read_text(encoding="utf-8").splitlines()
    start = lines.index("| GPU | metric | mean | p50 | p90 | p99 |") + 2
    for i, line in enumerate(lines[start : start + 6]):
        name = f"{('RTX4090', 'RTXPRO6000')[i // 3]}_Llama-3.1-8B, {('ttft', 'tpot', 'latency')[i % 3]}"
        claimed = [cell.strip() for cell in line.strip("|").split("|")][2:]
        assert claimed == [f"{100 * known[name, of]:+.1f} %" for of in ("mean", "p50", "p90", "p99")]


#: Names of rules in docs/accuracy.md, where they are not those of the bench.
RULES = {
    "the same, without CPU time": "synchronous scheduling, no CPU time",
    "uncached blocks first (`vllm-head`)": "uncached blocks first",
    "512 instead of 2,048 tokens per batch": "a quarter of the tokens per batch",
}


def test_the_page_on_accuracy_claims_of_rules_what_the_record_has(committed: dict[str, Any]):
    known = {
        (row["what"].partition("_")[0], row["name"], row["of"]): row["figure"]
        for row in committed["rows"]
        if row["bench"] == "effects"
    }
    lines = (DOCS / "accuracy.md").read_text(encoding="utf-8").splitlines()
    start = lines.index("| all rules | | +0.7 % | | -2.1 % |") + 1
    end = lines.index("", start)
    for line in lines[start:end]:
        rule, *claimed = (cell.strip() for cell in line.strip("|").split("|"))
        for i, gpu in enumerate(("RTX4090", "RTXPRO6000")):
            place = gpu, RULES.get(rule, rule)
            changes = [100 * known[*place, of] for of in ("ttft", "tpot", "latency")]
            told = ", ".join(f"{change:+.1f}" for change in changes) + " %"
            assert claimed[2 * i] == told if any(changes) else claimed[2 * i] in ("none", "not in this profile")
            assert claimed[2 * i + 1] == f"{100 * known[*place, 'error of latency that is left']:+.1f} %"
    assert end - start == len({name for _, name, _ in known})


def test_benches_without_their_data_are_left_out_by_name(tmp_path: Path):
    done = bench("parity", "steps", "--json", "--data", tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["rows"] == []
    assert record["skipped"] == {
        "parity": "DIR/golden is not there",
        "steps": "DIR/data/groundtruth/vllm is not there",
    }


def test_a_bench_that_fails_is_told_and_fails_the_record(tmp_path: Path):
    (tmp_path / "golden").mkdir()
    done = bench("parity", "--json", "--data", tmp_path)
    assert done.returncode == 1
    assert list(json.loads(done.stdout)["failed"]) == ["parity"]
    assert "holds no run" in done.stderr


@pytest.mark.parametrize("words", [["nothing"], ["table"], ["table", "README.md"]])
def test_what_cannot_be_done_is_said(words: list[str]):
    done = bench(*words)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("figure", "unit", "shown"),
    [
        (3_512_345.0, "requests/s", "3.5 M"),
        (161.3, "configurations/s", "161"),
        (12_345.0, "iterations/s", "12.3 k"),
        (0.0123, "%", "1.2 %"),
        (0.0123, "+%", "+1.2 %"),
        (-0.0001, "+%", "0.0 %"),
        (-0.0123, "+%", "-1.2 %"),
        (0.0043, "s", "4.3 ms"),
        (75.0, "s", "1.25 min"),
        (0.99964, "s", "1 s"),
        (0.0009999, "s", "1 ms"),
        (0.0, "s", "0 s"),
        (4.4e-16, "s", "4.4e-16 s"),
        (1234, "", "1,234"),
        (512.4, "MiB", "512 MiB"),
        (1.314, "", "1.31"),
        (None, "s", ""),
    ],
)
def test_figures_are_shown_as_people_read_them(script: Script, figure: float | None, unit: str, shown: str):
    assert script("record_page").shown(figure, unit) == shown


def test_throughput_is_told_by_policy_and_what_is_added_by_name(script: Script):
    plain = {"policy": "sglang", "replicas": 1, "pp": 1, "prefix_caching": False, "engine": "ideal"}
    plain |= {"asynchronous": False, "client": "open", "requests_per_s": 3e6, "iterations_per_s": 4e6}
    plain |= {"iterations_per_request": 1.3}
    rows = [plain, plain | {"replicas": 64, "pp": 4}, plain | {"client": "closed"}]
    recording = {"what": "record_metrics", "engine": "ideal", "pp": 1, "ratio": 1.2}
    printed = {"rows": [*rows, recording], "starts": [{"what": "tables built", "wall_s": 0.5}]}
    found = {(row["name"], row["of"]): row["figure"] for row in script("throughput").record(printed)}
    assert found == {
        ("sglang", "1 replica"): 3e6,
        ("sglang", "iterations per request"): 1.3,
        ("sglang", "64 replicas of 4 stages"): 3e6,
        ("1 replica, engine ideal, closed clients", "requests/s"): 3e6,
        ("1 replica, engine ideal, closed clients", "iterations/s"): 4e6,
        ("engine ideal, 1 stage", "ratio"): 1.2,
        ("tables built", "time"): 0.5,
    }
