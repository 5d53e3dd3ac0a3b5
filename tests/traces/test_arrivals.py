import math

import numpy as np
import pytest

from traces import TraceError
from traces.arrivals import ARRIVALS, Gamma, Poisson, Static, Weibull, weibull_shape
from traces.choices import choose

N = 200_000


def draw(process, n=N, seed=1):
    return process.sample(n, np.random.Generator(np.random.PCG64(seed)))


def intervals(process):
    arrival_s = draw(process)
    assert arrival_s.dtype == np.float64
    return np.diff(arrival_s, prepend=0.0)


def test_poisson_intervals_are_exponential():
    ordered = np.sort(intervals(Poisson(qps=4.0)))
    distance = np.abs(-np.expm1(-4.0 * ordered) - np.arange(1, N + 1) / N).max()
    assert distance < 1.63 / math.sqrt(N)  # Kolmogorov-Smirnov, 1 %
    assert ordered[-1] > 3 / 4.0  # not capped at 3 / qps, as Vidur does


@pytest.mark.parametrize("cv", [0.2, 1.0, 3.0])
def test_gamma_has_its_rate_and_cv(cv):
    drawn = intervals(Gamma(qps=0.5, cv=cv))
    assert drawn.mean() == pytest.approx(2.0, rel=5 * cv / math.sqrt(N))
    # The relative standard error of a cv estimated from gamma numbers is below (1 + 2 cv**2) / sqrt(2 n) or so.
    assert drawn.std() / drawn.mean() == pytest.approx(cv, rel=5 * (1 + 2 * cv * cv) / math.sqrt(2 * N))


def test_gamma_of_cv_1_is_poisson():
    ordered = np.sort(intervals(Gamma(qps=1.0, cv=1)))
    assert np.abs(-np.expm1(-ordered) - np.arange(1, N + 1) / N).max() < 1.63 / math.sqrt(N)


@pytest.mark.parametrize("cv", [0.3, 1.0, 3.0])
def test_weibull_has_its_rate_and_cv(cv):
    drawn = intervals(Weibull(qps=0.5, cv=cv))
    assert drawn.mean() == pytest.approx(2.0, rel=5 * cv / math.sqrt(N))
    assert drawn.std() / drawn.mean() == pytest.approx(cv, rel=0.12 if cv > 1 else 0.02)  # heavy tails converge slowly


@pytest.mark.parametrize("cv", [0.001, 0.5, 1.0, 10.0, 100.0])
def test_the_shape_of_weibull_gives_the_cv(cv):
    shape = weibull_shape(cv)
    first, second = math.gamma(1 + 1 / shape), math.exp(math.lgamma(1 + 2 / shape))
    if shape < 50:  # beyond, the difference drowns in rounding
        assert math.sqrt(second - first**2) / first == pytest.approx(cv, rel=1e-6)
    assert weibull_shape(1.0) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("process", [Poisson(2.0), Gamma(2.0, 0.5), Gamma(2.0, 10.0), Weibull(2.0, 2.0)])
def test_first_arrival_is_the_first_interval(process):
    firsts = np.array([draw(process, n=1, seed=seed)[0] for seed in range(2000)])
    assert firsts.mean() == pytest.approx(0.5, rel=4 * firsts.std() / firsts.mean() / math.sqrt(2000))
    assert np.all(np.diff(draw(process)) >= 0)


@pytest.mark.parametrize("process", [Poisson(2.0), Gamma(2.0, 0.5), Gamma(2.0, 10.0), Weibull(2.0, 2.0), Static()])
def test_more_requests_extend_the_same_arrivals(process):
    np.testing.assert_array_equal(draw(process, 1000)[:333], draw(process, 333))


def test_another_rate_stretches_the_same_arrivals():
    np.testing.assert_array_equal(draw(Poisson(2.0), 1000) * 2.0, draw(Poisson(1.0), 1000))
    np.testing.assert_allclose(draw(Gamma(3.0, 2.0), 1000) * 3.0, draw(Gamma(1.0, 2.0), 1000), rtol=1e-12)


def test_static_is_all_at_zero():
    assert draw(Static(), 3).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("qps", [0, -1, math.nan, math.inf, "4", None, True])
@pytest.mark.parametrize("name", ["poisson", "gamma"])
def test_refuses_bad_rates(name, qps):
    options = {"qps": qps} | ({"cv": 1} if name == "gamma" else {})
    with pytest.raises(TraceError, match=r"^qps is .*; give a number from 1e-09 to 1e\+09\.$"):
        choose("arrivals", ARRIVALS, name, options)


@pytest.mark.parametrize("cv", [0, -1, 1e-9, 1e9, math.nan, "1"])
def test_refuses_bad_cv(cv):
    with pytest.raises(TraceError, match=r"^cv is .*; give a number from 0\.001 to 100\.$"):
        Gamma(qps=1, cv=cv)


@pytest.mark.parametrize(
    ("name", "options", "field", "sentence"),
    [
        (
            "posson",
            {},
            "arrivals",
            "arrivals is 'posson'; choose one of "
            "diurnal, gamma, mmpp, on_off, poisson, replay, static, trace, weibull.",
        ),
        (
            None,
            {},
            "arrivals",
            "arrivals is None; choose one of diurnal, gamma, mmpp, on_off, poisson, replay, static, trace, weibull.",
        ),
        ("gamma", {"qps": 1}, "cv", "cv is missing for arrivals 'gamma'; its options are: qps, cv."),
        ("poisson", {"rate": 1}, "rate", "rate is not an option of arrivals 'poisson'; its options are: qps."),
        ("static", {"qps": 1}, "qps", "qps is not an option of arrivals 'static'; its options are: none."),
    ],
)
def test_choice_errors_list_what_is_legal(name, options, field, sentence):
    with pytest.raises(TraceError) as caught:
        choose("arrivals", ARRIVALS, name, options)
    assert caught.value.field == field
    assert str(caught.value) == sentence
