"""Linked lists through the request table: the waiting queue, the running list and the calendar of completions.

All operations modify their arguments in place, and but for a waiting queue that is a heap they are O(1). ``replica`` is
one REPLICA record, ``requests`` the REQUEST table, ``i`` the index of a request.
"""

import numpy as np

from fastsim.kernel.blocks import blocks_of, whole_tokens
from fastsim.kernel.jit import jit
from fastsim.kernel.state import COMPLETED, FCFS, NONE, SGLANG_CLIP


@jit(forceinline=True)
def append_waiting(requests, replica, i):
    """Put request i at the end of the waiting queue, or where the queue order puts it."""
    if replica.queue_order != FCFS:
        insert_waiting(requests, replica, i)
        return
    requests[np.uintp(i)].next = NONE
    if replica.waiting_head == NONE:
        replica.waiting_head = i
    else:
        requests[np.uintp(replica.waiting_tail)].next = i
    replica.waiting_tail = i


@jit()
def push_waiting_front(requests, replica, i):
    """Put request i at the front of the waiting queue, or where the queue order puts it."""
    if replica.queue_order != FCFS:
        insert_waiting(requests, replica, i)
        return
    requests[i].next = replica.waiting_head
    if replica.waiting_tail == NONE:
        replica.waiting_tail = i
    replica.waiting_head = i


@jit(forceinline=True)
def pop_waiting(requests, replica):
    """Take the head off the waiting queue, which must not be empty."""
    head = replica.waiting_head
    drop_waiting_head(requests, replica)
    # With pipeline stages a waiting request may complete, and stays in the queue until it would be the head.
    while replica.waiting_head != NONE and requests[np.uintp(replica.waiting_head)].phase == COMPLETED:
        drop_waiting_head(requests, replica)
    return head


@jit(forceinline=True)
def drop_waiting_head(requests, replica):
    """Let the next of the waiting queue be its head."""
    head = requests[np.uintp(replica.waiting_head)]
    if replica.queue_order != FCFS:
        replica.waiting_head = meld(requests, head.next, head.previous)
        return
    replica.waiting_head = head.next
    if replica.waiting_head == NONE:
        replica.waiting_tail = NONE


@jit()
def insert_waiting(requests, replica, i):
    """Put request i into the waiting queue by queue order: a skew heap, its root the head, O(log n) amortised."""
    requests[i].next = NONE
    requests[i].previous = NONE
    replica.waiting_head = meld(requests, replica.waiting_head, np.int64(i))


@jit()
def meld(requests, a, b):
    """Join two skew heaps, given by their roots (NONE: empty); returns the root."""
    first, second = np.int64(a), np.int64(b)
    if first == NONE or (second != NONE and comes_before(requests, second, first)):
        first, second = second, first
    root = first
    while second != NONE:
        right = np.int64(requests[first].previous)
        requests[first].previous = requests[first].next
        if right == NONE or comes_before(requests, second, right):
            right, second = second, right
        requests[first].next = right
        first = right
    return root


@jit()
def comes_before(requests, i, j):
    """Whether request i stands before request j in queue order."""
    a, b = requests[i].order_key, requests[j].order_key
    return a < b or (a == b and i < j)


@jit(forceinline=True)
def append_running(requests, replica, i):
    """Put request i at the end of the running list: the list is in order of admission."""
    tail = replica.running_tail
    request = requests[np.uintp(i)]
    request.next = NONE
    request.previous = tail
    if tail == NONE:
        replica.running_head = i
    else:
        requests[np.uintp(tail)].next = i
    replica.running_tail = i
    count_running(replica, request, 1)


@jit(forceinline=True)
def remove_running(requests, replica, i):
    """Take request i out of the running list."""
    request = requests[np.uintp(i)]
    before = request.previous
    after = request.next
    if before == NONE:
        replica.running_head = after
    else:
        requests[np.uintp(before)].next = after
    if after == NONE:
        replica.running_tail = before
    else:
        requests[np.uintp(after)].previous = before
    count_running(replica, request, -1)


@jit(forceinline=True)
def count_running(replica, request, change):
    """Count (or with change = -1 discount) a request in the sums over the running list."""
    replica.num_running += change
    if replica.sums_running:
        sum_running(replica, request, change)


@jit()
def sum_running(replica, request, change):
    """Add (or with change = -1 subtract) what the admission tests of some policies sum up over the running list."""
    whole = whole_tokens(request)
    replica.running_tokens += change * whole
    if request.output_tokens > SGLANG_CLIP:
        replica.num_long_outputs += change
    if replica.guaranteed_no_evict:
        replica.running_blocks += change * blocks_of(whole, replica)


@jit()
def insert_due(requests, replica, integers, i, iteration):
    """Enter request i in the calendar: it completes at the end of this iteration of its replica."""
    slot = np.uintp(replica.calendar + (iteration & replica.calendar_mask))
    head = integers[slot]
    request = requests[np.uintp(i)]
    request.due_next = head
    request.due_previous = NONE
    if head != NONE:
        requests[np.uintp(head)].due_previous = i
    integers[slot] = i


@jit(forceinline=True)
def remove_due(requests, replica, integers, i, iteration):
    """Strike request i, which is due at the end of this iteration, out of the calendar."""
    before = requests[i].due_previous
    after = requests[i].due_next
    if before == NONE:
        integers[replica.calendar + (iteration & replica.calendar_mask)] = after
    else:
        requests[before].due_next = after
    if after != NONE:
        requests[after].due_previous = before
