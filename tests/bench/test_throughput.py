"""What bench/throughput.py makes of a trace."""

import importlib
from pathlib import Path

import pytest
from run_files import REPOSITORY, bench

import fastsim


def test_a_trace_that_is_not_there_is_told_before_anything_is_timed(tmp_path: Path):
    code, printed, said = bench("throughput.py", "--smoke", "--trace", tmp_path / "none.jsonl")
    assert (code, printed, said.count("\n")) == (2, None, 1)
    assert "none.jsonl" in said


def test_a_trace_without_a_rate_is_timed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(REPOSITORY / "bench"))
    throughput = importlib.import_module("throughput")
    trace = fastsim.Workload.from_arrays([0.0] * 3, [32] * 3, [4] * 3, block_ids=[[0, 1]] * 3, block_tokens=16)
    row = throughput.cached(trace, 5, 1)
    assert (row["requests"], row["prefix_caching"]) == (6, True)
