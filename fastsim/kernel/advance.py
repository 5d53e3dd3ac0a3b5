"""Letting one replica go on to a time: a function for each kind of replica, and one for all.

`advance` becomes one of them when it is compiled, so that a run does not wait for what it does not need.

All take the state, the tables, the batch policy, the number of the replica and the time; they run it through all
iterations that end by then, without forming a batch at or after it. Arrivals at that time belong to the batch formed
then, so the caller adds them first. If clients wait for completions they return after the first, before another batch
is formed. They return DONE, BATCH_LOG_FULL or NO_PROGRESS.
"""

import numpy as np
from numba.extending import overload

from fastsim.kernel.asynchronous import advance_ahead
from fastsim.kernel.iteration import finish, form_batch, leap, log_batch, start
from fastsim.kernel.jit import HELPER, jit
from fastsim.kernel.landing import finish_oldest
from fastsim.kernel.lockstep import advance_rounds
from fastsim.kernel.own_slots import finish_slot, form_in_slots
from fastsim.kernel.stages import form_all, is_empty, is_stalled, pass_time
from fastsim.kernel.state import BATCH_LOG_FULL, DONE, NO_PROGRESS, NONE


@jit()
def advance_one_stage(state, tables, schedule, r, until_s):
    """A replica with one stage that schedules synchronously."""
    requests, replicas, cluster_table, integers, batches, _, _, _ = state
    cluster = cluster_table[0]
    replica = replicas[np.uintp(r)]
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
    """A replica with several stages: its events are the ends of batches on the last one."""
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
        pass_time(replica, state.integers, replica.next_end_s)


@jit()
def advance_any(state, tables, schedule, r, until_s):
    """A replica of any kind."""
    replica = state.replicas[r]
    if state.cluster[0].unit > 1:
        return advance_rounds(state, tables, schedule, r, until_s)
    if replica.async_scheduling:
        return advance_ahead(state, tables, schedule, r, until_s)
    if replica.num_stages == 1:
        return advance_one_stage(state, tables, schedule, r, until_s)
    return advance_stages(state, tables, schedule, r, until_s)


#: The kinds of replicas, by number. A kind is passed as that many zeros, so that its number is in its type.
KINDS = (advance_any, advance_one_stage, advance_stages, advance_ahead, advance_rounds)
ANY, ONE_STAGE, STAGES, AHEAD, LOCKSTEP = ((0,) * number for number in range(len(KINDS)))


def advance(kind, state, tables, schedule, r, until_s):
    """The function above for a kind of replica."""
    return KINDS[len(kind)](state, tables, schedule, r, until_s)


@overload(advance, jit_options=HELPER)
def _advance(kind, state, tables, schedule, r, until_s):
    chosen = KINDS[len(kind)]

    def compiled(kind, state, tables, schedule, r, until_s):
        return chosen(state, tables, schedule, r, until_s)

    return compiled
