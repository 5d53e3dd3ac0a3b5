import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traces import TraceError, Workload, write
from traces.choices import choose
from traces.empirical import Correlated, Empirical
from traces.lengths import LENGTHS, Fixed, Lognormal, QuantileTable, Uniform
from traces.quantile_tables import embedded_tables

N = 200_000
OPTIONS = {
    "azure_code_2023": {},
    "azure_conv_2023": {},
    "correlated": {"prompt_mean": 90, "prompt_cv": 1, "output_mean": 20, "output_cv": 2, "correlation": -0.5},
    "empirical": {"path": str(Path(__file__).parent / "pairs.csv")},
    "fixed": {"prompt": 512, "output": 1e2},
    "lognormal": {"prompt_mean": 1000, "prompt_cv": 1.5, "output_mean": 200, "output_cv": 0.5},
    "quantile_table": {"table": "azure_code_2023"},
    "trace": {"path": str(Path(__file__).parent / "lengths.csv")},
    "uniform": {"prompt_min": 1, "prompt_max": 7, "output_min": 5, "output_max": 5},
    "uniform_total": {"total_min": 2, "total_max": 100, "prompt_to_output": 20},
    "zipf": {"total_min": 2, "total_max": 100, "prompt_to_output": 0.1},
}


def draw(distribution, n=N, seed=1):
    return distribution.sample(n, np.random.Generator(np.random.PCG64(seed)))


def test_every_choice_is_tried_here():
    assert OPTIONS.keys() == LENGTHS.keys()


@pytest.mark.parametrize("name", OPTIONS)
def test_lengths_are_whole_tokens(name):
    for tokens in draw(choose("lengths", LENGTHS, name, OPTIONS[name])):
        assert tokens.dtype == np.int64
        assert tokens.shape == (N,)
        assert tokens.min() >= 1


@settings(max_examples=30)
@given(name=st.sampled_from(sorted(OPTIONS)), first=st.integers(0, 300), second=st.integers(1, 300))
def test_drawing_in_parts_is_drawing_at_once(name, first, second):
    distribution = choose("lengths", LENGTHS, name, OPTIONS[name])
    rng = np.random.Generator(np.random.PCG64(5))
    parts = [distribution.sample(n, rng) for n in (first, second)]
    whole = draw(distribution, first + second, seed=5)
    for side in (0, 1):
        np.testing.assert_array_equal(np.concatenate([part[side] for part in parts]), whole[side])


@pytest.mark.parametrize("correlation", [-0.8, 0.0, 0.5, 1.0])
def test_correlated_lengths_have_their_means_and_correlation(correlation):
    prompt, output = draw(Correlated(1000, 1.0, 200, 0.5, correlation))
    assert prompt.mean() == pytest.approx(1000, rel=0.02)
    assert output.mean() == pytest.approx(200, rel=0.02)
    assert prompt.std() / prompt.mean() == pytest.approx(1.0, rel=0.05)
    assert np.corrcoef(np.log(prompt), np.log(output))[0, 1] == pytest.approx(correlation, abs=0.01)


def test_empirical_lengths_are_pairs_of_any_trace(tmp_path):
    write(Workload.from_arrays([0, 1, 5], [10, 20, 30], [1, 2, 3]), tmp_path / "trace.parquet")
    prompt, output = draw(Empirical(str(tmp_path / "trace.parquet")))
    np.testing.assert_array_equal(prompt, 10 * output)
    counts = np.bincount(output)[1:]
    assert counts.sum() == N
    assert counts.min() == pytest.approx(N / 3, rel=0.03)


def test_fixed():
    prompt_tokens, output_tokens = draw(Fixed(prompt=3.0, output=4), 2)
    assert prompt_tokens.tolist() == [3, 3]
    assert output_tokens.tolist() == [4, 4]


def test_uniform_takes_both_ends_equally_and_independently():
    prompt_tokens, output_tokens = draw(Uniform(prompt_min=2, prompt_max=5, output_min=1, output_max=3))
    counts = np.zeros((4, 3))
    np.add.at(counts, (prompt_tokens - 2, output_tokens - 1), 1)
    expected = N / 12
    assert ((counts - expected) ** 2 / expected).sum() < 24.7  # chi square of 11 degrees of freedom, 1 %


@pytest.mark.parametrize(("mean", "cv"), [(1000.0, 0.3), (1000.0, 1.5), (50.0, 0.0)])
def test_lognormal_has_its_mean_cv_and_median(mean, cv):
    tokens, other = draw(Lognormal(prompt_mean=mean, prompt_cv=cv, output_mean=300, output_cv=1))
    assert tokens.mean() == pytest.approx(mean, rel=5 * cv / math.sqrt(N) + 1e-9)
    assert tokens.std() / tokens.mean() == pytest.approx(cv, rel=0.05)
    assert np.median(tokens) == pytest.approx(mean / math.sqrt(1 + cv * cv), rel=0.01)
    if cv:
        assert abs(np.corrcoef(np.log(tokens), np.log(other))[0, 1]) < 4 / math.sqrt(N)


def test_lognormal_never_leaves_the_legal_range():
    prompt_tokens, output_tokens = draw(Lognormal(2**31 - 1, 100, 1, 100))
    assert prompt_tokens.max() == 2**31 - 1
    assert output_tokens.min() == 1


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        (
            "cauchy",
            {},
            "lengths is 'cauchy'; choose one of azure_code_2023, azure_conv_2023, correlated, empirical, fixed, "
            "lognormal, quantile_table, trace, uniform, uniform_total, zipf.",
        ),
        (
            "azure_conv_2023",
            {"table": "x"},
            "table is not an option of lengths 'azure_conv_2023'; its options are: none.",
        ),
        ("fixed", {"prompt": 0, "output": 1}, "prompt is 0; give a whole number from 1 to 2147483647."),
        ("fixed", {"prompt": 1}, "output is missing for lengths 'fixed'; its options are: prompt, output."),
        (
            "uniform",
            OPTIONS["uniform"] | {"output_max": 4},
            "output_max is 4; give a whole number from 5 to 2147483647.",
        ),
        (
            "uniform",
            OPTIONS["uniform"] | {"prompt_min": 1.5},
            "prompt_min is 1.5; give a whole number from 1 to 2147483647.",
        ),
        ("lognormal", OPTIONS["lognormal"] | {"output_cv": -1}, "output_cv is -1; give a number from 0 to 100."),
        (
            "lognormal",
            OPTIONS["lognormal"] | {"prompt_mean": 0},
            "prompt_mean is 0; give a number from 1 to 2.14748e+09.",
        ),
        ("zipf", OPTIONS["zipf"] | {"theta": -1}, "theta is -1; give a number from 0 to 10."),
        (
            "uniform_total",
            OPTIONS["uniform_total"] | {"total_max": 1},
            "total_max is 1; give a whole number from 2 to 2147483647.",
        ),
        (
            "uniform_total",
            OPTIONS["uniform_total"] | {"total_min": 1},
            "total_min is 1; give a whole number from 2 to 2147483647.",
        ),
        ("trace", OPTIONS["trace"] | {"max_total": 1}, "max_total is 1; give 2 or more, or 0 to cut nothing."),
        (
            "trace",
            {"path": "nowhere.csv"},
            "path is 'nowhere.csv', which cannot be read (No such file or directory); give the path of a trace file.",
        ),
        (
            "quantile_table",
            {"table": "azure"},
            "table is 'azure', which cannot be read (No such file or directory); "
            "give the path of a table or one of " + ", ".join(embedded_tables()) + ".",
        ),
        (
            "quantile_table",
            {"table": 3},
            "table is 3; give the path of a table or one of " + ", ".join(embedded_tables()) + ".",
        ),
    ],
)
def test_refuses_bad_choices(name, options, sentence):
    with pytest.raises(TraceError) as caught:
        choose("lengths", LENGTHS, name, options)
    assert str(caught.value) == sentence
    assert caught.value.field == sentence.split(" ")[0]


def test_quantile_table_is_the_embedded_one():
    for ours, named in zip(draw(QuantileTable("azure_conv_2023")), draw(LENGTHS["azure_conv_2023"]()), strict=True):
        np.testing.assert_array_equal(ours, named)
