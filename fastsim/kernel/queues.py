"""Linked lists through the request table: the waiting queue, the running list and the calendar of completions.

All operations are O(1) and modify their arguments in place. ``replica`` is one REPLICA record, ``requests`` the REQUEST
table, ``i`` the index of a request.
"""

from fastsim.kernel.jit import jit
from fastsim.kernel.state import NONE


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
    replica.num_running += 1


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
    replica.num_running -= 1


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
