import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traces import TraceError, Workload
from traces.classes import check_shares, draw_classes

WANTED = "give 1 to 128 numbers above 0 that sum to 1"


@settings(max_examples=50)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=6), st.integers(0, 2**64))
def test_each_class_is_drawn_with_its_share(weights, seed):
    shares = [weight / sum(weights) for weight in weights]
    counts = np.bincount(draw_classes(10_000, shares, seed), minlength=len(shares))
    assert len(counts) == len(shares)
    for count, share in zip(counts, shares, strict=True):
        assert count == pytest.approx(10_000 * share, abs=6 * math.sqrt(10_000 * share * (1 - share)))


def test_classes_have_the_third_child_of_the_seed():
    stream = np.random.Generator(np.random.PCG64(np.random.SeedSequence(9).spawn(3)[2]))
    expected = (stream.random(1000) >= 0.2).astype(int)
    assert draw_classes(1000, [0.2, 0.8], 9).tolist() == expected.tolist()


@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 2**64))
def test_more_requests_extend_the_same_classes(first, second, seed):
    few, many = (draw_classes(n, [0.3, 0.3, 0.4], seed) for n in sorted((first, second)))
    assert many[: len(few)].tolist() == few.tolist()


def test_shares_may_be_any_sequence_that_sums_to_one():
    assert check_shares(np.array([0.25, 0.75])) == [0.25, 0.75]
    assert check_shares((1,)) == [1.0]
    assert len(check_shares([1 / 128] * 128)) == 128
    assert check_shares([0.1] * 10) == [0.1] * 10
    assert check_shares([0.5, 0.5 + 9e-10])[1] > 0.5


@pytest.mark.parametrize(
    ("shares", "problem"),
    [
        (0.5, "is 0.5"),
        ([], "has 0 elements"),
        ([1 / 129] * 129, "has 129 elements"),
        ([0.2, 0.7], "sums to 0.9"),
        ([0.5, 0.5 + 2e-9], "sums to 1.000000002"),
        ([0.0, 1.0], "is 0.0 at index 0"),
        ([1.5, -0.5], "is -0.5 at index 1"),
        ([math.nan, 1.0], "is nan at index 0"),
        ([1.0, math.inf], "sums to inf"),
        (["0.5", 0.5], "is '0.5' at index 0"),
        ([True], "is True at index 0"),
    ],
)
def test_refuses_bad_shares(shares, problem):
    for refuse in (check_shares, Workload.from_arrays([0.0], [1], [1]).with_classes):
        with pytest.raises(TraceError) as caught:
            refuse(shares)
        assert caught.value.field == "class_shares"
        assert str(caught.value) == f"class_shares {problem}; {WANTED}."
