import gzip

import numpy as np
import pytest

from traces import TraceError, generate
from traces.generators import requests_before
from traces.trace_columns import TraceArrivals, TraceLengths

RNG = np.random.default_rng


@pytest.fixture
def write(tmp_path):
    def write(text, name="trace.csv"):
        path = tmp_path / name
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return str(path)

    return write


def test_lengths_are_the_files_pairs_each_as_likely(write):
    path = write("num_total_tokens,num_prefill_tokens,num_decode_tokens\n9,5,4\n30,10,20\n3,2,1\n")
    pairs, counts = np.unique(np.stack(TraceLengths(path).sample(30_000, RNG(0))), axis=1, return_counts=True)
    assert pairs.T.tolist() == [[2, 1], [5, 4], [10, 20]]
    assert np.abs(counts - 10_000).max() < 400


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (1000, 500)),
        ({"prompt_scale": 0.0009}, (1, 500)),
        ({"prompt_scale": 1.0019, "output_scale": 2}, (1001, 1000)),
        ({"max_total": 1500}, (1000, 500)),
        ({"max_total": 150}, (100, 50)),
        ({"max_total": 2}, (1, 1)),
        ({"output_scale": 1e-6, "max_total": 4}, (3, 1)),
        ({"prompt_scale": 1e-6, "max_total": 4}, (1, 3)),
    ],
)
def test_lengths_are_scaled_and_cut_in_proportion(write, options, expected):
    path = write("ContextTokens,GeneratedTokens\n1000,500\n", "trace.csv.gz")
    assert tuple(side[0] for side in TraceLengths(path, **options).sample(1, RNG(0))) == expected


def test_arrivals_in_seconds(write):
    path = write("arrived_at,x\n10.5,a\n13.0,b\n12.0,c\n")
    assert TraceArrivals(path).sample(2, RNG(0)).tolist() == [1.5, 2.5]
    assert TraceArrivals(path, time_scale=2).sample(1, RNG(0)).tolist() == [3.0]
    with pytest.raises(
        TraceError, match=r"which holds 2 arrivals where 3 are asked for; ask for at most 2 requests\.$"
    ):
        TraceArrivals(path).sample(3, RNG(0))


def test_arrivals_as_timestamps_between_two_times(write):
    path = write(
        "arrival_time\n1970-01-04 11:59:59\n1970-01-04 12:00:00\n1970-01-04 12:00:01.25\n"
        "1970-01-04 12:00:02.75\n1970-01-04 15:00:00\n"
    )
    window = TraceArrivals(path, "1970-01-04 12:00:00", "1970-01-04 15:00:00")
    assert window.sample(1, RNG(0)).tolist() == [1.5]  # not rounded to seconds, both ends left out
    assert len(TraceArrivals(path).times_s()) == 4


@pytest.mark.parametrize(
    ("kind", "text", "options", "words"),
    [
        (
            TraceLengths,
            "a,b\n1,2\n",
            {},
            "has no columns of lengths; name them num_prefill_tokens and num_decode_tokens.",
        ),
        (TraceLengths, "num_prefill_tokens,num_decode_tokens\n", {}, "holds no requests; give another file."),
        (TraceLengths, "num_prefill_tokens,num_decode_tokens\n1,2\n3,x\n", {}, "num_decode_tokens is 'x' on line 3 of"),
        (TraceArrivals, "a\n1\n", {}, "has no column of arrivals; name it arrived_at, arrival_time, TIMESTAMP."),
        (TraceArrivals, "arrived_at\n1\n2x\n", {}, "arrived_at is '2x' on line 3 of"),
        (TraceArrivals, "arrived_at\n1\n2\n", {"start": "1970-01-01"}, "start is '1970-01-01'; leave it out"),
        (TraceArrivals, "arrival_time\n1970-01-01 00:00:00\n", {"end": "noon"}, "end is 'noon'; give a timestamp"),
        (TraceArrivals, "arrival_time\n1970-01-01 00:00:00\n", {}, "fewer than two arrivals"),
        (TraceArrivals, "arrival_time\n1970-01-01 00:00:00\n", {"start": 1970}, "start is 1970; give a timestamp"),
        (TraceArrivals, "arrival_time\n1970-01-01 00:00:00\n", {"end": ["noon"]}, "end is ['noon']; give a timestamp"),
    ],
)
def test_bad_files_are_refused_in_a_sentence(write, kind, text, options, words):
    with pytest.raises(TraceError) as caught:
        kind(write(text), **options)
    assert words in str(caught.value)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize("kind", [TraceLengths, TraceArrivals])
@pytest.mark.parametrize("path", [5, None, ["a.csv"]])
def test_what_is_no_path_is_refused(kind, path):
    with pytest.raises(TraceError, match=r"^path is .*; give the path of a CSV file\.$"):
        kind(path)


def test_a_file_that_was_written_again_is_read_again(write):
    lengths = TraceLengths(write("num_prefill_tokens,num_decode_tokens\n8,2\n"))
    arrivals = TraceArrivals(write("arrived_at\n0\n1\n", "b.csv"))
    write("num_prefill_tokens,num_decode_tokens\n800,200\n")
    write("arrived_at\n0\n17\n", "b.csv")
    assert [side[0] for side in lengths.sample(1, RNG(0))] == [800, 200]
    assert arrivals.sample(1, RNG(0)).tolist() == [17]


def test_a_workload_of_two_files(write):
    lengths, arrivals = (
        write("num_prefill_tokens,num_decode_tokens\n8,2\n", "a.csv"),
        write("arrived_at\n0\n1\n3\n", "b.csv"),
    )
    workload = generate(
        num_requests=2,
        arrivals="trace",
        arrival_options={"path": arrivals},
        lengths="trace",
        length_options={"path": lengths},
    )
    assert workload.arrival_s.tolist() == [1.0, 3.0]
    assert workload.prompt_tokens.tolist() == [8, 8]


@pytest.mark.parametrize("duration_s", [2.0, 40.0, 900.0])
def test_requests_before_a_time_are_those_that_generate_draws(duration_s):
    options = {"qps": 3.0}
    n = requests_before(duration_s, seed=4, arrivals="poisson", arrival_options=options)
    drawn = generate(num_requests=n + 1, arrival_options=options, seed=4).arrival_s
    assert drawn[n - 1] < duration_s <= drawn[n]


def test_requests_before_a_time_that_has_none(write):
    with pytest.raises(TraceError, match="before any request"):
        requests_before(1e-6, seed=4, arrivals="poisson", arrival_options={"qps": 1})
    with pytest.raises(TraceError, match="all come at time 0"):
        requests_before(1.0, seed=4, arrivals="static")
    path = write("arrived_at\n0\n1\n3\n9\n")
    assert requests_before(3.0, seed=0, arrivals="trace", arrival_options={"path": path}) == 1
    assert requests_before(1e12, seed=0, arrivals="trace", arrival_options={"path": path}) == 3
