"""A stream of requests: the table holds those from the oldest on that somebody needs, and moves on by segments.

After NEEDS_REQUESTS the first requests of the table that have completed are read and dropped, and the next ones of the
stream follow behind the others. So whatever holds the index of a request, in a record or in the pool of integers, goes
down by the number of those dropped. Order stays, and with it all that compares requests.
`fastsim.kernel.slots` compiles `count_done` and `drop_done`; `fastsim.kernel.prepare_segments` calls them.
"""

import numpy as np

from fastsim.kernel.cohorts import CHUNKED, CHUNKS, FRESH, HEADER, RUNNING_TAIL, slot_place
from fastsim.kernel.flights import COMPLETE, LATE, complete_list, flight_at, late_list
from fastsim.kernel.jit import jit
from fastsim.kernel.radix_tree import NO_NODE, WRITER
from fastsim.kernel.state import COMPLETED, FCFS, NONE

_NOBODY = np.iinfo(np.int64).max


def count_done(state, stack):
    """How many of the first requests of the table have completed and are needed by nobody.

    Args:
        state: of a run that has returned NEEDS_REQUESTS.
        stack: int64 [1 + requests], to work on.
    """
    requests = state.requests
    oldest = np.int64(0)
    while oldest < requests.size and requests[oldest].phase == COMPLETED:
        oldest += 1
    for r in range(state.replicas.size):
        replica = state.replicas[r]
        oldest = min(oldest, shift_pool(replica, state.integers, 0))
        # With stages a request may complete while it waits, and stays in the queue.
        if replica.num_stages > 1:
            oldest = min(oldest, oldest_waiting(requests, replica, stack))
    return oldest


def drop_done(state, count):
    """Let the table begin count requests later: everything but the records themselves is moved, in place."""
    requests, cluster = state.requests, state.cluster[0]
    cluster.next_request -= count
    cluster.num_routed -= count
    cluster.first_request += count
    for r in range(state.replicas.size):
        shift_ends(state.replicas[r], count)
        shift_pool(state.replicas[r], state.integers, count)
    for i in range(count, requests.size):
        request = requests[i]
        request.next = moved(request.next, count)
        request.previous = moved(request.previous, count)
        request.due_next = moved(request.due_next, count)
        request.due_previous = moved(request.due_previous, count)


@jit()
def moved(i, count):
    """The new index of request i; NONE stays NONE, and so become indices of those dropped, which nobody reads."""
    return max(np.int64(i) - count, np.int64(NONE))


@jit()
def shift_ends(replica, count):
    """Move the ends of a replica's lists."""
    replica.waiting_head = moved(replica.waiting_head, count)
    replica.waiting_tail = moved(replica.waiting_tail, count)
    replica.running_head = moved(replica.running_head, count)
    replica.running_tail = moved(replica.running_tail, count)


@jit()
def shift_pool(replica, integers, count):
    """Move the indices in a replica's parts of the pool; returns the smallest one before."""
    oldest = shift_list(integers, replica.prefills, replica.num_prefills, 2, count)
    num_slots = replica.num_stages + 2 if replica.num_stages > 1 else 2
    for slot in range(num_slots):
        oldest = min(oldest, shift_slot(replica, integers, slot, count))
    if replica.async_scheduling:
        for k in range(replica.in_flight):
            flight = flight_at(replica, k)
            oldest = min(oldest, shift_list(integers, complete_list(flight), integers[flight + COMPLETE], 2, count))
            oldest = min(oldest, shift_list(integers, late_list(replica, flight), integers[flight + LATE], 1, count))
    if replica.radix:
        oldest = min(oldest, shift_writers(replica, integers, count))
    return oldest


@jit()
def shift_slot(replica, integers, slot, count):
    """Move the indices in a cohort's slot; returns the smallest one before."""
    place = slot_place(replica, slot)
    calendar = place + HEADER
    fresh = calendar + replica.calendar_mask + 1 + replica.block_size
    is_at_hand = slot == replica.slot
    oldest = shift_list(integers, calendar, replica.calendar_mask + 1, 1, count)
    num_fresh = replica.num_fresh if is_at_hand else integers[place + FRESH]
    oldest = min(oldest, shift_list(integers, fresh, num_fresh, 1, count))
    chunks = fresh + replica.max_num_seqs
    oldest = min(oldest, shift_list(integers, chunks, integers[place + CHUNKS], 3, count))
    if not is_at_hand:
        oldest = min(oldest, shift_list(integers, place + CHUNKED, 1 + RUNNING_TAIL - CHUNKED, 1, count))
    return oldest


@jit()
def shift_writers(replica, integers, count):
    """Move the indices of the requests that wrote the nodes of the radix tree; returns the smallest one before."""
    oldest = np.int64(_NOBODY)
    for entry in range(replica.children, replica.children + replica.children_mask + 1):
        if integers[entry] != NO_NODE:
            oldest = min(oldest, shift_list(integers, integers[entry] + WRITER, 1, 1, count))
    return oldest


@jit()
def shift_list(integers, first, length, stride, count):
    """Move the indices at some places of the pool, a stride from each other; returns the smallest one before."""
    oldest = np.int64(_NOBODY)
    for place in range(first, first + length * stride, stride):
        if integers[place] != NONE:
            oldest = min(oldest, integers[place])
            integers[place] = moved(integers[place], count)
    return oldest


@jit()
def oldest_waiting(requests, replica, stack):
    """The first request of those in a replica's waiting queue, or in the heap that it is in other orders."""
    oldest = np.int64(_NOBODY)
    stack[0] = replica.waiting_head
    height = 1
    while height > 0:
        height -= 1
        i = stack[height]
        if i == NONE:
            continue
        oldest = min(oldest, i)
        stack[height] = requests[i].next
        height += 1
        if replica.queue_order != FCFS:
            stack[height] = requests[i].previous
            height += 1
    return oldest
