"""Pages drawn from files that a stranger wrote: every text of them is shown as text, on every page there is."""

import json
import lzma
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import onnx
import polars as pl
import pytest
from cli_calls import Cli
from report_files import requests, summary, timeseries
from search_files import search_frames, write_search

from estimators.estimator import ZOO

NASTY = "\"'><img src=x onerror=alert(1)></title></style></script><script>alert(1)</script><!--"


class Elements(HTMLParser):
    """Counts elements, and keeps what would run."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.running: list[tuple[str, str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.running += [(tag, name, value) for name, value in attrs if name.startswith("on") or name == "src"]


def assert_shown_as_text(page: Path, scripts: int) -> None:
    """No element of the page is of the nasty text, which is somewhere on it."""
    text = page.read_text(encoding="utf-8")
    assert "alert(1)" in text
    found = Elements()
    found.feed(text)
    assert "img" not in found.tags
    assert found.running == []
    assert found.tags.count("script") == scripts
    assert "<!--" not in text


def nastier(value: Any) -> Any:
    """Every text of a tree with the nasty one behind it."""
    if isinstance(value, dict):
        return {key: nastier(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [nastier(inner) for inner in value]
    return value + NASTY if isinstance(value, str) else value


@pytest.mark.parametrize("number", [1, 2])
def test_a_report_of_runs(cli: Cli, tmp_path: Path, number: int) -> None:
    told = nastier(summary())
    told["operators"] = [{f"gate{NASTY}": {"seconds": 30.0, "share": 1.0}}]
    told["slo"]["classes"] = {f"0{NASTY}": told["slo"]["classes"]["0"]}
    folders = [tmp_path / f"{i}{NASTY.replace('/', '')}" for i in range(number)]
    for folder in folders:
        folder.mkdir()
        (folder / "summary.json").write_text(json.dumps(told))
        requests().write_parquet(folder / "requests.parquet")
        timeseries().write_parquet(folder / "timeseries.parquet")
    done = cli("report", *folders, "--out", tmp_path / "a.html")
    assert done.code == 0, done.err
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "summary.json").write_text(json.dumps(summary()))
    timeseries().write_parquet(plain / "timeseries.parquet")
    requests().write_parquet(plain / "requests.parquet")
    assert cli("report", plain, "--out", tmp_path / "b.html").code == 0
    assert_shown_as_text(tmp_path / "a.html", (tmp_path / "b.html").read_text().count("<script"))


def test_a_report_of_a_search(cli: Cli, tmp_path: Path) -> None:
    folder = write_search(tmp_path / f"s{NASTY.replace('/', '')}")
    about = json.loads((folder / "search.json").read_text())
    about["workloads"] = {f"{name}{NASTY}": value + NASTY for name, value in about["workloads"].items()}
    (folder / "search.json").write_text(json.dumps(about))
    texts = ("workload", "model", "device", "scheduler", "reason", "binding")
    for frame, name in zip(search_frames(), ("configurations", "probes"), strict=True):
        changes = [pl.col(column) + NASTY for column in texts if column in frame.columns]
        frame.with_columns(changes).write_parquet(folder / f"{name}.parquet")
    done = cli("report", folder, "--out", tmp_path / "a.html")
    assert done.code == 0, done.err
    assert cli("report", write_search(tmp_path / "plain"), "--out", tmp_path / "b.html").code == 0
    assert_shown_as_text(tmp_path / "a.html", (tmp_path / "b.html").read_text().count("<script"))


def test_pictures_of_a_trace(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / f"{NASTY.replace('/', '')}.csv"
    path.write_text("arrived_at,num_prefill_tokens,num_decode_tokens\n0,10,5\n1,20,6\n2,30,7\n")
    done = cli("traces", "describe", path, "--plot", tmp_path / "a.html")
    assert done.code == 0, done.err
    assert_shown_as_text(tmp_path / "a.html", 0)


def test_pictures_of_estimators(cli: Cli, tmp_path: Path) -> None:
    model = onnx.load_from_string(lzma.decompress((ZOO / "h100_sxm-bf16" / "all_gather.onnx.xz").read_bytes()))
    for entry in model.metadata_props:
        if entry.key not in ("features", "roofline", "calibration", "profiled", "judged_by"):
            entry.value = json.dumps(nastier(json.loads(entry.value)))
    folder = tmp_path / f"gpu{NASTY.replace('/', '')}-bf16"
    folder.mkdir()
    (folder / "all_gather.onnx.xz").write_bytes(lzma.compress(model.SerializeToString(), preset=0))
    done = cli("estimators", "show", "--zoo", tmp_path, "--plot", tmp_path / "a.html")
    assert done.code == 0, done.err
    assert_shown_as_text(tmp_path / "a.html", 0)
