import dataclasses
import hashlib
import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from traces import TraceError, Workload

requests = st.lists(
    st.tuples(st.floats(0, 1e9), st.integers(1, 2**31 - 1), st.integers(1, 2**31 - 1)), min_size=1, max_size=50
)


def columns(rows):
    return [list(column) for column in zip(*rows, strict=True)]


@given(requests)
def test_sorts_stably_and_keeps_every_request(rows):
    workload = Workload.from_arrays(*columns(rows))
    expected = sorted(rows, key=lambda row: row[0])
    kept = zip(workload.arrival_s, workload.prompt_tokens, workload.output_tokens, strict=True)
    assert [tuple(row) for row in kept] == expected
    late = sum(row[0] < max(earlier[0] for earlier in rows[: index + 1]) for index, row in enumerate(rows))
    note = f"{late} of {len(rows)} requests were out of order; sorted by arrival"
    assert workload.notes == ((note,) if late else ())


def classed(**more) -> Workload:
    """Three requests out of order, with classes and sessions."""
    given = {"request_class": [3, 1, 127], "session": [7, -1, 2**53 - 1], **more}
    return Workload.from_arrays([3.0, 1.0, 2.0], [30, 10, 20], [1, 1, 1], **given)


def classes_and_sessions(workload: Workload) -> list[tuple[int, int]]:
    return list(zip(workload.request_class.tolist(), workload.session.tolist(), strict=True))


def test_classes_and_sessions_stay_with_their_requests():
    workload = classed(request_class=np.array([3.0, 1.0, 127.0]))
    assert workload.prompt_tokens.tolist() == [10, 20, 30]
    assert classes_and_sessions(workload) == [(1, -1), (127, 2**53 - 1), (3, 7)]
    assert (workload.request_class.dtype, workload.session.dtype) == (np.int32, np.int64)
    assert not workload.request_class.flags.writeable
    assert classes_and_sessions(workload.head(2)) == [(1, -1), (127, 2**53 - 1)]
    assert classes_and_sessions(workload.scaled(7)) == classes_and_sessions(workload)


def test_either_may_be_left_out():
    assert classes_and_sessions(classed(session=None)) == [(1, -1), (127, -1), (3, -1)]
    assert classes_and_sessions(classed(request_class=None)) == [(0, -1), (0, 2**53 - 1), (0, 7)]


def test_with_classes_changes_the_classes_only():
    workload = classed()
    drawn = workload.with_classes((0.25, 0.75), seed=5)
    assert set(drawn.request_class.tolist()) <= {0, 1}
    for name in ("arrival_s", "prompt_tokens", "output_tokens", "session"):
        np.testing.assert_array_equal(getattr(drawn, name), getattr(workload, name))
    assert drawn.notes == workload.notes
    assert drawn.provenance == {"classes": {"shares": [0.25, 0.75], "seed": 5}}
    assert drawn.request_class.dtype == np.int32


@pytest.mark.parametrize("seed", [-1, 1.5, "1"])
def test_with_classes_refuses_bad_seeds(seed):
    with pytest.raises(TraceError, match=r"^seed is .*; give a whole number from 0 to \d+\.$"):
        classed().with_classes((0.5, 0.5), seed)


def test_array_types_and_defaults():
    workload = Workload.from_arrays([0, 1], [3.0, 4.0], np.array([5, 6], np.uint8))
    types = {name: getattr(workload, name).dtype for name in ("arrival_s", "prompt_tokens", "output_tokens")}
    assert types == {"arrival_s": np.float64, "prompt_tokens": np.int64, "output_tokens": np.int64}
    assert workload.request_class.dtype == np.int32
    assert workload.request_class.tolist() == [0, 0]
    assert workload.session.dtype == np.int64
    assert workload.session.tolist() == [-1, -1]
    assert len(workload) == workload.num_requests == 2


def test_arrays_are_read_only_copies():
    arrival_s, tokens = np.array([0.0, 1.0]), np.array([1, 2])
    workload = Workload.from_arrays(arrival_s, tokens, tokens)
    arrival_s[0] = tokens[0] = 9
    assert workload.arrival_s.tolist() == [0, 1]
    assert workload.prompt_tokens.tolist() == [1, 2]
    for field in dataclasses.fields(workload):
        column = getattr(workload, field.name)
        if isinstance(column, np.ndarray):
            assert not column.flags.writeable, field.name
    with pytest.raises(dataclasses.FrozenInstanceError):
        workload.arrival_s = arrival_s


def test_takes_polars_series():
    workload = Workload.from_arrays(pl.Series([0.5]), pl.Series([2]), pl.Series([3]))
    assert (workload.arrival_s[0], workload.prompt_tokens[0], workload.output_tokens[0]) == (0.5, 2, 3)


GOOD = {"arrival_s": [0.0, 1.0], "prompt_tokens": [1, 1], "output_tokens": [1, 1]}
LAST = 2**31 - 1


@pytest.mark.parametrize(
    ("field", "values", "sentence"),
    [
        ("arrival_s", [], "arrival_s is empty; give at least one request."),
        ("arrival_s", [0.0, math.nan], "arrival_s is nan at index 1; give finite seconds of at least 0."),
        ("arrival_s", [0.0, math.inf], "arrival_s is inf at index 1; give finite seconds of at least 0."),
        ("arrival_s", [-0.5, -1.0], "arrival_s is -0.5 at index 0; give finite seconds of at least 0."),
        ("arrival_s", [0.0, None], "arrival_s is None at index 1; give numbers only."),
        ("arrival_s", [0.0, "1.0"], "arrival_s is '1.0' at index 1; give numbers only."),
        ("arrival_s", [True, False], "arrival_s is True at index 0; give numbers only."),
        ("arrival_s", 3.0, "arrival_s has 0 dimensions; give a flat sequence, one number per request."),
        ("arrival_s", [[0.0], [1.0]], "arrival_s has 2 dimensions; give a flat sequence, one number per request."),
        (
            "arrival_s",
            np.array([1, 2], "m8[ns]"),
            "arrival_s has elements of type timedelta64[ns]; give numbers that fit 64 bits.",
        ),
        (
            "prompt_tokens",
            [[1], [1, 2]],
            "prompt_tokens is not a flat sequence of numbers; give one number per request.",
        ),
        (
            "prompt_tokens",
            [1],
            "prompt_tokens has 1 elements where arrival_s has 2; give one number per request.",
        ),
        ("prompt_tokens", [1, 0], f"prompt_tokens is 0 at index 1; give whole numbers from 1 to {LAST}."),
        ("prompt_tokens", [1, -7], f"prompt_tokens is -7 at index 1; give whole numbers from 1 to {LAST}."),
        ("prompt_tokens", [1.5, 1.0], f"prompt_tokens is 1.5 at index 0; give whole numbers from 1 to {LAST}."),
        ("output_tokens", [1, math.nan], f"output_tokens is nan at index 1; give whole numbers from 1 to {LAST}."),
        ("output_tokens", [1, math.inf], f"output_tokens is inf at index 1; give whole numbers from 1 to {LAST}."),
        ("output_tokens", [1, 2**31], f"output_tokens is {2**31} at index 1; give whole numbers from 1 to {LAST}."),
        ("output_tokens", [1, 2**70], "output_tokens has elements of type object; give numbers that fit 64 bits."),
        (
            "output_tokens",
            pl.Series([1, None]),
            f"output_tokens is nan at index 1; give whole numbers from 1 to {LAST}.",
        ),
        ("request_class", [0, 128], "request_class is 128 at index 1; give whole numbers from 0 to 127."),
        ("request_class", [-1, 0], "request_class is -1 at index 0; give whole numbers from 0 to 127."),
        ("request_class", [0.5, 0], "request_class is 0.5 at index 0; give whole numbers from 0 to 127."),
        ("request_class", ["0", 0], "request_class is '0' at index 0; give numbers only."),
        ("request_class", [0], "request_class has 1 elements where arrival_s has 2; give one number per request."),
        ("session", [0, -2], f"session is -2 at index 1; give whole numbers from -1 to {2**53 - 1}."),
        ("session", [2**53, 0], f"session is {2**53} at index 0; give whole numbers from -1 to {2**53 - 1}."),
        ("session", [0, 1, 2], "session has 3 elements where arrival_s has 2; give one number per request."),
    ],
)
def test_refuses_bad_input(field, values, sentence):
    with pytest.raises(TraceError) as caught:
        Workload.from_arrays(**{**GOOD, field: values})
    assert caught.value.field == field
    assert str(caught.value) == sentence


def test_index_in_errors_is_that_of_the_input():
    with pytest.raises(TraceError, match="prompt_tokens is 0 at index 2"):
        Workload.from_arrays([3.0, 2.0, 1.0], [1, 1, 0], [1, 1, 1])


def test_qps_and_duration():
    workload = Workload.from_arrays([2.0, 3.0, 6.0], [1, 1, 1], [1, 1, 1])
    assert workload.duration_s == 4.0
    assert workload.qps == 0.5
    assert Workload.from_arrays([5.0], [1], [1]).qps is None
    assert Workload.from_arrays([5.0, 5.0], [1, 1], [1, 1]).qps is None
    assert Workload.from_arrays([0.0, 5e-324], [1, 1], [1, 1]).qps is None  # n / duration overflows


@given(requests.filter(lambda rows: max(rows)[0] - min(rows)[0] > 1e-3), st.floats(1e-3, 1e3))
def test_scaled_stretches_arrivals_only(rows, qps):
    workload = Workload.from_arrays(*columns(rows))
    scaled = workload.scaled(qps)
    assert scaled.qps == pytest.approx(qps, rel=1e-9)
    np.testing.assert_array_equal(scaled.prompt_tokens, workload.prompt_tokens)
    np.testing.assert_array_equal(scaled.output_tokens, workload.output_tokens)
    np.testing.assert_allclose(scaled.arrival_s * qps, workload.arrival_s * workload.qps, rtol=1e-12, atol=1e-300)
    assert scaled.notes == workload.notes
    assert scaled.provenance["scaled_to_qps"] == qps


@pytest.mark.parametrize("qps", [0, -1.0, math.nan, math.inf, "1", None, 1e-300])
def test_scaled_refuses_bad_rates(qps):
    with pytest.raises(TraceError, match=r"^qps is .*; give a number from 1e-09 to 1e\+09\.$"):
        Workload.from_arrays([0.0, 1.0], [1, 1], [1, 1]).scaled(qps)


def test_scaled_refuses_a_workload_without_a_rate():
    with pytest.raises(TraceError, match=r"^qps is 2, but .* has no rate to scale; take one with arrivals"):
        Workload.from_arrays([0.0, 0.0], [1, 1], [1, 1]).scaled(2)


def test_head():
    workload = Workload.from_arrays([3.0, 1.0, 2.0], [3, 1, 2], [1, 1, 1])
    head = workload.head(2.0)
    assert head.arrival_s.tolist() == [1.0, 2.0]
    assert head.prompt_tokens.tolist() == [1, 2]
    assert head.notes == workload.notes
    assert head.provenance == {"head": 2}
    assert workload.head(3).hash == workload.hash


@pytest.mark.parametrize("n", [0, 3, 1.5, "1"])
def test_head_refuses(n):
    with pytest.raises(TraceError, match=r"^n is .*; give a whole number from 1 to 2\.$"):
        Workload.from_arrays([0.0, 1.0], [1, 1], [1, 1]).head(n)


def test_hash_is_that_of_the_content():
    def make(arrival_s=(0.0, 1.0), prompt_tokens=(1, 2), output_tokens=(1, 2), **more):
        return Workload.from_arrays(arrival_s, prompt_tokens, output_tokens, **more)

    expected = hashlib.sha256()
    for name, values, kind in (
        ("arrival_s", [0.0, 1.0], "<f8"),
        ("prompt_tokens", [1, 2], "<i8"),
        ("output_tokens", [1, 2], "<i8"),
        ("request_class", [0, 0], "<i4"),
        ("session", [-1, -1], "<i8"),
    ):
        expected.update(f"{name} {kind} 2\n".encode() + np.array(values, kind).tobytes())
    assert make().hash == expected.hexdigest()
    assert make(notes=("n",), provenance={"a": 1}, arrival_s=[-0.0, 1.0]).hash == make().hash
    others = {
        make(arrival_s=(0.0, 1.5)).hash,
        make(prompt_tokens=(1, 3)).hash,
        make(output_tokens=(1, 3)).hash,
        make(prompt_tokens=(2, 1)).hash,
        make(request_class=(0, 1)).hash,
        make(session=(-1, 0)).hash,
    }
    assert len(others | {make().hash}) == 7
    assert make(request_class=(0, 0), session=(-1, -1)).hash == make().hash


def thinking(**more) -> Workload:
    """Five requests out of order: session 7 in rows 0, 2 and 4, one outside any, session 0."""
    given = {"session": [7, -1, 7, 0, 7], "think_s": [math.nan, math.nan, 0.5, math.nan, 2], **more}
    return Workload.from_arrays([1.0, 1.0, 1.0, 0.5, 1.0], [10, 20, 30, 40, 50], [1] * 5, **given)


def test_think_times_stay_with_their_requests():
    workload = thinking()
    assert workload.prompt_tokens.tolist() == [40, 10, 20, 30, 50]
    np.testing.assert_array_equal(workload.think_s, [math.nan, math.nan, math.nan, 0.5, 2.0])
    assert workload.think_s.dtype == np.float64
    assert not workload.think_s.flags.writeable
    np.testing.assert_array_equal(workload.head(4).think_s, workload.think_s[:4])
    np.testing.assert_array_equal(workload.scaled(9).think_s, workload.think_s)
    assert np.isnan(thinking(think_s=None).think_s).all()


def test_hash_covers_think_times():
    without = Workload.from_arrays([0.0, 1.0], [1, 1], [1, 1], session=[3, 3])
    assert Workload.from_arrays([0.0, 1.0], [1, 1], [1, 1], session=[3, 3], think_s=[math.nan] * 2).hash == without.hash
    hashes = {
        Workload.from_arrays([0.0, 1.0], [1, 1], [1, 1], session=[3, 3], think_s=[first, think_s]).hash
        for think_s in (0.0, -0.0, 1.0)
        for first in (math.nan, -math.nan)
    }
    assert len(hashes | {without.hash}) == 3


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            {"think_s": [math.nan, -1.0, 0.5, math.nan, 2]},
            "think_s is -1.0 at index 1; give finite seconds of at least 0, or nan for none.",
        ),
        (
            {"think_s": [math.nan, math.nan, 0.5, math.nan, math.inf]},
            "think_s is inf at index 4; give finite seconds of at least 0, or nan for none.",
        ),
        ({"think_s": [math.nan]}, "think_s has 1 elements where arrival_s has 5; give one number per request."),
        ({"think_s": [math.nan, None, 1, 1, 1]}, "think_s is None at index 1; give numbers only."),
        (
            {"think_s": [0.25, math.nan, 0.5, math.nan, 2]},
            "think_s is 0.25 at index 0, which has no request of its session before it; "
            "leave it empty (nan) for the first request of a session and for those outside one.",
        ),
        (
            {"think_s": [math.nan, 3, 0.5, math.nan, 2]},
            "think_s is 3.0 at index 1, which has no request of its session before it; "
            "leave it empty (nan) for the first request of a session and for those outside one.",
        ),
    ],
)
def test_refuses_bad_think_times(given, sentence):
    with pytest.raises(TraceError) as caught:
        thinking(**given)
    assert str(caught.value) == sentence


def test_the_request_before_is_that_of_the_order_of_arrival():
    with pytest.raises(TraceError, match=r"^think_s is 1\.0 at index 1, which has no request of its session before it"):
        Workload.from_arrays([2.0, 1.0], [1, 1], [1, 1], session=[0, 0], think_s=[math.nan, 1])
    assert Workload.from_arrays([2.0, 1.0], [1, 1], [1, 1], session=[0, 0], think_s=[1, math.nan]).think_s[1] == 1


def test_repeated():
    workload = thinking().repeated(3)
    assert len(workload) == 15
    once = thinking()
    gap_s = once.duration_s / 4
    for k in range(3):
        part = slice(5 * k, 5 * k + 5)
        np.testing.assert_allclose(workload.arrival_s[part], once.arrival_s + k * (once.duration_s + gap_s))
        for name in ("prompt_tokens", "output_tokens", "request_class", "think_s"):
            np.testing.assert_array_equal(getattr(workload, name)[part], getattr(once, name))
        sessions = [0 + 8 * k, 7 + 8 * k, -1, 7 + 8 * k, 7 + 8 * k]
        assert workload.session[part].tolist() == sessions
    assert workload.qps == pytest.approx(once.qps)
    assert workload.provenance == {"repeated": 3}
    assert once.repeated(1).hash == once.hash


def test_repeated_without_a_rate_and_without_sessions():
    workload = Workload.from_arrays([5.0, 5.0], [1, 2], [1, 1]).repeated(2)
    assert workload.arrival_s.tolist() == [5.0] * 4
    assert workload.session.tolist() == [-1] * 4
    assert workload.prompt_tokens.tolist() == [1, 2, 1, 2]


def test_repeated_refuses():
    for times in (0, 1.5, "2"):
        with pytest.raises(TraceError, match=r"^times is .*; give a whole number from 1 to \d+\.$"):
            thinking().repeated(times)
    workload = Workload.from_arrays([0.0], [1], [1], session=[2**53 - 1])
    assert workload.repeated(1).hash == workload.hash
    with pytest.raises(TraceError, match=r"^times is 2, too many for sessions numbered up to 9007199254740991; "):
        workload.repeated(2)
