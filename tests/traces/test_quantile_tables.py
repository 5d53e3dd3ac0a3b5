import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traces import TraceError, Workload, read
from traces.published import PUBLISHED
from traces.quantile_tables import (
    LengthTable,
    Marginal,
    embedded_tables,
    fit_quantile_table,
    load_quantile_table,
    normal_cdf,
)

N = 200_000
SIDES = ("prompt_tokens", "output_tokens")
AZURE = {
    "azure_conv_2023": "azure/AzureLLMInferenceTrace_conv.csv.gz",
    "azure_code_2023": "azure/AzureLLMInferenceTrace_code.csv.gz",
}


def draw(table, n=N):
    return dict(zip(SIDES, table.sample(n, np.random.Generator(np.random.PCG64(3))), strict=True))


def spearman(first, second):
    return np.corrcoef(first.argsort().argsort(), second.argsort().argsort())[0, 1]


def make_table(rank_correlation=0.0, low=1, high=1_000_001):
    marginal = Marginal((low + high) / 2, 1.0, tuple(np.linspace(low, high, 101).round().astype(int).tolist()))
    return LengthTable("made up", "none", "none", 10, rank_correlation, marginal, marginal)


#: See test_named.py.
FITTED_ELSEWHERE = {"arxiv_4k", "deepseek_r1", "mooncake_conversation", "sharegpt_8k"}


def test_all_embedded_tables_are_tried_here_or_with_the_named_workloads():
    assert embedded_tables().keys() == AZURE.keys() | FITTED_ELSEWHERE | PUBLISHED.keys()


@pytest.mark.parametrize("name", AZURE)
def test_embedded_table_is_the_fit_of_its_public_file(name, public_traces):
    stored = load_quantile_table(name)
    workload = read(public_traces / AZURE[name])
    assert fit_quantile_table(workload, stored.source, stored.citation, stored.license) == stored
    assert stored.license == "CC-BY-4.0"
    assert "Splitwise" in stored.citation


@pytest.mark.parametrize("name", AZURE)
def test_generated_lengths_have_the_means_of_the_trace(name):
    table = load_quantile_table(name)
    uniform = (np.arange(1_000_000) + 0.5) / 1_000_000  # no sampling noise
    for side in SIDES:
        marginal = getattr(table, side)
        assert marginal.tokens(uniform).mean() == pytest.approx(marginal.mean, rel=0.007)


@pytest.mark.parametrize("name", AZURE)
def test_generated_lengths_follow_the_trace(name, public_traces):
    workload = read(public_traces / AZURE[name])
    for side, tokens in draw(load_quantile_table(name)).items():
        true = getattr(workload, side)
        at = np.unique(true)
        distance = np.searchsorted(np.sort(tokens), at, "right") / N - np.searchsorted(
            np.sort(true), at, "right"
        ) / len(true)
        # 1 % between two quantiles, and Kolmogorov-Smirnov's 1 % bound.
        assert np.abs(distance).max() < 0.01 + 1.63 / math.sqrt(N)


@pytest.mark.parametrize("name", AZURE)
def test_generated_lengths_hit_every_quantile(name):
    table = load_quantile_table(name)
    for side, tokens in draw(table).items():
        quantiles = np.array(getattr(table, side).quantiles)
        ordered, percent, noise = np.sort(tokens), np.arange(101) / 100, 1.63 / math.sqrt(N)
        assert np.all(np.searchsorted(ordered, quantiles, "right") / N >= percent - noise)
        assert np.all(np.searchsorted(ordered, quantiles, "left") / N <= percent + noise)
        assert ordered[0] >= quantiles[0]
        assert ordered[-1] <= quantiles[-1]


@pytest.mark.parametrize("rank_correlation", [-1.0, -0.6, 0.0, 0.3, 0.9, 1.0])
def test_generated_lengths_have_the_rank_correlation(rank_correlation):
    drawn = draw(make_table(rank_correlation))
    assert spearman(*drawn.values()) == pytest.approx(rank_correlation, abs=4 / math.sqrt(N))


def test_azure_tables_reproduce_their_rank_correlation():
    for name in AZURE:
        table = load_quantile_table(name)
        drawn = draw(table)
        refit = fit_quantile_table(Workload.from_arrays(np.zeros(N), *drawn.values()), "", "", "")
        assert refit.rank_correlation == pytest.approx(table.rank_correlation, abs=4 / math.sqrt(N))


@given(st.lists(st.floats(-40, 40), min_size=1, max_size=100))
def test_normal_cdf_keeps_its_stated_error(z):
    exact = np.array([math.erfc(-value / math.sqrt(2)) / 2 for value in z])
    assert np.abs(normal_cdf(np.array(z)) - exact).max() <= 1.8e-9


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(1, 10**6), st.integers(1, 5)), min_size=1, max_size=300))
def test_fit_stays_within_the_lengths_it_saw(rows):
    prompt_tokens, output_tokens = np.array(rows).T
    table = fit_quantile_table(Workload.from_arrays(np.zeros(len(rows)), prompt_tokens, output_tokens), "s", "c", "l")
    assert set(table.prompt_tokens.quantiles) <= set(prompt_tokens.tolist())
    for side, seen in (("prompt_tokens", prompt_tokens), ("output_tokens", output_tokens)):
        marginal = getattr(table, side)
        assert (marginal.quantiles[0], marginal.quantiles[-1]) == (seen.min(), seen.max())
        assert marginal.mean == pytest.approx(seen.mean())
        tokens = marginal.tokens(np.linspace(0, 1, 1001))
        assert (tokens[0], tokens[-1]) == (seen.min(), seen.max())
        assert np.all(np.diff(tokens) >= 0)


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=2, max_size=30))
def test_rank_correlation_of_ties_is_that_of_mean_ranks(rows):
    def mean_ranks(values):
        return [sum(v < value for v in values) + (values.count(value) + 1) / 2 for value in values]

    prompt_tokens, output_tokens = (list(side) for side in zip(*rows, strict=True))
    table = fit_quantile_table(Workload.from_arrays(np.zeros(len(rows)), prompt_tokens, output_tokens), "", "", "")
    first, second = mean_ranks(prompt_tokens), mean_ranks(output_tokens)
    constant = len(set(prompt_tokens)) == 1 or len(set(output_tokens)) == 1
    expected = 0.0 if constant else np.corrcoef(first, second)[0, 1]
    assert table.rank_correlation == pytest.approx(expected, abs=1e-6)


def test_save_and_load(tmp_path):
    table = make_table(0.25)
    table.save(tmp_path / "table.json")
    assert load_quantile_table(str(tmp_path / "table.json")) == table


@pytest.mark.parametrize("text", ["", "[]", "3", "{}", '{"prompt_tokens": 1}', "\udcff"])
def test_refuses_files_that_are_no_tables(tmp_path, text):
    path = tmp_path / "table.json"
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(TraceError) as caught:
        load_quantile_table(str(path))
    assert str(caught.value) == (
        f"table is {str(path)!r}, which is not a quantile table; give a file written by LengthTable.save."
    )


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"rank_correlation": 1.5}, "rank_correlation"),
        ({"num_requests": 0}, "num_requests"),
        ({"prompt_tokens": {"mean": 1, "tail_exponent": 1, "quantiles": [1] * 100}}, "quantiles"),
        ({"prompt_tokens": {"mean": 1, "tail_exponent": 1, "quantiles": [2] + [1] * 100}}, "quantiles"),
        ({"prompt_tokens": {"mean": 1, "tail_exponent": 1, "quantiles": [0] + [1] * 100}}, "quantiles"),
        ({"prompt_tokens": {"mean": 1, "tail_exponent": -1, "quantiles": [1] * 101}}, "tail_exponent"),
        ({"surplus": 1}, "table"),
    ],
)
def test_refuses_tables_with_bad_fields(tmp_path, change, field):
    path = tmp_path / "table.json"
    make_table().save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(TraceError) as caught:
        load_quantile_table(str(path))
    assert caught.value.field == field
