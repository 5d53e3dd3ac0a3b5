"""Checks of the columns of a workload: one number per request."""

from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from traces.errors import MAX_CLASS, MAX_SESSION, MAX_TOKENS, TraceError, is_number, shown

#: Smallest and largest value of every column of whole numbers.
RANGES: Final = {
    "prompt_tokens": (1, MAX_TOKENS),
    "output_tokens": (1, MAX_TOKENS),
    "request_class": (0, MAX_CLASS),
    "session": (-1, MAX_SESSION),
}
#: Columns that need not be given, and what they hold then.
DEFAULTS: Final = {"request_class": 0, "session": -1, "think_s": np.nan}
#: What to do about a think time without a request to wait for.
NOTHING_TO_WAIT_FOR: Final = "leave it empty (nan) for the first request of a session and for those outside one"


def numbers(name: str, values: ArrayLike) -> NDArray[Any]:
    """A one-dimensional array of integers or floats, not copied where it is one already.

    Raises:
        TraceError: it is none.
    """
    try:
        array = np.asarray(values)
    except ValueError as error:  # numpy's refusal of ragged sequences
        raise TraceError(name, values, "is not a flat sequence of numbers", "give one number per request") from error
    if array.ndim != 1:
        raise TraceError(name, values, f"has {array.ndim} dimensions", "give a flat sequence, one number per request")
    if array.dtype.kind in "iuf":
        return array
    for index, value in enumerate(np.asarray(values, dtype=object)):
        if not is_number(value):
            raise TraceError(name, value, f"is {shown(value)} at index {index}", "give numbers only")
    # What is left are durations, and Python integers beyond 64 bits.
    raise TraceError(name, values, f"has elements of type {array.dtype}", "give numbers that fit 64 bits")


def arrivals(values: ArrayLike) -> NDArray[np.float64]:
    """A checked float64 copy of the arrival times."""
    # Adding 0.0 copies, and turns -0.0 into 0.0, which would hash differently.
    arrival_s: NDArray[np.float64] = np.add(numbers("arrival_s", values), 0.0, dtype=np.float64)
    if len(arrival_s) == 0:
        raise TraceError("arrival_s", values, "is empty", "give at least one request")
    bad = ~((arrival_s >= 0) & (arrival_s < np.inf))
    if bad.any():
        index = int(bad.argmax())
        value = float(arrival_s[index])
        raise TraceError("arrival_s", value, f"is {value} at index {index}", "give finite seconds of at least 0")
    return arrival_s


def think_times(values: Any, n: int) -> NDArray[np.float64]:
    """A checked float64 copy of the think times, shape (n,)."""
    if values is None:
        return np.full(n, np.nan)
    think_s: NDArray[np.float64] = np.add(numbers("think_s", values), 0.0, dtype=np.float64)
    _check_length("think_s", think_s, n)
    none = np.isnan(think_s)
    think_s[none] = np.nan  # one bit pattern of the many that are nan, so that equal workloads hash equally
    bad = ~(none | ((think_s >= 0) & (think_s < np.inf)))
    if bad.any():
        index = int(bad.argmax())
        value = float(think_s[index])
        problem, mend = f"is {value} at index {index}", "give finite seconds of at least 0, or nan for none"
        raise TraceError("think_s", value, problem, mend)
    return think_s


def nothing_to_wait_for(think_s: NDArray[np.float64], session: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which requests, in their order, have a think time but no request of their session before them, shape (n,)."""
    thinks = ~np.isnan(think_s)
    if not thinks.any():
        return thinks
    alone = session < 0
    alone[np.unique(session, return_index=True)[1]] = True
    return thinks & alone


def whole_numbers(name: str, values: Any, n: int) -> NDArray[Any]:
    """A checked copy of a column of whole numbers, int64 or, of classes, int32, shape (n,)."""
    dtype = np.int32 if name == "request_class" else np.int64
    if values is None and name in DEFAULTS:
        return np.full(n, DEFAULTS[name], dtype)
    column = numbers(name, values)
    _check_length(name, column, n)
    low, high = RANGES[name]
    if column.dtype.kind in "iu" and len(column) and low <= column.min() and column.max() <= high:
        return column.astype(dtype)
    bad = ~((column >= low) & (column <= high) & (column == np.trunc(column)))
    if bad.any():
        index = int(bad.argmax())
        value = column[index].item()
        raise TraceError(name, value, f"is {value} at index {index}", f"give whole numbers from {low} to {high}")
    return column.astype(dtype)


def _check_length(name: str, column: NDArray[Any], n: int) -> None:
    if len(column) != n:
        problem = f"has {len(column)} elements where arrival_s has {n}"
        raise TraceError(name, len(column), problem, "give one number per request")
