"""The event loop where clients send requests because others complete (`fastsim.kernel.clients`)."""

import math

import numpy as np

from fastsim.kernel.advance import advance
from fastsim.kernel.arrivals import arrive
from fastsim.kernel.asynchronous import waits_for_oldest
from fastsim.kernel.clients import enter, next_row, send_next
from fastsim.kernel.data_parallel import ask_router
from fastsim.kernel.jit import bits_float, float_bits, jit
from fastsim.kernel.state import DONE, NO_SUCH_REPLICA, NONE


@jit()
def run_clients(state, tables, policies, kind):
    """Simulate what clients send because requests complete; returns a status as `run` does.

    Of the replicas that whose next event comes first goes on, up to the next event of another one or the next arrival,
    so that none passes a time at which a request may still be sent. At one time iterations end first, then requests
    arrive, and then batches are formed.
    """
    requests, replicas, cluster_table, integers, _, _, pending, _ = state
    schedule, route = policies
    cluster = cluster_table[0]
    while True:
        r, event_s, until_s = first_event(replicas, cluster.unit)
        row = next_row(pending, cluster, integers)
        if row != NONE:
            arrival_s = pending[row].arrival_s
            if arrival_s < event_s or (arrival_s == event_s and forms_next(replicas[r])):
                status = route_next(state, route, row)
                if status != DONE:
                    return status
                continue
            until_s = min(until_s, arrival_s)
        if event_s == math.inf:
            return DONE
        if until_s <= event_s and forms_next(replicas[r]):
            until_s = bits_float(float_bits(event_s) + 1)
        status = advance(kind, state, tables, schedule, r, until_s)
        if status != DONE:
            return status
        for engine in range(r, r + cluster.unit):
            if replicas[engine].completed_head != NONE:
                send_next(requests, replicas[engine], pending, cluster, integers)


@jit()
def first_event(replicas, unit):
    """The unit with the first event, its time, and the time of the first event of the others; inf for none [s]."""
    first, first_s, next_s = np.int64(0), next_event_s(replicas[0]), math.inf
    for r in range(unit, replicas.size, unit):
        event_s = next_event_s(replicas[r])
        if event_s < first_s or (event_s == first_s and forms_next(replicas[first]) and not forms_next(replicas[r])):
            first, first_s, event_s = r, event_s, first_s
        next_s = min(next_s, event_s)
    return first, first_s, next_s


@jit()
def next_event_s(replica):
    """When something happens next on a replica if nothing arrives: an iteration ends, or a batch is formed [s]."""
    if replica.num_stages > 1:
        if replica.try_to_form:
            return replica.clock_s
        return replica.next_end_s if replica.in_flight > 0 else math.inf
    if replica.in_lockstep:
        if waits_for_oldest(replica):
            return replica.next_end_s
        return replica.clock_s if replica.try_to_form else math.inf
    if replica.async_scheduling and waits_for_oldest(replica):
        return replica.next_end_s
    if replica.in_flight and not replica.async_scheduling:
        return replica.clock_s + replica.iteration_s
    return replica.clock_s if replica.outstanding > 0 else math.inf


@jit()
def forms_next(replica):
    """Whether what happens next on a replica is that a batch is formed."""
    if replica.num_stages > 1:
        return replica.try_to_form > 0
    if replica.async_scheduling:
        return not waits_for_oldest(replica)
    return replica.in_flight == 0


@jit()
def route_next(state, route, row):
    """Let the request of a row arrive; returns DONE or NO_SUCH_REPLICA."""
    requests, replicas, cluster_table, integers, _, _, pending, fleet = state
    cluster = cluster_table[0]
    i = cluster.next_request
    enter(requests, pending, cluster, integers, row)
    r = ask_router(state, route, i)
    if r < 0 or r >= fleet.size:
        return NO_SUCH_REPLICA
    requests[i].replica = r
    arrive(requests, replicas, cluster, integers, i)
    cluster.next_request += 1
    return DONE
