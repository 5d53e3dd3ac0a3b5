"""The Python side of `fastsim.kernel.stops`: limits as the event loop takes them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fastsim.kernel.state import State
from fastsim.kernel.stops import DELAY, E2E, END, LATENCY, LIMIT, MOST_LATE, NEXT, NUM_LATE, SIZE, TPOT, TTFT

#: Latencies whose limits can end a run, by metric.
LATENCIES = {"scheduling_delay_s": DELAY, "ttft_s": TTFT, "e2e_s": E2E, "tpot_s": TPOT}


class Stop(NamedTuple):
    """A limit that ends the run when it is certain to break.

    Attributes:
        metric: one of LATENCIES.
        quantile: which may be at most the limit, from 0 to 1.
        limit_s: that limit; a request is late above it, by the times of the replicas [s].
    """

    metric: str
    quantile: float
    limit_s: float


def with_stops(state: State, stops: Sequence[Stop], first: int = 0, end: int | None = None) -> State:
    """A state before its run, in which stops are placed.

    A quantile is interpolated between two of the sorted values: it is above the limit, for certain, once the lower of
    them is.

    Args:
        state: from `fastsim.kernel.prepare.new_state`, where no requests are sent because others complete.
        stops: limits.
        first: the first of the requests, in order of arrival, of which the quantiles are.
        end: behind the last of them.
    """
    end = len(state.requests) if end is None else end
    several = int(np.count_nonzero(state.requests["output_tokens"][first:end] > 1))
    place = len(state.integers)
    added = np.zeros((len(stops), SIZE), np.int64)
    # In this order they become certain after the last arrival.
    for row, stop in zip(added, sorted(stops, key=lambda stop: stop.limit_s), strict=True):
        n = several if stop.metric == "tpot_s" else end - first
        row[LATENCY] = LATENCIES[stop.metric]
        row[LIMIT] = np.float64(stop.limit_s).view(np.int64)
        row[MOST_LATE] = n - 1 - int(stop.quantile * (n - 1)) if n > 0 else 0
        row[NEXT], row[END] = first, end
    state.cluster["stops"], state.cluster["num_stops"] = place, len(stops)
    return state._replace(integers=np.concatenate([state.integers, added.ravel()]))


def broken_stop(state: State) -> int:
    """Which of the stops ended a run, by its number in the order of their limits."""
    place = int(state.cluster["stops"][0])
    stops = state.integers[place : place + SIZE * int(state.cluster["num_stops"][0])].reshape(-1, SIZE)
    return int(np.argmax(stops[:, NUM_LATE] > stops[:, MOST_LATE]))
