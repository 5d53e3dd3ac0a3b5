"""Values by rank without sorting them all."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fastsim.kernel.histogram import bucket_counts
from fastsim.ranks import Ranked

#: Some that are equal, some in the first and in the last bucket, and others anywhere.
amounts = st.one_of(st.sampled_from([0.0, 1e-9, 0.25, 1e12]), st.floats(0, 1e6))


@given(st.lists(amounts, min_size=1, max_size=60), st.data())
def test_ranks_are_those_of_the_sorted_values(amounts: list[float], data: st.DataObject):
    values = np.array(amounts)
    ranks = np.array(data.draw(st.lists(st.integers(0, len(values) - 1), min_size=1, max_size=8)))
    found = Ranked(values, bucket_counts(values), ranks).at(ranks)
    assert found.tolist() == np.sort(values)[ranks].tolist()
    assert values.tolist() == amounts


@given(st.lists(amounts, min_size=1, max_size=60), st.lists(amounts, max_size=8))
def test_as_many_are_below_an_edge_as_are_less(amounts: list[float], edges: list[float]):
    values = np.array(amounts)
    asked = np.array(edges, float)
    found = Ranked(values, bucket_counts(values), np.array([0]), asked).below(asked)
    assert found.tolist() == [sum(value < edge for value in amounts) for edge in edges]


def test_of_many_values_few_are_sorted():
    values = np.random.default_rng(0).lognormal(-2, 2, 100_000)
    ranks, edges = np.array([0, 50_000, 99_000, 99_999]), np.array([0.1, 1.0])
    ranked = Ranked(values, bucket_counts(values), ranks, edges)
    assert len(ranked._ascending) < 5_000
    assert ranked.at(ranks).tolist() == np.sort(values)[ranks].tolist()
    assert ranked.below(edges).tolist() == [(values < 0.1).sum(), (values < 1.0).sum()]
