"""Parity with the real Vidur: the product repeats every run in ../shared/golden through bench/parity.py."""

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


def bench(*words: object) -> tuple[int, dict]:
    done = subprocess.run(
        [sys.executable, str(BENCH), *map(str, words), "--json"],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, json.loads(done.stdout)


def test_every_run_is_repeated():
    code, printed = bench(GOLDEN)
    assert code == 0
    runs = {path.parent.name for path in GOLDEN.glob("*/golden.json")}
    assert {row["run"] for row in printed["rows"]} == runs
    # Not only below the tolerance: to the last bit.
    assert {row["max_abs_error_s"] for row in printed["rows"]} == {0.0}
    columns = {row["column"] for row in printed["rows"]}
    assert columns >= {"scheduling_delay", "ttft", "e2e", "preempted_time", "replica_id", "completed", "num_blocks"}


def test_a_difference_shows(tmp_path: Path):
    """One microsecond and a bit in one cell, one wrong count, and a run that fails, each end with 1."""
    run = next(GOLDEN.glob("sarathi_static*"))
    name = json.loads((run / "golden.json").read_text())["tables"]
    (tmp_path / name).symlink_to(GOLDEN / name)
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in run.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
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
