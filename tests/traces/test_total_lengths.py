import numpy as np
import pytest

from traces.errors import TraceError
from traces.total_lengths import UniformTotal, Zipf

N = 200_000


def totals(distribution, n=N, seed=1):
    prompt, output = distribution.sample(n, np.random.Generator(np.random.PCG64(seed)))
    assert min(prompt.min(), output.min()) >= 1
    return prompt + output


def test_uniform_totals_take_both_ends_equally():
    counts = np.bincount(totals(UniformTotal(3, 12, 4.0)))[3:]
    assert len(counts) == 10
    assert ((counts - N / 10) ** 2 / (N / 10)).sum() < 27.9  # chi squared, 9 degrees of freedom, 0.1 %


@pytest.mark.parametrize("theta", [0.0, 0.6, 1.0, 2.5])
def test_zipf_has_its_weights(theta):
    counts = np.bincount(totals(Zipf(5, 24, 4.0, theta)))[5:]
    weights = np.arange(1, 21) ** -theta
    expected = N * weights / weights.sum()
    assert ((counts - expected) ** 2 / expected).sum() < 43.8  # chi squared, 19 degrees of freedom, 0.1 %


def test_scrambled_totals_are_as_frequent_in_another_order():
    plain, scrambled = (
        np.bincount(totals(Zipf(5, 24, 4.0, 1.5, scramble)), minlength=25) for scramble in (False, True)
    )
    assert sorted(plain) == sorted(scrambled)
    assert scrambled.argmax() != 5
    assert (plain != scrambled).any()


def test_scramble_is_true_or_false():
    with pytest.raises(TraceError, match=r"^scramble is 'maybe'; give true or false\.$"):
        Zipf(5, 24, 4.0, 1.5, "maybe")


@pytest.mark.parametrize(
    ("ratio", "expected"), [(20.0, (2000, 100)), (0.05, (100, 2000)), (1e6, (2099, 1)), (1e-6, (1, 2099))]
)
def test_the_ratio_divides_the_total(ratio, expected):
    prompt, output = UniformTotal(2100, 2100, ratio).sample(1, np.random.default_rng(0))
    assert (prompt[0], output[0]) == expected
