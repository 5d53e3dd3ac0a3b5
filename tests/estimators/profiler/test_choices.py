import numpy as np
import pytest

from estimators.errors import EstimatorError
from estimators.profiler.choices import choices, draw_counts, on_fullest, rotations


@pytest.mark.parametrize("load", [0, 101, 120])
@pytest.mark.parametrize(("tokens", "topk", "count"), [(1, 2, 8), (7, 8, 8), (100, 2, 8), (3, 6, 64), (1000, 8, 128)])
def test_counts_and_choices_agree(tokens: int, topk: int, count: int, load: int):
    draws = np.random.default_rng(0)
    counts = draw_counts(tokens, topk, count, load, draws)
    assert counts.shape == (count,)
    assert counts.sum() == tokens * topk
    assert counts.min() >= 0
    assert counts.max() <= tokens
    chosen = choices(counts, tokens, draws)
    assert chosen.shape == (tokens, topk)
    assert all(len(set(row)) == topk for row in chosen)
    np.testing.assert_array_equal(np.bincount(chosen.ravel(), minlength=count), counts)


def test_balanced_counts_differ_by_one_and_are_spread():
    counts = draw_counts(3, 2, 12, 0, np.random.default_rng(0))
    np.testing.assert_array_equal(counts.reshape(6, 2).sum(axis=1), 1)
    assert np.ptp(draw_counts(100, 3, 16, 0, np.random.default_rng(0))) <= 1


def test_a_power_law_is_steeper_where_its_exponent_is_larger():
    draws = np.random.default_rng(1)
    shares = [
        np.mean([draw_counts(2000, 2, 64, load, draws).max() for _ in range(50)]) / 2000 for load in (0, 101, 200)
    ]
    assert shares[0] < 0.04
    assert 0.1 < shares[1] < shares[2]


def test_more_experts_per_token_than_there_are_is_refused():
    with pytest.raises(EstimatorError, match="topk 9 is more than the 8 experts"):
        draw_counts(4, 9, 8, 0, np.random.default_rng(0))


def test_the_fullest_gpu_sees_its_own_experts():
    chosen = np.array([[0, 5], [4, 5], [2, 4]])
    np.testing.assert_array_equal(on_fullest(chosen, 6, 2), [[2, 1], [0, 1], [2, 0]])
    np.testing.assert_array_equal(on_fullest(chosen, 6, 6), chosen)
    # 7 experts over 4 at most: the second GPU has three.
    np.testing.assert_array_equal(on_fullest(np.array([[6, 5]]), 7, 4), [[2, 1]])


@pytest.mark.parametrize(("most", "expected"), [(8, 2), (1, 1)])
def test_rotations_are_the_same_batch_over_other_experts(most: int, expected: int):
    chosen = np.array([[0, 4], [4, 5], [6, 4]])  # of 6 experts here; 6 is elsewhere
    turned = rotations(chosen, 6, most)
    assert turned.shape == (expected, 3, 2)
    for batch in turned:
        np.testing.assert_array_equal(batch == 6, chosen == 6)
        counts = [np.sort(np.bincount(each[each < 6], minlength=6)) for each in (batch, chosen)]
        np.testing.assert_array_equal(*counts)
    assert len(set(turned[turned < 6])) == 3 * expected  # none of them twice
