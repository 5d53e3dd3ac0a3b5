import math

import numpy as np
import pytest

from traces import TraceError, generate
from traces.describe import describe
from traces.modulated import Diurnal, Mmpp, OnOff

N = 100_000


def draw(process, n=N, seed=1):
    return process.sample(n, np.random.Generator(np.random.PCG64(seed)))


PROCESSES = [Diurnal(5.0, 0.9, 100.0), Mmpp(5.0, (1, 4, 0), (3, 2, 1)), OnOff(5.0, 2.0, 6.0), OnOff(5.0, 1.0, 1.0, 0.2)]


@pytest.mark.parametrize("process", PROCESSES)
def test_the_mean_rate_is_qps_and_times_rise(process):
    arrival_s = draw(process)
    assert np.all(np.diff(arrival_s) >= 0)
    assert arrival_s[0] >= 0
    assert N / arrival_s[-1] == pytest.approx(5.0, rel=0.05)


@pytest.mark.parametrize("process", PROCESSES)
def test_more_requests_extend_the_same_arrivals(process):
    np.testing.assert_array_equal(draw(process)[:333], draw(process, 333))


def test_diurnal_rates_follow_the_sine():
    arrival_s = draw(Diurnal(qps=50.0, amplitude=0.8, period_s=40.0, phase=0.25))
    counts = np.bincount((arrival_s % 40).astype(int), minlength=40)
    expected = 1 + 0.8 * np.cos(2 * math.pi * (np.arange(40) + 0.5) / 40)
    np.testing.assert_allclose(counts / counts.mean(), expected, atol=0.1)


def test_without_amplitude_it_is_poisson():
    arrival_s = draw(Diurnal(qps=4.0, amplitude=0.0, period_s=7.0))
    ordered = np.sort(np.diff(arrival_s, prepend=0.0))
    assert np.abs(-np.expm1(-4.0 * ordered) - np.arange(1, N + 1) / N).max() < 1.63 / math.sqrt(N)


def test_full_amplitude_stops_arrivals_for_a_moment():
    arrival_s = draw(Diurnal(qps=100.0, amplitude=1.0, period_s=10.0, phase=0.75))
    assert np.count_nonzero(arrival_s % 10 < 0.1) < N / 100 / 100


def test_an_interrupted_process_has_the_cv_that_theory_says():
    process = OnOff(qps=2.0, on_s=4.0, off_s=12.0)
    gaps_s = np.diff(draw(process, 400_000))
    rate, leave, enter = 2.0 * 16 / 4, 1 / 4, 1 / 12
    expected = math.sqrt(1 + 2 * rate * leave / (leave + enter) ** 2)
    assert gaps_s.std() / gaps_s.mean() == pytest.approx(expected, rel=0.05)


def test_a_modulated_process_has_the_dispersion_that_theory_says():
    arrival_s = draw(Mmpp(qps=10.0, rates=(1.0, 3.0), dwell_s=(20.0, 20.0)), 1_000_000)
    counts = np.bincount((arrival_s // 60).astype(int))[:-1]
    variance, decay = 0.25, 2 / 20  # of the relative rate
    expected = 1 + 2 * 10 * variance / decay * (1 - -np.expm1(-decay * 60) / (decay * 60))
    assert counts.var() / counts.mean() == pytest.approx(expected, rel=0.1)


def test_the_first_arrivals_are_no_burst():
    firsts = np.array([draw(OnOff(1.0, 5.0, 15.0), 1, seed)[0] for seed in range(3000)])
    assert np.mean(firsts < 1) == pytest.approx(0.25 * -np.expm1(-4.0), rel=0.25)  # only a quarter begins in a burst


def test_conversations_keep_the_times_of_the_rate():
    many = generate(
        num_requests=40_000,
        qps=20,
        arrivals="diurnal",
        arrival_options={"amplitude": 1.0, "period_s": 500.0},
        conversations="fixed",
        conversation_options={"turns": 4},
        max_total_tokens=None,
    )
    starts_s = many.arrival_s[np.isnan(many.think_s)]
    assert many.qps == pytest.approx(20, rel=0.1)
    assert np.mean(starts_s % 500 < 250) == pytest.approx(0.5 + 1 / math.pi, abs=0.03)


def test_bursts_show_in_a_description():
    described = describe(
        generate(num_requests=50_000, qps=5, arrivals="on_off", arrival_options={"on_s": 10, "off_s": 30})
    )
    assert described["interarrival_cv"] > 3
    assert described["index_of_dispersion"]["60"] > described["index_of_dispersion"]["1"] > 2


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Diurnal(1, amplitude=1.1), "amplitude is 1.1; give a number from 0 to 1."),
        (lambda: Mmpp(1, (1,), (1,)), "rates is (1,); give 2 to 100 numbers from 0 to 1e+09."),
        (lambda: Mmpp(1, (1, "x"), (1, 1)), "rates is 'x' at index 1; give 2 to 100 numbers from 0 to 1e+09."),
        (lambda: Mmpp(1, (0, 0), (1, 1)), "rates are all 0; give one above 0."),
        (
            lambda: Mmpp(1, (1, 2), (1, 1, 1)),
            "dwell_s has 3 elements where rates has 2; give one number for each state.",
        ),
        (lambda: OnOff(1, 0, 1), "on_s is 0; give a number from 1e-06 to 1e+09."),
        (lambda: OnOff(0, 1, 1), "qps is 0; give a number from 1e-09 to 1e+09."),
    ],
)
def test_bad_options(make, sentence):
    with pytest.raises(TraceError) as caught:
        make()
    assert str(caught.value) == sentence
