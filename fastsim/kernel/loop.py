"""The event loop: arrivals are routed one by one, and replicas advance only as far as somebody needs to know."""

import math

import numpy as np

from fastsim.kernel.asynchronous import advance_asynchronous, waits_for_oldest
from fastsim.kernel.blocks import whole_tokens
from fastsim.kernel.clients import enter, next_row, send_next
from fastsim.kernel.cohorts import point_at_slot
from fastsim.kernel.engines import ask_router, choose_engine, wake
from fastsim.kernel.iteration import finish, form_batch, leap, log_batch, start
from fastsim.kernel.jit import bits_float, float_bits, jit
from fastsim.kernel.landing import finish_oldest
from fastsim.kernel.lockstep import advance_rounds
from fastsim.kernel.own_slots import finish_slot, form_in_slots
from fastsim.kernel.queues import append_waiting
from fastsim.kernel.stages import arrive_at_stages, form_all, is_empty, is_stalled, pass_time
from fastsim.kernel.state import BATCH_LOG_FULL, DONE, NO_PROGRESS, NO_SUCH_REPLICA, NONE, WAITING


def run(state, tables, policies):
    """Simulate until every request has completed.

    The state is modified in place and holds the whole progress: after BATCH_LOG_FULL, call again with a longer log.

    Args:
        state: `fastsim.kernel.State`.
        tables: float64 [size], the values of estimators.IterationTables, one after another where replicas differ [s].
        policies: the batch policy and the router, compiled with SCHEDULE and ROUTE of `fastsim.kernel.slots`.

    Returns:
        DONE, BATCH_LOG_FULL, NO_PROGRESS or NO_SUCH_REPLICA.
    """
    requests, replicas, cluster_table, _, _, stages, _, fleet = state
    schedule, route = policies
    cluster = cluster_table[0]
    for r in range(replicas.size):
        point_at_slot(replicas[r])
    if cluster.dynamic:
        status = run_clients(state, tables, schedule, route)
        if status != DONE:
            return status
    while cluster.next_request < requests.size:
        i = cluster.next_request
        arrival_s = requests[i].arrival_s
        if cluster.num_routed == i:
            if cluster.router_reads_replicas:
                for r in range(0, replicas.size, cluster.unit):
                    if has_work_before(replicas[r], arrival_s):
                        status = advance(state, tables, schedule, r, arrival_s)
                        if status != DONE:
                            return status
            requests[i].replica = ask_router(state, route, i)
            cluster.num_routed += 1
        replica = requests[i].replica
        if replica < 0 or replica >= fleet.size:
            return NO_SUCH_REPLICA
        for r in range(replica * cluster.engines, (replica + 1) * cluster.engines, cluster.unit):
            status = advance(state, tables, schedule, r, arrival_s)
            if status != DONE:
                return status
        arrive(requests, replicas, cluster, i)
        cluster.next_request += 1
    for r in range(0, replicas.size, cluster.unit):
        status = advance(state, tables, schedule, r, math.inf)
        if status != DONE:
            return status
    for r in range(replicas.size):
        if replicas[r].num_stages == 1:
            replicas[r].active_s = replicas[r].busy_s
            stages[r].busy_s = replicas[r].busy_s
    return DONE


@jit()
def run_clients(state, tables, schedule, route):
    """Simulate what clients send because requests complete; returns a status as `run` does.

    Of the replicas that whose next event comes first goes on, up to the next event of another one or the next arrival,
    so that none passes a time at which a request may still be sent. At one time iterations end first, then requests
    arrive, and then batches are formed.
    """
    requests, replicas, cluster_table, integers, _, _, pending, _ = state
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
        status = advance(state, tables, schedule, r, until_s)
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
    arrive(requests, replicas, cluster, i)
    cluster.next_request += 1
    return DONE


@jit()
def has_work_before(replica, until_s):
    """Whether `advance` would do anything: most replicas are in the middle of an iteration."""
    if replica.num_stages > 1 or replica.async_scheduling or replica.in_lockstep:
        return (replica.in_flight > 0 and replica.next_end_s <= until_s) or (
            replica.try_to_form > 0 and replica.clock_s < until_s
        )
    if replica.in_flight:
        return replica.clock_s + replica.iteration_s <= until_s
    return replica.outstanding > 0 and replica.clock_s < until_s


@jit(forceinline=True)
def arrive(requests, replicas, cluster, i):
    """Put request i into the waiting queue of an engine of its replica; an idle one's clock jumps to the arrival."""
    request = requests[i]
    r = np.int64(request.replica)
    if cluster.engines > 1:
        r = choose_engine(replicas, cluster, r)
    replica = replicas[r]
    request.phase = WAITING
    request.scheduled_s = request.first_token_s = request.completed_s = math.nan
    if replica.outstanding == 0 and cluster.unit == 1:
        replica.clock_s = max(replica.clock_s, request.arrival_s)
        replica.idled = 1
    if cluster.unit > 1:
        wake(replicas, cluster, r, request.arrival_s)
    elif replica.num_stages > 1:
        arrive_at_stages(replica, request.arrival_s)
    elif replica.in_flight == 0:
        replica.try_to_form = 1
    head = replica.waiting_head
    append_waiting(requests, replica, i)
    if replica.waiting_head != head:
        replica.batch_may_change = 1
        replica.changes += 1
    replica.outstanding += 1
    replica.outstanding_tokens += whole_tokens(request)


@jit()
def advance(state, tables, schedule, r, until_s):
    """Run record r, or the unit that begins with it, through all iterations that end by until_s.

    No batch is formed at or after it. Arrivals at until_s belong to the batch formed then, so the caller adds them
    first. If clients wait for completions it returns after the first, before another batch is formed.

    Returns:
        DONE, BATCH_LOG_FULL or NO_PROGRESS.
    """
    if state.cluster[0].unit > 1:
        return advance_rounds(state, tables, schedule, r, until_s)
    if state.replicas[r].num_stages > 1:
        return advance_stages(state, tables, schedule, r, until_s)
    if state.replicas[r].async_scheduling:
        return advance_asynchronous(state, tables, schedule, r, until_s)
    requests, replicas, cluster_table, integers, batches, _, _, _ = state
    cluster = cluster_table[0]
    replica = replicas[r]
    while True:
        if replica.in_flight:
            if replica.clock_s + replica.iteration_s > until_s:
                return DONE
            finish(requests, replica, integers)
        if replica.clock_s >= until_s or replica.outstanding == 0 or replica.completed_head != NONE:
            return DONE
        if replica.iteration > replica.stall_iteration and is_stalled(replica, cluster):
            return NO_PROGRESS
        if cluster.record_batches and cluster.num_batches == batches.size:
            return BATCH_LOG_FULL
        form_batch(requests, replica, integers, schedule)
        if is_empty(replica, integers):
            if replica.preempted_now > 0:
                continue
            return NO_PROGRESS
        if replica.num_prefills == 0 and replica.swapped_blocks == 0 and not cluster.record_batches:
            leap(requests, replica, integers, tables, until_s)
        else:
            start(requests, replica, integers, tables)
            if cluster.record_batches:
                log_batch(replica, r, cluster, batches)


@jit()
def advance_stages(state, tables, schedule, r, until_s):
    """What `advance` does, for a replica with several stages: its events are the ends of batches on the last one."""
    replica = state.replicas[r]
    while True:
        while replica.in_flight > 0 and replica.next_end_s <= replica.clock_s:
            if replica.owns_slots:
                finish_slot(state.requests, replica, state.integers)
            else:
                finish_oldest(state.requests, replica, state.integers)
            replica.try_to_form = 1
        if replica.clock_s >= until_s or replica.completed_head != NONE:
            return DONE
        if replica.try_to_form:
            if replica.owns_slots:
                status = form_in_slots(state, tables, schedule, r)
            else:
                status = form_all(state, tables, schedule, r)
            if status != DONE:
                return status
        if replica.in_flight == 0 or replica.next_end_s > until_s:
            return DONE
        pass_time(replica, replica.next_end_s)
