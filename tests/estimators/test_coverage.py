import pytest

from estimators.coverage import measures_history, profiled_axes
from estimators.models import load_model
from estimators.operators import iteration_calls


@pytest.mark.parametrize(("most", "covered"), [(0, 63), (30, 63), (255, 255)])
def test_histories_are_covered_as_far_as_they_or_the_keys_of_a_chunk_were_measured(most: int, covered: int):
    calls = iteration_calls(load_model("Llama-3.1-8B"), 1, "bf16")
    measured = {"bf16": {"prefill_attention": {"chunk": (1, 64), "history": (0, most)}}}
    assert profiled_axes(calls, measured)["history"] == [0, covered]
    assert measures_history(calls, measured) is (most > 0)


def test_nothing_measured_covers_no_history():
    calls = iteration_calls(load_model("Llama-3.1-8B"), 1, "bf16")
    assert profiled_axes(calls, {})["history"] is None
    assert not measures_history(calls, {})
