import pytest

from traces import TraceError, Workload
from traces.resizing import Resizing

WORKLOAD = Workload.from_arrays([1.0, 2.0, 4.0], [1000, 10, 3], [100, 5000, 7])


def test_scales():
    resized = Resizing(prompt_scale=0.3, output_scale=2, time_scale=0.5).apply(WORKLOAD)
    assert resized.arrival_s.tolist() == [0.5, 1.0, 2.0]
    assert resized.prompt_tokens.tolist() == [300, 3, 1]
    assert resized.output_tokens.tolist() == [200, 10_000, 14]
    assert resized.provenance["resized"]["prompt_scale"] == 0.3
    assert not resized.notes


def test_prompts_are_cut_and_never_fall_below_one():
    """Vidur floors at 1 before it cuts, and makes negative prompts."""
    resized = Resizing(max_total_tokens=1050).apply(WORKLOAD)
    assert resized.prompt_tokens.tolist() == [950, 1, 3]
    assert resized.output_tokens.tolist() == [100, 1049, 7]
    assert resized.notes == ("2 of 3 requests were cut to 1050 tokens",)


def test_classes_and_sessions_are_kept():
    workload = Workload.from_arrays([1.0, 2.0], [9, 9], [9, 9], request_class=[1, 0], session=[-1, 4])
    resized = Resizing(prompt_scale=2, max_total_tokens=20).apply(workload)
    assert resized.request_class.tolist() == [1, 0]
    assert resized.session.tolist() == [-1, 4]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"prompt_scale": 0}, "prompt_scale is 0; give a number from 1e-09 to 1e+09."),
        ({"time_scale": "x"}, "time_scale is 'x'; give a number from 1e-09 to 1e+09."),
        ({"max_total_tokens": 1}, "max_total_tokens is 1; give a whole number from 2 to 2147483647."),
    ],
)
def test_refusals(options, sentence):
    with pytest.raises(TraceError) as caught:
        Resizing(**options)
    assert str(caught.value) == sentence


def test_ids_stay_as_far_as_the_text_does():
    """Blocks of 10 tokens; the second prompt does not fill its last one, the third has ids of its output."""
    ids = [[1, 2, 3], [1, 2, 3], [1, 2, 3, 4, 5]]
    workload = Workload.from_arrays([0, 1, 2], [30, 25, 20], [1, 9, 30], block_ids=ids, block_tokens=10)

    def kept(**change: float) -> list[int]:
        return Resizing(**change).apply(workload).blocks.counts.tolist()

    assert kept() == [3, 3, 5]
    assert kept(prompt_scale=2) == [3, 2, 2]
    assert kept(prompt_scale=0.7) == [2, 1, 1]
    assert kept(output_scale=0.5) == [3, 3, 3]
    assert kept(output_scale=2) == [3, 3, 5]
    assert kept(max_total_tokens=31) == [3, 2, 0]
