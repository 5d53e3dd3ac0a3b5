"""The Python side of `fastsim.kernel.segment`: the table of requests moves on along a stream."""

from typing import Any

import numpy as np

from fastsim.kernel.slots import COUNT_DONE, DROP_DONE, compiled
from fastsim.kernel.state import REQUEST, State, records


def compile_segments() -> tuple[Any, Any]:
    """`fastsim.kernel.segment.count_done` and ``drop_done``, compiled now or loaded from the cache."""
    return compiled("segment:count_done", COUNT_DONE), compiled("segment:drop_done", DROP_DONE)


def count_done(state: State) -> int:
    """How many of the first requests of the table have completed and can be dropped."""
    count, _ = compile_segments()
    return int(count(state, np.empty(1 + len(state.requests), np.int64)))


def drop_done(state: State, count: int) -> State:
    """The state without the first requests of its table, which are read before; its tables are changed in place."""
    if count == 0:
        return state
    _, drop = compile_segments()
    drop(state, count)
    return state._replace(requests=state.requests[count:])


def copy_records(into: np.ndarray, records: np.ndarray) -> None:
    """Copy equally many records as they lie in memory, which numpy would do field by field."""
    into.view(np.uint8)[:] = records.view(np.uint8)


def append_requests(state: State, new: np.ndarray, buffer: np.ndarray) -> tuple[State, np.ndarray]:
    """The state with more requests behind those of its table, which move to the front of a buffer.

    Args:
        state: of a stream.
        new: REQUEST records of the next requests, with their rows in the stream.
        buffer: REQUEST records, in which the table lies; a larger one is made where it is too small.

    Returns:
        The state, and the buffer.
    """
    live, size = len(state.requests), len(state.requests) + len(new)
    if size > len(buffer):
        larger = records(REQUEST, max(size, 2 * len(buffer)))
        copy_records(larger[:live], state.requests)
        buffer = larger
    else:
        copy_records(buffer[:live], state.requests.copy())  # they may overlap
    copy_records(buffer[live:size], new)
    return state._replace(requests=buffer[:size]), buffer
