"""The event loop: arrivals are routed one by one, and replicas advance only as far as somebody needs to know."""

import math

import numpy as np

from fastsim.kernel.advance import ANY, advance
from fastsim.kernel.arrivals import arrive, has_work_before
from fastsim.kernel.client_loop import run_clients
from fastsim.kernel.cohorts import point_at_slot
from fastsim.kernel.data_parallel import ask_router
from fastsim.kernel.jit import jit
from fastsim.kernel.state import DONE, NEEDS_REQUESTS, NO_SUCH_REPLICA, STOPPED
from fastsim.kernel.stops import must_stop, run_until_certain


def run(state, tables, policies):
    """Simulate until every request has completed.

    The state is modified in place and holds the whole progress: after BATCH_LOG_FULL, call again with a longer log.

    Args:
        state: `fastsim.kernel.State`.
        tables: float64 [size], the values of estimators.IterationTables, one after another where replicas differ [s].
        policies: the batch policy and the router, compiled with SCHEDULE and ROUTE of `fastsim.kernel.slots`.

    Returns:
        DONE, BATCH_LOG_FULL, NO_PROGRESS, NO_SUCH_REPLICA or, where the state has stops, STOPPED; of a stream
        NEEDS_REQUESTS when all of the table have arrived: call again with the next ones.
    """
    if state.cluster[0].dynamic:
        return with_clients(state, tables, policies, ANY)
    return without_clients(state, tables, policies, ANY)


@jit()
def with_clients(state, tables, policies, kind):
    """What `run` does where completions make clients send requests, for a kind of replica."""
    point_at_slots(state)
    status = run_clients(state, tables, policies, kind)
    if status == DONE:
        count_active(state)
    return status


@jit()
def without_clients(state, tables, policies, kind):
    """What `run` does where all requests are sent at their own times, for a kind of replica."""
    requests, replicas, cluster_table, integers, _, _, _, fleet = state
    schedule, route = policies
    cluster = cluster_table[0]
    point_at_slots(state)
    while cluster.next_request < requests.size:
        i = cluster.next_request
        arrival_s = requests[np.uintp(i)].arrival_s
        if cluster.num_routed == i:
            if cluster.router_reads_replicas:
                for r in range(0, replicas.size, cluster.unit):
                    if has_work_before(replicas[r], arrival_s):
                        status = advance(kind, state, tables, schedule, r, arrival_s)
                        if status != DONE:
                            return status
            requests[np.uintp(i)].replica = ask_router(state, route, i)
            cluster.num_routed += 1
        replica = np.int64(requests[np.uintp(i)].replica)
        if replica < 0 or replica >= fleet.size:
            return NO_SUCH_REPLICA
        r = replica * cluster.engines
        while r < (replica + 1) * cluster.engines:  # a range with this step would cost a division
            if has_work_before(replicas[np.uintp(r)], arrival_s):
                status = advance(kind, state, tables, schedule, r, arrival_s)
                if status != DONE:
                    return status
            r += cluster.unit
        arrive(requests, replicas, cluster, integers, i)
        cluster.next_request += 1
        if cluster.num_stops > 0:
            fleet[replica].known_s = arrival_s
            if must_stop(state):
                return STOPPED
    if cluster.more_to_come:
        return NEEDS_REQUESTS
    if cluster.num_stops > 0:
        status = run_until_certain(state, tables, schedule, kind)
        if status != DONE:
            return status
    for r in range(0, replicas.size, cluster.unit):
        status = advance(kind, state, tables, schedule, r, math.inf)
        if status != DONE:
            return status
    count_active(state)
    return DONE


@jit()
def point_at_slots(state):
    """Set where the parts of the cohorts at hand begin."""
    for r in range(state.replicas.size):
        point_at_slot(state.replicas[r])


@jit()
def count_active(state):
    """With one stage a replica is active while it is busy."""
    for r in range(state.replicas.size):
        replica = state.replicas[r]
        if replica.num_stages == 1:
            replica.active_s = replica.busy_s
            state.stages[r].busy_s = replica.busy_s
