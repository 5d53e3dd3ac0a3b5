import numpy as np
import pytest

from traces import TraceError, Workload, generate, write
from traces.replay import Replay

TIMES = [5.0, 6.0, 8.0, 11.0]
PERIOD = 6.0 + 2.0  # from the first to a mean gap behind the last


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "trace.parquet"
    write(Workload.from_arrays(TIMES, [1] * 4, [1] * 4), file)
    return str(file)


def draw(process, n, seed=1):
    return process.sample(n, np.random.Generator(np.random.PCG64(seed)))


def test_it_begins_at_0_and_again_when_it_ends(path):
    assert draw(Replay(path), 6).tolist() == [0.0, 1.0, 3.0, 6.0, 8.0, 9.0]
    assert draw(Replay(path, time_scale=0.5), 5).tolist() == [0.0, 0.5, 1.5, 3.0, 4.0]


def test_without_a_loop_more_is_refused(path):
    process = Replay(path, loop=False)
    assert draw(process, 4).tolist() == [0.0, 1.0, 3.0, 6.0]
    with pytest.raises(TraceError) as caught:
        draw(process, 5)
    assert str(caught.value) == (
        f"path is {path!r}, which gives 4 arrivals where 5 are asked for; ask for at most 4 requests, or loop it."
    )


@pytest.mark.parametrize("rate_scale", [0.25, 0.5, 1.0, 2.0, 3.5])
def test_more_and_fewer_in_the_same_time(path, rate_scale):
    process = Replay(path, rate_scale=rate_scale)
    arrival_s = draw(process, 8000)
    assert np.all(np.diff(arrival_s) >= 0)
    assert 8000 / arrival_s[-1] == pytest.approx(rate_scale * 4 / PERIOD, rel=0.05)
    np.testing.assert_array_equal(arrival_s[:100], draw(process, 100))


def test_fewer_are_some_of_the_same_times(path):
    arrival_s = draw(Replay(path, rate_scale=0.5), 200)
    assert set((arrival_s % PERIOD).tolist()) <= {0.0, 1.0, 3.0, 6.0}


def test_copies_hold_the_trace_in_place_and_others_turned_round(path):
    arrival_s = draw(Replay(path, rate_scale=3.0), 12)
    assert {0.0, 1.0, 3.0, 6.0} <= set(arrival_s.tolist())
    assert len(set(arrival_s.tolist())) == 12


def test_any_trace_can_be_replayed_with_other_lengths(public_traces):
    file = public_traces / "azure" / "AzureLLMInferenceTrace_code.csv.gz"
    workload = generate(num_requests=20_000, arrivals="replay", arrival_options={"path": str(file)})
    assert workload.qps == pytest.approx(2.5663, rel=0.1)
    gaps_s = np.diff(workload.arrival_s[:8819])
    assert gaps_s.std() / gaps_s.mean() == pytest.approx(13.15, abs=0.01)


def test_a_rate_is_not_used(path):
    workload = generate(num_requests=3, qps=2, arrivals="replay", arrival_options={"path": path})
    assert workload.notes == (
        "qps 2 is not used: arrivals of a trace come when they come; rate_scale takes more or fewer of them",
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rate_scale": 0}, "rate_scale is 0; give a number from 0.001 to 1000."),
        ({"time_scale": -1}, "time_scale is -1; give a number from 1e-09 to 1e+09."),
        ({"loop": 1}, "loop is 1; give true or false."),
    ],
)
def test_bad_options(path, options, words):
    with pytest.raises(TraceError) as caught:
        Replay(path, **options)
    assert str(caught.value) == words


def test_traces_without_times_are_refused(tmp_path):
    file = tmp_path / "lengths.csv"
    file.write_text("num_prefill_tokens,num_decode_tokens\n1,2\n3,4\n")
    with pytest.raises(TraceError, match=r"whose requests all arrive at one time; give a trace with arrivals"):
        Replay(str(file))
    with pytest.raises(TraceError, match=r"cannot be read"):
        Replay(str(tmp_path / "none.csv"))
