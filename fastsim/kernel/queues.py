"""Linked lists through the request table: the waiting queue, the running list and the calendar of completions.

All operations are O(1) and modify their arguments in place. ``replica`` is one REPLICA record, ``requests`` the REQUEST
table, ``i`` the index of a request.
"""

from fastsim.kernel.blocks import blocks_of
from fastsim.kernel.jit import jit
from fastsim.kernel.state import NONE, SGLANG_CLIP


@jit()
def append_waiting(requests, replica, i):
    """Put request i at the end of the waiting queue."""
    requests[i].next = NONE
    if replica.waiting_tail == NONE:
        replica.waiting_head = i
    else:
        requests[replica.waiting_tail].next = i
    replica.waiting_tail = i


@jit()
def push_waiting_front(requests, replica, i):
    """Put request i at the front of the waiting queue."""
    requests[i].next = replica.waiting_head
    if replica.waiting_tail == NONE:
        replica.waiting_tail = i
    replica.waiting_head = i


@jit()
def pop_waiting(requests, replica):
    """Take the head off the waiting queue, which must not be empty."""
    head = replica.waiting_head
    replica.waiting_head = requests[head].next
    if replica.waiting_head == NONE:
        replica.waiting_tail = NONE
    return head


@jit()
def append_running(requests, replica, i):
    """Put request i at the end of the running list: the list is in order of admission."""
    tail = replica.running_tail
    requests[i].next = NONE
    requests[i].previous = tail
    if tail == NONE:
        replica.running_head = i
    else:
        requests[tail].next = i
    replica.running_tail = i
    count_running(replica, requests[i], 1)


@jit()
def remove_running(requests, replica, i):
    """Take request i out of the running list."""
    before = requests[i].previous
    after = requests[i].next
    if before == NONE:
        replica.running_head = after
    else:
        requests[before].next = after
    if after == NONE:
        replica.running_tail = before
    else:
        requests[after].previous = before
    count_running(replica, requests[i], -1)


@jit()
def count_running(replica, request, change):
    """Count (or with change = -1 discount) a request in the sums over the running list."""
    whole = request.prompt_tokens + request.output_tokens
    replica.num_running += change
    replica.running_tokens += change * whole
    if request.output_tokens > SGLANG_CLIP:
        replica.num_long_outputs += change
    if replica.guaranteed_no_evict:
        replica.running_blocks += change * blocks_of(whole, replica)


@jit()
def insert_due(requests, replica, integers, i, iteration):
    """Enter request i in the calendar: it completes at the end of this iteration of its replica."""
    slot = replica.calendar + (iteration & replica.calendar_mask)
    head = integers[slot]
    requests[i].due_next = head
    requests[i].due_previous = NONE
    if head != NONE:
        requests[head].due_previous = i
    integers[slot] = i


@jit()
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
