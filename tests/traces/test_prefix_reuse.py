import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traces import Workload, prefix_reuse, read


@pytest.mark.parametrize(("name", "reuse"), [("conversation", 0.374), ("synthetic", 0.651)])
def test_mooncake_traces(public_traces, name, reuse):
    assert prefix_reuse(read(public_traces / "mooncake" / f"{name}_trace.jsonl.gz")) == pytest.approx(reuse, abs=5e-4)


@pytest.mark.parametrize("name", ["RTX4090_Llama-3.1-8B", "RTXPRO6000_Llama-3.1-8B"])
def test_measured_vllm_runs(vllm_runs, name):
    assert prefix_reuse(read(vllm_runs / name / "workload.jsonl.gz")) == pytest.approx(0.0759, abs=5e-5)


def test_a_last_block_counts_with_the_tokens_that_the_prompt_has_of_it():
    workload = Workload.from_arrays([0, 1], [20, 20], [1, 1], block_ids=[[1, 2], [1, 2]], block_tokens=16)
    assert prefix_reuse(workload) == 0.5


def test_without_ids():
    assert prefix_reuse(Workload.from_arrays([0.0], [1], [1])) == 0


texts = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=4), min_size=1, max_size=15)


@settings(max_examples=100, deadline=None)
@given(texts, st.sampled_from([1, 2**40]))
def test_equals_a_set_of_all_beginnings(texts, spread):
    """Chained ids: one for each beginning of a text, in whatever numbers."""
    numbers: dict[tuple[int, ...], int] = {}
    ids = [
        [numbers.setdefault(tuple(text[: q + 1]), len(numbers)) * spread for q in range(len(text))] for text in texts
    ]
    prompts = [16 * len(text) for text in texts]
    workload = Workload.from_arrays(range(len(texts)), prompts, [1] * len(texts), block_ids=ids, block_tokens=16)
    seen: set[tuple[int, ...]] = set()
    found = 0
    for text in texts:
        beginnings = [tuple(text[: q + 1]) for q in range(len(text))]
        found += 16 * sum(beginning in seen for beginning in beginnings)
        seen.update(beginnings)
    assert prefix_reuse(workload) == found / sum(prompts)
