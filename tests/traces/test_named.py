import numpy as np
import pytest

from traces import TraceError, named_workload, read
from traces.describe import describe
from traces.named import WORKLOADS
from traces.published import PUBLISHED, marginal, table_of
from traces.quantile_tables import fit_quantile_table, load_quantile_table

N = 60_000


@pytest.mark.parametrize("name", WORKLOADS)
def test_each_says_what_it_rests_on(name):
    workload = named_workload(name, num_requests=100, qps=3)
    source = WORKLOADS[name].source
    assert workload.notes[-1] == f"{name}: {source}"
    assert (workload.provenance["workload"], workload.provenance["source"]) == (name, source)
    for sentence in ("Lengths ", "Arrivals "):
        words = source.split(sentence)[1]
        assert words.startswith(("published: ", "fitted: ", "assumed: "))


@pytest.mark.parametrize(
    ("name", "prompt", "output", "ratio"),
    [  # mean, median, 90 % quantile; and the median of prompt over output, which is not fitted
        ("chat-1m", (686, 417, 1678), (197, 139, 484), (2.3, 0.8)),
        ("arxiv-4k", (2588, 2730, 3702), (291, 167, 372), (15.7, 0.8)),
        ("bwb-4k", (1067, 1037, 1453), (1612, 1601, 2149), (0.65, 0.02)),
    ],
)
def test_the_workloads_of_the_paper_have_its_statistics(name, prompt, output, ratio):
    described = describe(named_workload(name, num_requests=N, qps=1))
    for key, published in (("prompt_tokens", prompt), ("output_tokens", output)):
        found = [described[key][statistic] for statistic in ("mean", "p50", "p90")]
        assert found == pytest.approx(published, rel=0.03)
    assert described["total_tokens"]["max"] <= 4096
    assert described["prompt_to_output"]["p50"] == pytest.approx(ratio[0], abs=ratio[1])


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("azure-conv-like", "azure/AzureLLMInferenceTrace_conv.csv.gz"),
        ("azure-code-like", "azure/AzureLLMInferenceTrace_code.csv.gz"),
    ],
)
def test_fitted_arrivals_are_as_bursty_as_their_trace(public_traces, name, file):
    real, drawn = describe(read(public_traces / file)), describe(named_workload(name, num_requests=200_000))
    assert drawn["qps"] == pytest.approx(real["qps"], rel=0.05)
    assert drawn["interarrival_cv"] == pytest.approx(real["interarrival_cv"], rel=0.1)
    for window_s in ("1", "60"):
        assert drawn["index_of_dispersion"][window_s] == pytest.approx(real["index_of_dispersion"][window_s], rel=0.25)


FITTED = {
    "arxiv_4k": "vidur/arxiv_summarization_stats_llama2_tokenizer_filtered_v2.csv.gz",
    "sharegpt_8k": "sarathi/sharegpt_8k_filtered_stats_llama2_tokenizer.csv.gz",
    "mooncake_conversation": "mooncake/conversation_trace.jsonl.gz",
    "deepseek_r1": "servegen/deepseek-r1.tar.gz",
}


@pytest.mark.parametrize(("table", "file"), list(FITTED.items()))
def test_fitted_tables_come_from_their_files(public_traces, table, file):
    embedded = load_quantile_table(table)
    assert (
        fit_quantile_table(read(public_traces / file), embedded.source, embedded.citation, embedded.license) == embedded
    )


@pytest.mark.parametrize("table", PUBLISHED)
def test_published_tables_come_from_their_statistics(table):
    assert load_quantile_table(table) == table_of(table)


def test_statistics_that_no_distribution_has_are_refused():
    with pytest.raises(TraceError, match=r"^mean is 10, too little beside the median 100 and the 90 % quantile 200;"):
        marginal(10, 100, 200)
    drawn = marginal(300, 200, 600).tokens(np.random.default_rng(0).random(100_000))
    assert drawn.mean() == pytest.approx(300, rel=0.01)


def test_a_workload_without_a_rate_needs_one():
    with pytest.raises(TraceError, match=r"^qps is missing: chat-1m has no rate of its own; give one\.$"):
        named_workload("chat-1m", num_requests=5)
    with pytest.raises(TraceError, match=r"^workload is 'chat'; choose one of chat-1m, arxiv-4k, bwb-4k,"):
        named_workload("chat", num_requests=5)
