"""The pages on metrics name all that a run has and nothing else, and the site is built of them without warnings."""

import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

import fastsim
from fastsim.confidence import over_seeds
from fastsim.intervals import describe_intervals

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(path for path in (ROOT / "docs" / "metrics").glob("*.md") if path.name != "index.md")
#: A place in the summary, or a column of a frame.
NAMED = re.compile(r"`((?:summary|requests|timeseries|batches)\.(?!parquet)[\w.*\[\]]+)`")
#: What a summary holds of one metric, once the metric is named.
OF_A_METRIC = {"mean", "p50", "p90", "p99", "max", "per_iteration", "per_second", "edges", "counts"}
OF_A_METRIC |= {"estimate", "low", "high"}
#: Whose inside is no list of metrics, or repeats another section.
WHOLE = ("summary.config", "summary.workload", "summary.estimates", "summary.confidence.slo.*")


def names_on(page: Path) -> set[str]:
    return set(NAMED.findall(page.read_text(encoding="utf-8")))


def places(value: Any, path: str) -> Iterator[str]:
    """Every key of a summary by its path, tables and lists of tables included."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield f"{path}.{key}"
            yield from places(inner, f"{path}.{key}")
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        yield f"{path}[]"
        for inner in value:
            yield from places(inner, f"{path}[]")


def matches(name: str, place: str) -> bool:
    parts, of_place = name.split("."), place.split(".")
    # A bracket is one of the name, not one of a pattern.
    return len(parts) == len(of_place) and all(
        fnmatchcase(part, pattern.replace("[", "[[]")) for pattern, part in zip(parts, of_place, strict=True)
    )


def is_named(place: str, names: set[str]) -> bool:
    place = place.replace("[].engines[]", "[]")  # what each engine of a replica has is what a replica has
    parts = place.split(".")
    for end in range(len(parts), 1, -1):
        found = [name for name in names if matches(name, ".".join(parts[:end]))]
        if found and (set(parts[end:]) <= OF_A_METRIC or any(name in WHOLE for name in found)):
            return True
    # A table, or a list of tables, is named by what is in it.
    table = place.replace("[]", "")
    return any(matches(".".join(name.replace("[]", "").split(".")[: len(parts)]), table) for name in names)


@pytest.fixture(scope="module")
def existing() -> set[str]:
    """All places and columns of runs that together have everything."""
    workload = fastsim.Workload.generate(
        num_requests=400,
        qps=10,
        seed=0,
        class_shares=(0.5, 0.5),
        conversations="geometric",
        conversation_options={"turns": 2, "think_s": 1},
    )
    slo = {"ttft_s": 1, "tpot_s": "50ms", "e2e_s": 10, "worst_tbt_s": 0.1, "tbt_p99_s": 0.1}
    recorded = fastsim.SimulationConfig(record_metrics=True, record_batches=True)
    measured = recorded.with_fields(slo=slo, warmup="2s", cooldown="20req")
    with warnings.catch_warnings(action="ignore"):  # that so short a run is no steady load
        first = fastsim.simulate(measured, workload, confidence=True)
        engines = fastsim.simulate(recorded.with_fields(data_parallel=2), workload)
    again = over_seeds([first.summary, first.summary])
    found = {place for result in (first, engines) for place in places(result.summary, "summary")}
    intervals = describe_intervals(first.summary["metrics"], [first.summary["metrics"]] * 2)
    found |= set(places({"confidence": again, "intervals": intervals}, "summary"))
    for result in (first, engines):
        for name in ("requests", "timeseries", "batches"):
            found |= {f"{name}.{column}" for column in getattr(result, name).columns}
    return found


def test_everything_that_a_run_has_is_on_a_page(existing: set[str]):
    names = {name for page in [*PAGES, ROOT / "docs" / "metrics" / "index.md"] for name in names_on(page)}
    assert sorted(place for place in existing if not is_named(place, names)) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_names_exists(page: Path, existing: set[str]):
    names = names_on(page)
    assert names
    assert [name for name in sorted(names) if not any(matches(name, place) for place in existing)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_says_what_readers_look_for(page: Path):
    text = page.read_text(encoding="utf-8")
    for part in ("- **Formula**", "- **Unit**", "- **Found**", "## Beware"):
        assert part in text, part


def test_the_table_of_pages_has_them_all():
    index = (ROOT / "docs" / "metrics" / "index.md").read_text(encoding="utf-8")
    assert {page.name for page in PAGES} <= set(re.findall(r"\]\(([\w-]+\.md)\)", index))


def test_the_site_is_built_without_warnings_and_loads_nothing_from_elsewhere(tmp_path: Path):
    pytest.importorskip("material", reason="needs mkdocs-material, of extra docs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-f", str(ROOT / ".ci" / "mkdocs.yml")]
    done = subprocess.run([*command, "-d", str(tmp_path)], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > len(PAGES)
    for page in pages:
        tags = re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", page.read_text(encoding="utf-8"))
        loaded = [tag for tag in tags if re.search(r"""(?:src|href)=["']?(?:https?:)?//""", tag)]
        assert loaded == [], page.name
