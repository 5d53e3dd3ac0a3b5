"""Objectives, windows, confidence and prices on the command line, and what the terminal shows of them."""

import io
from pathlib import Path

import numpy as np
import pytest
from cli_calls import process

from fastsim.commands.measuring import can_print
from fastsim.commands.summary import BARS, draw_bars
from fastsim.kernel.histogram import bucket_counts
from fastsim.kernel.state import REPLICA, records
from fastsim.metrics import describe_values, sketched_distribution
from fastsim.progress import Progress, ProgressLine, describe, read_progress

FEW = ("run", "--requests", 400, "--qps", 10)


def test_objectives_and_windows_are_flags_and_survive_the_file(tmp_path: Path):
    flags = ("--slo", "ttft=1s,tpot=50ms", "--slo.0", "e2e=1h", "--warmup", "5s", "--price-per-hour", 1.5)
    summary = process(*FEW, *flags, "--out", tmp_path, "--json").summary
    assert summary["config"]["slo"] == {"ttft_s": 1.0, "tpot_s": 0.05, "0": {"e2e_s": 3600.0}}
    assert set(summary["slo"]["objectives"]) == {"ttft_s", "tpot_s", "e2e_s"}
    assert summary["window"]["requests"] < 400
    assert summary["load"]["growing"] in (False, None)
    again = process("run", "--config", tmp_path / "config.toml", "--slo", "ttft=2s", "--json").summary
    assert again["config"]["slo"] == {"ttft_s": 2.0, "tpot_s": 0.05, "0": {"e2e_s": 3600.0}}
    assert again["hardware"]["price_per_hour"] == 1.5


def test_repeats_say_how_far_seeds_differ():
    outcome = process(*FEW, "--slo", "ttft=50ms", "--repeats", 3)
    assert outcome.code == 0
    assert "over 3 seeds" in outcome.out
    assert "objectives        met by" in outcome.out


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--slo", "ttft"), ("slo", "ttft=1s,tpot=50ms")),
        (("--slo", "worst_tbt=1s"), ("slo.worst_tbt_s", "record_metrics")),
        (("--warmup", "500req"), ("warmup", "leaves none of the 400 requests")),
        (("--repeats", "1"), ("repeats", "2 to")),
        (("--repeats", "3", "--confidence"), ("repeats", "--confidence")),
    ],
)
def test_what_cannot_be_measured_is_refused(flags: tuple[str, ...], words: tuple[str, ...]):
    process(*FEW, *flags).assert_refused(*words)


def test_bars_are_as_high_as_counts():
    assert draw_bars([0, 1, 4, 8]) == f" {BARS[1]}{BARS[4]}{BARS[7]}"
    assert draw_bars([]) == ""
    assert can_print(BARS, io.TextIOWrapper(io.BytesIO(), "utf-8"))
    assert not can_print(BARS, io.TextIOWrapper(io.BytesIO(), "ascii"))


def test_a_distribution_counts_every_value_once():
    values = np.sort(np.random.default_rng(0).lognormal(0, 2, 1000))
    found = describe_values(values)[1]
    assert sum(found["counts"]) == 1000
    expected, _ = np.histogram(values, found["edges"])
    # The rest lies below the ten-thousandth part of the largest, and counts in the first bin.
    expected[0] += np.count_nonzero(values < found["edges"][0])
    assert found["counts"] == pytest.approx(expected, abs=1)
    counts = bucket_counts(values)
    assert sum(sketched_distribution(counts)["counts"]) == 1000
    assert describe_values(np.zeros(0))[1] == sketched_distribution(0 * counts) == {"edges": [], "counts": []}
    assert describe_values(np.full(3, 2.0))[1]["counts"] == [3]


def test_progress_is_read_from_the_tables_of_the_loop():
    replicas = records(REPLICA, 2)
    replicas["completed"], replicas["clock_s"] = [30, 20], [7.0, 9.0]

    class Tables:
        pass

    tables = Tables()
    tables.replicas = replicas
    assert read_progress(tables) == Progress(50, 9.0)
    assert describe(Progress(50, 9.0), 200, 2.0) == "50 of 200 requests (25%), 9 s simulated in 2 s, 25 requests/s"


def test_a_short_run_says_nothing():
    stream = io.StringIO()
    with ProgressLine(10, stream):
        pass
    assert stream.getvalue() == ""
