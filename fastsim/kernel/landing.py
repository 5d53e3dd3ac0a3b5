"""With pipeline stages: what happens when a batch leaves the last one."""

import math

from fastsim.kernel.bench import bench_all
from fastsim.kernel.cohorts import CHUNKS, DECODES, END_S, HEADER, MEMBERS, free_slot, slot_place, switch_cohort
from fastsim.kernel.completion import count_completed, settle
from fastsim.kernel.iteration import (
    advance_decodes,
    count_fresh_gap,
    count_own_gap,
    count_shared_gap,
    finish_prefill,
)
from fastsim.kernel.jit import bits_float, jit
from fastsim.kernel.notes import add_preempted
from fastsim.kernel.queues import comes_before, pop_waiting
from fastsim.kernel.radix_cache import keep_prefill


@jit(forceinline=True)
def finish_oldest(requests, replica, integers):
    """Deliver the tokens of the oldest batch in flight, at the clock; its requests are idle from here on."""
    slot = leave_ring(replica, integers)
    place = slot_place(replica, slot)
    if integers[place + DECODES] == 0:
        if replica.num_decodes == 0:
            replica.last_step_end_s = replica.clock_s
        finish_noted_chunks(requests, replica, integers, place)
        free_slot(replica, integers, slot)
        settle(requests, replica, integers)
        return
    if replica.num_decodes > 0:
        bench_all(requests, replica, integers)
    empty = replica.slot
    switch_cohort(replica, integers, slot)
    finish_decodes(requests, replica, integers)
    finish_noted_chunks(requests, replica, integers, place)
    free_slot(replica, integers, empty)
    settle(requests, replica, integers)


@jit(forceinline=True)
def leave_ring(replica, integers):
    """Take the oldest batch off the ring of those in flight; returns its slot."""
    slot = integers[replica.flights + replica.oldest]
    replica.oldest = (replica.oldest + 1) % replica.num_stages
    replica.in_flight -= 1
    replica.num_in_flight -= integers[slot_place(replica, slot) + MEMBERS]
    replica.next_end_s = math.inf
    if replica.in_flight > 0:
        following = integers[replica.flights + replica.oldest]
        replica.next_end_s = bits_float(integers[slot_place(replica, following) + END_S])
    return slot


@jit(forceinline=True)
def finish_decodes(requests, replica, integers):
    """Give every decode of the cohort at hand its token at the clock."""
    for k in range(replica.num_fresh):
        i = integers[replica.fresh + k]
        count_fresh_gap(replica, integers, i, replica.clock_s - requests[i].last_token_s)
    others = replica.num_decodes - replica.num_fresh
    if others > 0:
        count_shared_gap(replica, integers, replica.clock_s - replica.last_step_end_s, others)
    replica.num_fresh = 0
    advance_decodes(requests, replica, integers)


@jit(forceinline=True)
def finish_noted_chunks(requests, replica, integers, place):
    """Deliver the tokens of a batch's other members, noted in the slot that begins at place."""
    chunk = place + HEADER + replica.calendar_mask + 1 + replica.block_size + replica.max_num_seqs
    for _ in range(integers[place + CHUNKS]):
        i, yields, preemptions = integers[chunk], integers[chunk + 1], integers[chunk + 2]
        chunk += 3
        if replica.radix:
            keep_prefill(requests, replica, integers, i)
        if requests[i].preemptions != preemptions:
            if yields:
                deliver_late(requests, replica, integers, i)
        elif yields:
            finish_prefill(requests, replica, integers, i)
            # One decode more leaves a smaller chunk of the budget to the head, which may fit where the larger did not.
            replica.asked = -1
        elif not replica.stays_running:
            list_prefill(requests, replica, integers, i)
    integers[place + CHUNKS] = 0


@jit()
def deliver_late(requests, replica, integers, i):
    """Give request i, which was preempted in flight, its token; it waits, and if it was the last it is completed."""
    request = requests[i]
    request.token_in_flight = 0
    if request.generated == 0:
        request.first_token_s = replica.clock_s
    else:
        count_own_gap(replica, integers, i, replica.clock_s - request.last_token_s)
    request.last_token_s = replica.clock_s
    request.generated += 1
    replica.changes += 1
    if request.generated == request.output_tokens:
        if replica.notes > 0:
            add_preempted(replica, integers, i, replica.clock_s)
        count_completed(requests, replica, i)
        if replica.waiting_head == i:
            pop_waiting(requests, replica)


@jit()
def list_prefill(requests, replica, integers, i):
    """List an idle prefill again, in queue order."""
    place = replica.prefills + 2 * replica.num_prefills
    while place > replica.prefills and comes_before(requests, i, integers[place - 2]):
        integers[place] = integers[place - 2]
        place -= 2
    integers[place] = i
    integers[place + 1] = 0
    replica.num_prefills += 1
