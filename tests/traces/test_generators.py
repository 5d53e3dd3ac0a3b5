import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traces import TraceError, Workload, generate
from traces.arrivals import Poisson
from traces.generators import _BLOCK
from traces.lengths import AzureConv2023

ARRIVALS = [("poisson", {}), ("gamma", {"cv": 3}), ("gamma", {"cv": 0.1}), ("weibull", {"cv": 2})]
ARRIVALS += [("diurnal", {"period_s": 50}), ("on_off", {"on_s": 3, "off_s": 9})]
ARRIVALS += [("mmpp", {"rates": (1, 2, 0.5), "dwell_s": (5, 5, 8)})]


def lengths_of(workload):
    return np.stack([workload.prompt_tokens, workload.output_tokens])


def test_same_seed_same_workload():
    workload = generate(num_requests=100, qps=2, seed=7)
    assert generate(num_requests=1e2, qps=2.0, seed=7).hash == workload.hash
    assert Workload.generate(num_requests=100, qps=2, seed=7).hash == workload.hash
    assert generate(num_requests=100, qps=2, seed=8).hash != workload.hash


def test_arrivals_and_lengths_are_independent_streams():
    plain = generate(num_requests=500, qps=2)
    for arrivals, options in ARRIVALS:
        other = generate(num_requests=500, qps=5, arrivals=arrivals, arrival_options=options)
        np.testing.assert_array_equal(lengths_of(other), lengths_of(plain))
    static = generate(num_requests=500, arrivals="static")
    np.testing.assert_array_equal(lengths_of(static), lengths_of(plain))
    fixed = generate(num_requests=500, qps=2, lengths="fixed", length_options={"prompt": 10, "output": 10})
    np.testing.assert_array_equal(fixed.arrival_s, plain.arrival_s)


def test_streams_are_spawned_from_the_seed():
    workload = generate(num_requests=500, qps=2, seed=9, max_total_tokens=None)
    arrivals, lengths = (np.random.Generator(np.random.PCG64(child)) for child in np.random.SeedSequence(9).spawn(2))
    np.testing.assert_array_equal(workload.arrival_s, Poisson(2).sample(500, arrivals))
    np.testing.assert_array_equal(lengths_of(workload), AzureConv2023().sample(500, lengths))


@settings(max_examples=20)
@given(st.integers(1, 400), st.integers(1, 400), st.sampled_from(ARRIVALS), st.integers(0, 2**64))
def test_more_requests_extend_the_same_workload(first, second, arrivals, seed):
    few, many = (
        generate(num_requests=n, qps=1, arrivals=arrivals[0], arrival_options=arrivals[1], seed=seed)
        for n in sorted((first, second))
    )
    assert many.head(len(few)).hash == few.hash


def test_blocks_do_not_show():
    few, many = (generate(num_requests=n, arrivals="static") for n in (_BLOCK + 3, 2 * _BLOCK + 1))
    assert many.head(len(few)).hash == few.hash
    ends = lengths_of(many)
    assert not np.array_equal(ends[:, :1000], ends[:, _BLOCK : _BLOCK + 1000])


@settings(max_examples=50)
@given(
    st.integers(2, 40),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
def test_cut_to_max_total_tokens(max_total_tokens, prompt_range, output_range):
    (prompt_min, prompt_max), (output_min, output_max) = sorted(prompt_range), sorted(output_range)
    options = {
        "prompt_min": prompt_min,
        "prompt_max": prompt_max,
        "output_min": output_min,
        "output_max": output_max,
    }
    raw, cut = (
        generate(num_requests=60, qps=1, lengths="uniform", length_options=options, max_total_tokens=limit)
        for limit in (None, max_total_tokens)
    )
    num_cut = 0
    for prompt, output, cut_prompt, cut_output in np.vstack([lengths_of(raw), lengths_of(cut)]).T.tolist():
        if prompt + output > max_total_tokens:
            num_cut += 1
            assert cut_output == min(output, max_total_tokens - 1)
            assert cut_prompt == max_total_tokens - cut_output
        else:
            assert (cut_prompt, cut_output) == (prompt, output)
    note = f"{num_cut} of 60 requests were cut to max_total_tokens {max_total_tokens}"
    assert cut.notes == ((note,) if num_cut else ())
    assert raw.notes == ()


def test_qps_is_the_rate():
    workload = generate(num_requests=100_000, qps=6.5)
    assert workload.qps == pytest.approx(6.5, rel=4 / np.sqrt(100_000))
    in_options = generate(num_requests=100_000, arrival_options={"qps": 6.5})
    assert in_options.hash == workload.hash


def test_qps_of_static_arrivals_is_noted():
    assert generate(num_requests=2, qps=3, arrivals="static").notes == (
        "qps 3 is not used: static arrivals are all at time 0",
    )


def test_provenance_repeats_the_workload():
    workload = generate(num_requests=50, qps=2, arrivals="gamma", arrival_options={"cv": 2}, seed=3)
    provenance = json.loads(json.dumps(workload.provenance))
    assert provenance["numpy"] == np.__version__
    assert generate(**provenance["generator"]).hash == workload.hash


def test_classes_leave_arrivals_and_lengths_as_they_are():
    plain, classed = (generate(num_requests=500, qps=2, class_shares=shares, seed=4) for shares in (None, (0.2, 0.8)))
    np.testing.assert_array_equal(classed.arrival_s, plain.arrival_s)
    np.testing.assert_array_equal(lengths_of(classed), lengths_of(plain))
    assert not plain.request_class.any()
    assert 50 < np.count_nonzero(classed.request_class == 0) < 150
    assert plain.with_classes((0.2, 0.8), seed=4).hash == classed.hash
    assert classed.provenance["generator"]["class_shares"] == [0.2, 0.8]
    assert generate(**json.loads(json.dumps(classed.provenance))["generator"]).hash == classed.hash


@pytest.mark.parametrize(
    ("change", "field", "sentence"),
    [
        ({"num_requests": 0}, "num_requests", "num_requests is 0; give a whole number from 1 to 2147483647."),
        ({"num_requests": 1.5}, "num_requests", "num_requests is 1.5; give a whole number from 1 to 2147483647."),
        ({"qps": None}, "qps", "qps is missing for arrivals 'poisson'; its options are: qps."),
        ({"qps": -1}, "qps", "qps is -1; give a number from 1e-09 to 1e+09."),
        ({"arrival_options": {"qps": 2}}, "qps", "qps is 1 and stands in arrival_options too; give it once."),
        ({"arrival_options": {"cv": 2}}, "cv", "cv is not an option of arrivals 'poisson'; its options are: qps."),
        (
            {"arrival_options": [1]},
            "arrival_options",
            "arrival_options is [1]; give a mapping of option names to values.",
        ),
        (
            {"arrivals": "burst"},
            "arrivals",
            "arrivals is 'burst'; choose one of diurnal, gamma, mmpp, on_off, poisson, replay, static, trace, weibull.",
        ),
        ({"length_options": {"x": 2}}, "x", "x is not an option of lengths 'azure_conv_2023'; its options are: none."),
        (
            {"max_total_tokens": 1},
            "max_total_tokens",
            "max_total_tokens is 1; give a whole number from 2 to 2147483647.",
        ),
        (
            {"class_shares": (0.2, 0.7)},
            "class_shares",
            "class_shares sums to 0.9; give 1 to 128 numbers above 0 that sum to 1.",
        ),
        ({"seed": -1}, "seed", f"seed is -1; give a whole number from 0 to {2**128 - 1}."),
    ],
)
def test_refuses_bad_parameters(change, field, sentence):
    with pytest.raises(TraceError) as caught:
        generate(**{"num_requests": 3, "qps": 1, **change})
    assert caught.value.field == field
    assert str(caught.value) == sentence


def test_generating_loads_nothing_heavy():
    code = (
        "import sys, traces; traces.generate(num_requests=10, qps=1); "
        "print([name for name in ('polars', 'scipy', 'numba', 'estimators', 'fastsim') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
