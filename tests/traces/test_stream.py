"""A workload drawn chunk by chunk is the one drawn at once, to the last bit."""

from itertools import islice

import numpy as np
import pytest

from traces import TraceError, Workload, WorkloadStream
from traces.arrivals import ARRIVALS
from traces.named import described

COLUMNS = ("arrival_s", "prompt_tokens", "output_tokens", "request_class", "session")
OPTIONS = {
    "diurnal": {"period_s": 50.0},
    "gamma": {"cv": 3.0},
    "mmpp": {"rates": (1, 5, 2), "dwell_s": (3.0, 1.0, 2.0)},
    "on_off": {"on_s": 2.0, "off_s": 5.0},
    "weibull": {"cv": 2.0},
}
LENGTHS = {
    "azure_conv_2023": {},
    "fixed": {"prompt": 70, "output": 7},
    "lognormal": {"prompt_mean": 300.0, "prompt_cv": 2.0, "output_mean": 80.0, "output_cv": 1.0},
    "uniform": {"prompt_min": 1, "prompt_max": 300, "output_min": 1, "output_max": 500},
    "zipf": {"total_min": 10, "total_max": 900, "prompt_to_output": 4.0},
}


def parameters(arrivals: str = "poisson", lengths: str = "azure_conv_2023", **more) -> dict:
    rate = {} if arrivals == "static" else {"qps": 7.0}
    chosen = {"arrival_options": OPTIONS.get(arrivals), "length_options": LENGTHS[lengths]}
    return {"num_requests": 1000, "arrivals": arrivals, "lengths": lengths, **rate, **chosen, "seed": 3, **more}


def assert_is_whole(stream: WorkloadStream, whole: Workload) -> None:
    chunks = list(stream)
    assert [len(chunk) for chunk in chunks[:-1]] == [stream.chunk_requests] * (len(chunks) - 1)
    for name in COLUMNS:
        assert np.concatenate([getattr(chunk, name) for chunk in chunks]).tobytes() == getattr(whole, name).tobytes()
    assert (len(stream), stream.notes, stream.provenance) == (len(whole), whole.notes, whole.provenance)


@pytest.mark.parametrize("arrivals", sorted(set(ARRIVALS) - {"replay", "trace"}))
def test_chunks_of_every_arrival_process(arrivals):
    asked = parameters(arrivals)
    assert_is_whole(Workload.stream(chunk_requests=77, **asked), Workload.generate(**asked))


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("size", [1, 300, 1000, 5000])
def test_chunks_of_lengths_that_are_cut(lengths, size):
    asked = parameters(lengths=lengths, max_total_tokens=600, class_shares=[0.2, 0.5, 0.3])
    assert_is_whole(Workload.stream(chunk_requests=size, **asked), Workload.generate(**asked))


def test_blocks_of_drawing_do_not_show():
    asked = parameters(num_requests=150_000)
    assert_is_whole(Workload.stream(**asked), Workload.generate(**asked))


def test_iterations_begin_anew_and_hold_what_was_cut():
    stream = Workload.stream(chunk_requests=10, **parameters(max_total_tokens=500))
    first = [chunk.arrival_s.tolist() for chunk in islice(stream, 3)]
    assert first == [chunk.arrival_s.tolist() for chunk in islice(stream, 3)]
    list(stream)
    list(stream)
    assert stream.notes == Workload.generate(**parameters(max_total_tokens=500)).notes


def test_a_name_goes_along():
    stream = described(Workload.stream(**parameters()), "mooncake-conv-like")
    whole = described(Workload.generate(**parameters()), "mooncake-conv-like")
    assert_is_whole(stream, whole)
    assert stream.hash != Workload.stream(**parameters()).hash


def test_the_hash_is_of_what_is_asked_for():
    assert Workload.stream(**parameters()).hash == Workload.stream(chunk_requests=5, **parameters()).hash
    assert Workload.stream(**parameters()).hash != Workload.stream(**parameters(seed=4)).hash


def test_conversations_are_refused():
    with pytest.raises(TraceError, match=r"conversations .*cannot be streamed.*Workload.generate") as caught:
        Workload.stream(**parameters(), conversations="fixed", conversation_options={"turns": 3})
    assert caught.value.field == "conversations"


def test_a_chunk_has_requests():
    with pytest.raises(TraceError, match="chunk_requests"):
        Workload.stream(chunk_requests=0, **parameters())
