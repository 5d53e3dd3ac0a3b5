"""Pipeline stages where each slot of micro-batches has its own requests, between batches as well as in flight.

With the other policies whoever is idle may be in any batch. Where a policy sets ``owns_slots`` a request stays in the
slot that admitted it until it completes or is preempted: a slot's decodes stall while its prefills are in flight. There
are as many slots as stages, with numbers from 0. Taking one up swaps its part of the replica's record: the cohort of
decodes (`fastsim.kernel.cohorts`), the running list with the sums over it, whether it is full, and the chunked request.
So the policy finds the requests of one slot alone; what they share is the waiting queue and the blocks.

At a time at which batches are formed every free slot is tried once, first those whose batches have just ended.
``integers[replica.slots_to_try]`` begins the list of slots to try; its first ``num_ended`` are noted as batches end.
"""

from fastsim.kernel.cohorts import (
    CHUNKED,
    CHUNKS,
    FULL,
    LONG_OUTPUTS,
    MEMBERS,
    RUNNING,
    RUNNING_HEAD,
    RUNNING_TAIL,
    RUNNING_TOKENS,
    slot_place,
    switch_cohort,
)
from fastsim.kernel.completion import settle
from fastsim.kernel.jit import jit
from fastsim.kernel.landing import finish_decodes, finish_noted_chunks, leave_ring
from fastsim.kernel.stages import enter_ring, is_empty, is_stalled, note_chunks, run_batch
from fastsim.kernel.state import BATCH_LOG_FULL, DONE, NO_PROGRESS, NONE


@jit()
def finish_slot(requests, replica, integers):
    """Deliver the tokens of the oldest batch in flight, at the clock, and note its slot as the next one to try."""
    slot = leave_ring(replica, integers)
    take_up(replica, integers, slot)
    place = slot_place(replica, slot)
    if integers[place + CHUNKS] == 0:
        finish_decodes(requests, replica, integers)
        settle(requests, replica, integers)
    else:
        if replica.num_decodes == 0:
            replica.last_step_end_s = replica.clock_s
        finish_noted_chunks(requests, replica, integers, place)
    integers[place + MEMBERS] = 0
    integers[replica.slots_to_try + replica.num_ended] = slot
    replica.num_ended += 1


@jit()
def form_in_slots(state, tables, schedule, r):
    """Form a batch in every free slot for which the policy finds one; returns DONE, BATCH_LOG_FULL or NO_PROGRESS."""
    _, replicas, cluster_table, integers, batches, _, _, _ = state
    replica, cluster = replicas[r], cluster_table[0]
    if replica.outstanding > 0:
        if replica.iteration > replica.stall_iteration and is_stalled(replica, cluster):
            return NO_PROGRESS
        # A round is not interrupted.
        if cluster.record_batches and cluster.num_batches + replica.num_stages * replica.num_stages > batches.size:
            return BATCH_LOG_FULL
        if replica.idled:
            clear_full(replica, integers)
        while try_free_slots(state, tables, schedule, r) and replica.in_flight == 0:
            pass
    replica.num_ended = 0
    replica.try_to_form = 0
    if replica.in_flight == 0 and replica.outstanding > 0:
        return NO_PROGRESS
    return DONE


@jit()
def try_free_slots(state, tables, schedule, r):
    """Try every free slot once; returns how many requests that preempted."""
    requests, replicas, _, integers, _, _, _, _ = state
    replica = replicas[r]
    before = replica.preemptions
    for k in range(list_free_slots(replica, integers)):
        take_up(replica, integers, integers[replica.slots_to_try + k])
        if replica.num_running == 0 and replica.waiting_head == NONE:
            continue
        replica.preempted_now = 0
        replica.decodes_run = 1
        schedule(requests, replica, integers)
        replica.preempted_unlogged += replica.preempted_now
        if not is_empty(replica, integers):
            end_s = run_batch(state, tables, r)
            decodes = replica.num_decodes * replica.decodes_run
            replica.decode_batches += decodes > 0
            note_chunks(requests, replica, integers)
            enter_ring(replica, integers, decodes + replica.num_chunks, end_s)
    return replica.preemptions - before


@jit()
def list_free_slots(replica, integers):
    """Add the free slots that are not among the ended ones, by number; returns how many there are to try."""
    count = replica.num_ended
    replica.num_ended = 0
    if count + replica.in_flight == replica.num_stages:
        return count
    ended = replica.slots_to_try + count
    for slot in range(replica.num_stages):
        is_new = integers[slot_place(replica, slot) + MEMBERS] == 0
        for place in range(replica.slots_to_try, ended):
            is_new = is_new and integers[place] != slot
        if is_new:
            integers[replica.slots_to_try + count] = slot
            count += 1
    return count


@jit()
def take_up(replica, integers, slot):
    """Put the slot at hand away, and take up another."""
    if slot == replica.slot:
        return
    place = slot_place(replica, replica.slot)
    integers[place + FULL] = replica.full_mark == 1 + replica.completed
    integers[place + CHUNKED] = integers[replica.prefills] if replica.num_prefills > 0 else NONE
    integers[place + RUNNING_HEAD] = replica.running_head
    integers[place + RUNNING_TAIL] = replica.running_tail
    integers[place + RUNNING] = replica.num_running
    integers[place + RUNNING_TOKENS] = replica.running_tokens
    integers[place + LONG_OUTPUTS] = replica.num_long_outputs
    switch_cohort(replica, integers, slot)
    place = slot_place(replica, slot)
    replica.full_mark = integers[place + FULL] * (1 + replica.completed)
    replica.num_prefills = integers[place + CHUNKED] != NONE
    integers[replica.prefills] = integers[place + CHUNKED]
    integers[replica.prefills + 1] = 0
    replica.running_head = integers[place + RUNNING_HEAD]
    replica.running_tail = integers[place + RUNNING_TAIL]
    replica.num_running = integers[place + RUNNING]
    replica.running_tokens = integers[place + RUNNING_TOKENS]
    replica.num_long_outputs = integers[place + LONG_OUTPUTS]


@jit()
def clear_full(replica, integers):
    """Let no slot be full."""
    replica.full_mark = 0
    for slot in range(replica.num_stages):
        integers[slot_place(replica, slot) + FULL] = 0
