import pickle

import numpy as np
import pytest

from traces.errors import TraceError, real_number, shown, whole_number


def test_error_is_one_sentence_with_its_parts():
    error = TraceError("qps", -1, "is -1", "give a number from 1 to 2")
    assert isinstance(error, ValueError)
    assert str(error) == "qps is -1; give a number from 1 to 2."
    assert (error.field, error.value, error.mend) == ("qps", -1, "give a number from 1 to 2")


def test_error_survives_pickling():
    error = TraceError("qps", -1, "is -1", "give more")
    copy = pickle.loads(pickle.dumps(error))
    assert isinstance(copy, TraceError)
    assert (str(copy), copy.field, copy.value, copy.mend) == (str(error), "qps", -1, "give more")


@pytest.mark.parametrize("value", [1, 1.0, 1e6, np.int32(7), np.float32(8.0), np.uint64(9)])
def test_whole_number_takes_whole_floats(value):
    result = whole_number("n", value, 1)
    assert result == value
    assert type(result) is int


@pytest.mark.parametrize("value", [0, 1.5, 2**31, float("nan"), float("inf"), "1", None, True, np.bool_(True), 1j, [1]])
def test_whole_number_refuses(value):
    with pytest.raises(TraceError) as caught:
        whole_number("n", value, 1)
    assert caught.value.field == "n"
    assert caught.value.value is value
    assert str(caught.value) == f"n is {value!r}; give a whole number from 1 to 2147483647."


@pytest.mark.parametrize("value", [0.4, 2.1, float("nan"), -float("inf"), "1", None, False])
def test_real_number_refuses(value):
    with pytest.raises(TraceError, match=r"^x is .*; give a number from 0\.5 to 2\.$"):
        real_number("x", value, 0.5, 2)


def test_real_number_takes_both_ends():
    assert real_number("x", 0.5, 0.5, 2) == 0.5
    assert type(real_number("x", np.int64(2), 0.5, 2)) is float


def test_shown_is_short():
    assert shown("x" * 1000) == "'" + "x" * 56 + "..."
    assert shown([1]) == "[1]"
