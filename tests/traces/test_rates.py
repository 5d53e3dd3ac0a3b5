import numpy as np
import pytest

from traces import TraceError, Workload, generate, prefix_reuse, read, with_arrivals, with_rate
from traces.resizing import Resizing

TALK = {"conversations": "geometric", "conversation_options": {"turns": 4, "think_s": 1}}


def test_lengths_of_a_file_get_the_arrivals_that_generate_draws(public_traces):
    lengths = read(public_traces / "sarathi" / "sharegpt_8k_filtered_stats_llama2_tokenizer.csv.gz")
    workload = with_arrivals(lengths, qps=3, seed=5)
    np.testing.assert_array_equal(workload.arrival_s, generate(num_requests=len(lengths), qps=3, seed=5).arrival_s)
    np.testing.assert_array_equal(workload.prompt_tokens, lengths.prompt_tokens)
    assert workload.provenance["arrivals"] == {"arrivals": "poisson", "arrival_options": {"qps": 3.0}, "seed": 5}


def test_sessions_arrive_as_wholes():
    talk = generate(num_requests=2000, qps=4, **TALK)
    at_once = Workload(
        np.zeros(2000),
        talk.prompt_tokens,
        talk.output_tokens,
        session=talk.session,
        think_s=talk.think_s,
        blocks=talk.blocks,
    )
    workload = with_arrivals(at_once, "gamma", {"cv": 2}, qps=1)
    num_sessions = int(talk.session.max()) + 1
    assert len(np.unique(workload.arrival_s)) == num_sessions
    starts = workload.arrival_s[np.isnan(workload.think_s)]
    assert np.all(np.diff(starts) > 0)
    assert prefix_reuse(workload) == prefix_reuse(at_once)


@pytest.mark.parametrize("rate_scale", [0.3, 1.0, 2.0, 2.6])
def test_more_or_fewer_requests_in_the_same_time(rate_scale):
    workload = generate(num_requests=4000, qps=4)
    scaled = with_rate(workload, rate_scale, seed=2)
    assert len(scaled) == pytest.approx(4000 * rate_scale, rel=0.05)
    assert scaled.duration_s <= workload.duration_s + 1 / workload.qps
    assert scaled.duration_s == pytest.approx(workload.duration_s, rel=0.01)
    assert with_rate(workload, rate_scale, seed=2).hash == scaled.hash
    if rate_scale <= 1:
        assert set(scaled.arrival_s.tolist()) <= set(workload.arrival_s.tolist())
    if rate_scale == 1:
        assert scaled.hash == workload.hash


def test_sessions_and_their_text_stay_whole():
    workload = generate(num_requests=3000, qps=5, **TALK)
    turns = np.bincount(workload.session)
    fewer, more = with_rate(workload, 0.5), with_rate(workload, 3.0)
    kept = np.bincount(fewer.session, minlength=len(turns))
    assert np.all((kept == 0) | (kept == turns))
    np.testing.assert_array_equal(np.bincount(more.session), np.tile(turns, 3))
    assert prefix_reuse(more) == pytest.approx(prefix_reuse(workload), abs=1e-3)


def test_patterns_in_time_stay(public_traces):
    workload = read(public_traces / "azure" / "AzureLLMInferenceTrace_code.csv.gz")
    scaled = with_rate(workload, 0.5)
    before, after = (np.histogram(each.arrival_s, 30, (0, 3436))[0] for each in (workload, scaled))
    assert np.corrcoef(before, after)[0, 1] > 0.99


def test_a_trace_is_resized_with_its_rate():
    workload = generate(num_requests=1000, qps=4)
    resized = Resizing(rate_scale=2.0, time_scale=2.0).apply(workload, seed=3)
    assert len(resized) == 2000
    assert resized.qps == pytest.approx(workload.qps, rel=0.02)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda workload: with_rate(workload, 0), "rate_scale is 0; give a number from 0.001 to 1000."),
        (
            lambda workload: with_rate(workload.head(1), 0.001),
            "rate_scale is 0.001, which leaves no request; give more.",
        ),
        (lambda workload: with_arrivals(workload), "qps is missing for arrivals 'poisson'; its options are: qps."),
        (lambda workload: with_arrivals(workload, "burst"), "arrivals is 'burst'; choose one of diurnal,"),
    ],
)
def test_bad_arguments(call, words):
    with pytest.raises(TraceError) as caught:
        call(generate(num_requests=10, qps=1))
    assert str(caught.value).startswith(words)
