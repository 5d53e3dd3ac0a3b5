"""What bench/throughput.py makes of a trace."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from run_files import refusal

import fastsim


def test_a_trace_that_is_not_there_is_told_before_anything_is_timed(tmp_path: Path):
    assert "none.jsonl" in refusal("throughput.py", "--smoke", "--trace", tmp_path / "none.jsonl")


def test_a_trace_without_a_rate_is_timed(script: Callable[[str], ModuleType]):
    trace = fastsim.Workload.from_arrays([0.0] * 3, [32] * 3, [4] * 3, block_ids=[[0, 1]] * 3, block_tokens=16)
    row = script("throughput").cached(trace, 5, 1)
    assert (row["requests"], row["prefix_caching"]) == (6, True)
