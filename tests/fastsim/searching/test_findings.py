"""Everything that a search says: as JSON, and as words."""

import json

import numpy as np
import polars as pl
import pytest
from search_frames import frame_of, row, some_frame

from fastsim.searching.findings import describe, words
from fastsim.searching.limits import read_limits

SMALL = pl.col("model") == "small"


def many_windows(shift: bool) -> pl.DataFrame:
    """Seven windows, of which the last three have another best configuration if so asked."""
    rows = []
    for i in range(7):
        for config_id, qps in (("a", 10.0), ("b", 20.0 if shift and i > 3 else 5.0)):
            rows.append(row(config_id, qps, f"{i}-{i + 1} s", tensor_parallel=1 if config_id == "a" else 2))
    return frame_of(rows)


def test_it_is_json_and_the_same_when_read_back():
    found = describe(some_frame(), {"ttft_s": {"p90": 2.0}})
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert words(json.loads(json.dumps(found))) == words(found)
    assert found == describe(some_frame(), read_limits({"ttft_s": {"p90": "2s"}}))


def test_it_is_json_where_numbers_are_missing():
    rows = [row("a", 10, mfu=np.nan, tensor_parallel=1), row("b", 0.0, ttft_p90_s=None, tensor_parallel=2)]
    found = describe(frame_of([*rows, row("c", None, tensor_parallel=4)]))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["cases"][0]["best"]["mfu"] is None
    assert found["status"] == {"ok": 2, "does_not_fit": 1}


def test_a_case_has_its_best_its_ties_and_its_front():
    found = describe(some_frame())
    assert [(case["model"], case["workload"]) for case in found["cases"]] == [
        ("small", "chat"),
        ("small", "code"),
        ("large", "chat"),
        ("large", "code"),
    ]
    case = found["cases"][1]
    assert case["best"]["config_id"] == "s1s64"
    assert case["best"]["knobs"] == {"tensor_parallel": 1, "scheduler": "sarathi", "scheduler.max_num_seqs": 64}
    assert case["best"]["qps_per_dollar"] == pytest.approx(10 / 1.2 * 1800)
    assert [one["config_id"] for one in case["ties"]] == ["s1s256"]
    assert [one["config_id"] for one in case["pareto"]] == ["s1s64", "s2s64", "s4s64"]
    assert list(case["sensitivity"]) == found["knobs"]
    assert (case["configurations"], case["compared"]) == (12, 12)
    assert found["cases"][2]["compared"] == 8
    assert found["goal"] == "qps_per_dollar"
    assert len(found["mismatch"]) == 8
    assert found["regret"][0]["config_id"] == "s1s256"


def test_words_of_a_few_cases():
    text = words(describe(some_frame().filter(SMALL), {"ttft_s": {"p90": 2.0}, "attainment": 0.95}))
    lines = text.splitlines()
    expected = "requests per dollar at the highest rate with p90 TTFT <= 2.00 s and attainment >= 95.0%"
    assert lines[0] == expected
    assert "  best   tp 1, vllm_v1, max_num_seqs 256   [s1v256]" in lines
    assert "  tied   tp 1, sarathi, max_num_seqs 256" in lines
    assert "    chat                                    1.00          2.50" in lines
    assert "    code                             1.80 (1.20)          1.00" in lines
    assert "  small: [s1s256] costs 7.1% more; at most 20.0%, on chat" in lines
    assert all(len(line) <= 116 and line == line.rstrip() for line in lines)
    words_of_shares = [line.split()[:2] for line in lines if "%" in line and "64 " in line]
    assert ["max_num_seqs", "64.6%"] in words_of_shares


def test_bars_can_be_left_out():
    found = describe(some_frame())
    assert "█" in words(found)
    words(found, with_bars=False).encode("ascii")


def test_of_many_windows_changes_are_told():
    text = words(describe(many_windows(shift=True)))
    assert text.count("still [a]") == 3
    assert text.count("still [b]") == 2
    assert "tp 2   [b]" in text
    assert "4.00 at most" not in text
    assert "2.00 at most: 4-5 s with the best for 0-1 s" in text
    assert "one configuration for all" in text


def test_of_many_windows_without_a_change_nothing_is_lost():
    text = words(describe(many_windows(shift=False)))
    assert text.count("still [a]") == 6
    assert "[a] costs 0.0% more" in text


def test_a_search_in_which_nothing_holds():
    found = describe(frame_of([row("a", 0.0, tensor_parallel=1), row("b", None, tensor_parallel=2)]))
    assert found["cases"][0]["best"] is None
    assert found["cases"][0]["ties"] == []
    assert "none of them holds" in words(found)
    assert words(found).splitlines()[0].endswith("with p99 scheduling delay <= 5.00 s")


def test_a_search_of_one_configuration():
    text = words(describe(frame_of([row("a", 10.0, long_enough=False)])))
    assert "best   as given   [a]" in text
    assert "too short" in text


def test_without_prices_rates_are_told():
    frame = frame_of([row("a", 10, tp=1), row("b", 5, tp=2)]).with_columns(qps_per_dollar=pl.lit(None, pl.Float64))
    text = words(describe(frame))
    assert text.startswith("capacity at the highest rate")
    assert "per dollar" not in text


def test_a_long_front_is_thinned():
    rows = [row(f"c{i}", 20.0 - i, batch=i, ttft_p90_s=1.0 - i / 20) for i in range(20)]
    found = describe(frame_of(rows))
    assert len(found["cases"][0]["pareto"]) == 20
    text = words(found)
    assert "8 of 20 points" in text
    assert "batch 0" in text
    assert "batch 19" in text
