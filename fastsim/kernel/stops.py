"""Ending a run early, once it is certain that a quantile of a latency is above its limit.

A *stop* watches some requests in order of arrival, and counts those whose event came later than its limit allows, or
has not come by then: what happens on a replica is known up to some time, and what is not known yet happens later. Once
too many are late the run ends with STOPPED. Each request is looked at once, when what it is about is known, so that a
stop costs nothing that is noticed; a run that is not stopped is the same as one without stops, to the last bit.
`fastsim.kernel.prepare_stops` places them in the pool of integers.
"""

from fastsim.kernel.advance import advance
from fastsim.kernel.jit import bits_float, jit
from fastsim.kernel.state import DONE, STOPPED

#: What is in the pool for each stop: which latency; its limit as bits [s]; how many requests may be late, and how many
#: were; the next to be looked at, and behind which to end, both by place in order of arrival.
LATENCY, LIMIT, MOST_LATE, NUM_LATE, NEXT, END, SIZE = range(7)
#: Latencies: from arrival to the first batch, to the first token and to the last; and per token after the first.
DELAY, TTFT, E2E, TPOT = range(4)


@jit()
def know_all(state, until_s):
    """Note that what happens on every replica before a time is known."""
    for r in range(state.fleet.size):
        state.fleet[r].known_s = until_s


@jit()
def must_stop(state):
    """Whether so many requests are late that a limit breaks, whatever happens now."""
    cluster, integers = state.cluster[0], state.integers
    for stop in range(cluster.stops, cluster.stops + SIZE * cluster.num_stops, SIZE):
        look_on(state.requests, state.fleet, integers, stop, min(integers[stop + END], cluster.next_request))
        if integers[stop + NUM_LATE] > integers[stop + MOST_LATE]:
            return True
    return False


@jit()
def look_on(requests, fleet, integers, stop, end):
    """Look at the requests of a stop, up to one of which it is not known yet whether it is late, or to an end."""
    latency, limit_s = integers[stop + LATENCY], bits_float(integers[stop + LIMIT])
    i = integers[stop + NEXT]
    while i < end:
        request = requests[i]
        begin_s, happened_s, parts = request.arrival_s, request.completed_s, 1
        if latency == DELAY:
            happened_s = request.scheduled_s
        elif latency == TTFT:
            happened_s = request.first_token_s
        elif latency == TPOT:
            begin_s, parts = request.first_token_s, request.output_tokens - 1
        if parts > 0:
            is_known = happened_s >= 0.0
            earliest_s = happened_s if is_known else fleet[request.replica].known_s
            if (earliest_s - begin_s) / parts > limit_s:
                integers[stop + NUM_LATE] += 1
            elif not is_known:
                break
        i += 1
    integers[stop + NEXT] = i


@jit()
def run_until_certain(state, tables, schedule, kind):
    """After the last arrival: go on to where each stop is certain, but for TPOT; returns DONE, STOPPED or a failure."""
    requests, replicas, cluster, integers = state.requests, state.replicas, state.cluster[0], state.integers
    for stop in range(cluster.stops, cluster.stops + SIZE * cluster.num_stops, SIZE):
        if integers[stop + LATENCY] != TPOT:
            # A little later, so that rounding leaves nobody in doubt.
            until_s = (requests[requests.size - 1].arrival_s + bits_float(integers[stop + LIMIT])) * (1 + 1e-9)
            for r in range(0, replicas.size, cluster.unit):
                status = advance(kind, state, tables, schedule, r, until_s)
                if status != DONE:
                    return status
            know_all(state, until_s)
            if must_stop(state):
                return STOPPED
    return DONE
