"""Quantiles, and the histogram behind the sketched ones."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_cases import bucket_of

from fastsim.kernel.histogram import NUM_BUCKETS, bucket, bucket_counts, bucket_values
from fastsim.kernel.state import REQUEST, records
from fastsim.metrics import QUANTILES, exact, latencies, sketched

durations = st.floats(0, 1e6)


@given(durations)
def test_bucket_is_the_exponent_and_seven_bits(duration_s: float):
    assert bucket(duration_s) == bucket_of(duration_s)


@given(st.lists(durations, max_size=30))
def test_many_durations_are_counted_like_single_ones(values: list[float]):
    counts = bucket_counts(np.array(values))
    expected = np.zeros(NUM_BUCKETS, int)
    for value in values:
        expected[bucket_of(value)] += 1
    assert counts.tolist() == expected.tolist()


#: The first bucket, which holds everything shorter too, ends here [s].
SHORTEST_S = 2.0**-20 * (1 + 2.0**-7)


@given(st.floats(SHORTEST_S, 2.0**14, exclude_max=True))
def test_a_bucket_stands_for_its_durations_within_four_per_mille(duration_s: float):
    assert bucket_values()[bucket(duration_s)] == pytest.approx(duration_s, rel=0.004)


@given(st.floats(0, SHORTEST_S, exclude_max=True))
def test_shorter_durations_count_as_nothing(duration_s: float):
    assert bucket_values()[bucket(duration_s)] == 0


def test_bucket_values_ascend():
    assert (np.diff(bucket_values()) > 0).all()
    assert len(bucket_values()) == NUM_BUCKETS


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50))
def test_exact_quantiles_are_those_of_numpy_and_polars(values: list[float]):
    summary = exact(np.array(values))
    assert set(summary) == {"mean", *QUANTILES}
    assert summary["mean"] == pytest.approx(np.mean(values), rel=1e-12)
    for name, q in QUANTILES.items():
        assert summary[name] == pytest.approx(np.quantile(values, q), rel=1e-12)
        assert summary[name] == pytest.approx(pl.Series(values).quantile(q, "linear"), rel=1e-12)


def test_of_no_values_there_is_no_summary():
    none = {"mean": None, "p50": None, "p90": None, "p99": None}
    assert exact(np.array([])) == none
    assert sketched(np.zeros(NUM_BUCKETS, np.int64), 0.0) == none


@given(st.lists(st.floats(1e-5, 1e4), min_size=1, max_size=200))
def test_sketched_quantiles_are_exact_within_four_per_mille(values: list[float]):
    summary = sketched(bucket_counts(np.array(values)), float(np.sum(values)))
    assert summary["mean"] == pytest.approx(np.mean(values), rel=1e-12)
    for name, q in QUANTILES.items():
        assert summary[name] == pytest.approx(np.quantile(values, q), rel=0.004)


def test_sketched_quantiles_of_many_values_are_the_exact_ones():
    values = np.random.default_rng(0).lognormal(-2, 2, 50_000)
    summary, truth = sketched(bucket_counts(values), values.sum()), exact(values)
    for name in QUANTILES:
        assert summary[name] == pytest.approx(truth[name], rel=0.01)


def test_sketched_quantiles_of_long_waits_are_the_exact_ones():
    # 3 M requests at time 0 on a replica that completes 30 a second wait for up to a day.
    values = np.arange(100_000) + 0.5
    summary, truth = sketched(bucket_counts(values), values.sum()), exact(values)
    for name in QUANTILES:
        assert summary[name] == pytest.approx(truth[name], rel=0.01)


def test_sketched_quantiles_of_few_values_are_the_exact_ones():
    values = np.array([0.01, 9.0])
    summary, truth = sketched(bucket_counts(values), values.sum()), exact(values)
    for name in QUANTILES:
        assert summary[name] == pytest.approx(truth[name], rel=0.01)


def test_latencies_follow_their_definitions():
    requests = records(REQUEST, 2)
    requests["arrival_s"] = [1.0, 2.0]
    requests["scheduled_s"] = [1.5, 2.0]
    requests["first_token_s"] = [2.0, 3.0]
    requests["completed_s"] = [6.0, 3.0]
    requests["output_tokens"] = [5, 1]
    assert {name: values.tolist() for name, values in latencies(requests).items()} == {
        "scheduling_delay_s": [0.5, 0.0],
        "ttft_s": [1.0, 1.0],
        "tpot_s": [1.0],  # of the first request: the second has one output token
        "e2e_s": [5.0, 1.0],
        "e2e_normalized_s": [1.0, 1.0],
    }
