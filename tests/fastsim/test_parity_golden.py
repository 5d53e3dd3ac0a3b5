"""Parity with the real Vidur: the product repeats every run in ../shared/golden through bench/parity.py."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_calls import REPOSITORY

GOLDEN = REPOSITORY.parent / "shared" / "golden"
BENCH = REPOSITORY / "bench" / "parity.py"

if not GOLDEN.is_dir():
    pytest.skip("the runs of the real Vidur are not here: ../shared/golden", allow_module_level=True)


def bench(*words: object) -> tuple[int, dict | None]:
    done = subprocess.run(
        [sys.executable, str(BENCH), *map(str, words), "--json"],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, json.loads(done.stdout, parse_constant=pytest.fail) if done.stdout else None


def test_every_run_is_repeated():
    code, printed = bench(GOLDEN)
    assert code == 0
    runs = {path.parent.name for path in GOLDEN.glob("*/golden.json")}
    assert {row["run"] for row in printed["rows"]} == runs
    # Not only below the tolerance: to the last bit.
    assert {row["max_abs_error_s"] for row in printed["rows"]} == {0.0}
    columns = {row["column"] for row in printed["rows"]}
    assert columns >= {"scheduling_delay", "ttft", "e2e", "preempted_time", "replica_id", "completed", "num_blocks"}


def test_what_is_no_run_or_half_of_one_is_said_in_a_sentence(tmp_path: Path):
    """A folder that has lost a file must not be passed over."""
    assert bench(GOLDEN / "none") == (2, None)
    run = next(GOLDEN.glob("sarathi_static*"))
    half = tmp_path / "half"
    half.mkdir()
    (half / "config.json").write_bytes((run / "config.json").read_bytes())
    for place in (half, tmp_path):
        code, printed = bench(place)
        (row,) = printed["rows"]
        assert (code, row["run"], row["column"], row["max_abs_error_s"]) == (1, "half", "error", None)
        assert "golden.json" in row["error"]


def copy_of_a_run(directory: Path) -> Path:
    run = next(GOLDEN.glob("sarathi_static*"))
    name = json.loads((run / "golden.json").read_text())["tables"]
    (directory / name).symlink_to(GOLDEN / name)
    copy = directory / "copy"
    copy.mkdir()
    for file in run.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy


def edit(file: Path, before: str, after: str) -> None:
    text = gzip.decompress(file.read_bytes()).decode()
    assert before in text
    file.write_bytes(gzip.compress(text.replace(before, after, 1).encode()))


@pytest.mark.parametrize(
    ("file", "before", "after", "error"),
    [
        ("request_list", "\n0,0,", "\n0,0.25,", None),
        ("request_list", "\n199,0,777,99", "", "199 requests went in and 200 came out"),
        ("request_state", "scheduled_at", "when", "'scheduled_at' is missing"),
        ("request_state", "\n0,0,0,777,99,0.0,", "\n0,0,0,777,99,nan,", "the difference is not a number"),
    ],
)
def test_a_changed_file_ends_with_1(tmp_path: Path, file: str, before: str, after: str, error: str | None):
    copy = copy_of_a_run(tmp_path)
    edit(copy / f"{file}.csv.gz", before, after)
    code, printed = bench(copy)
    assert code == 1
    if error is None:
        assert max(row["max_abs_error_s"] for row in printed["rows"]) > 0.2
    else:
        assert error in {row.get("error") for row in printed["rows"]}


def test_a_difference_shows(tmp_path: Path):
    """One microsecond and a bit in one cell, one wrong count, and a run that fails, each end with 1."""
    copy = copy_of_a_run(tmp_path)
    assert bench(copy)[0] == 0
    config = json.loads((copy / "config.json").read_text())
    config["cluster_config"]["replica_scheduler_config"]["chunk_size"] = 511
    (copy / "config.json").write_text(json.dumps(config))
    code, printed = bench(tmp_path)
    assert code == 1
    assert max(row["max_abs_error_s"] for row in printed["rows"]) > 1e-3
    config["cluster_config"]["replica_scheduler_config"]["name"] = "none"
    (copy / "config.json").write_text(json.dumps(config))
    code, printed = bench(copy)
    assert code == 1
    assert [row["column"] for row in printed["rows"]] == ["error"]
