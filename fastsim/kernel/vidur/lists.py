"""Doubly linked lists through a table: ``items`` are records with ``next`` and ``previous``, ``lists`` LIST records.

All operations modify their arguments in place; all but `sort_by_arrival` are O(1).
"""

from fastsim.kernel.jit import jit
from fastsim.kernel.vidur.state import NONE


@jit()
def insert_after(items, lists, which, place, i):
    """Put item i behind item ``place`` of a list; NONE: at its front."""
    after = lists[which].head if place == NONE else items[place].next
    items[i].previous = place
    items[i].next = after
    if place == NONE:
        lists[which].head = i
    else:
        items[place].next = i
    if after == NONE:
        lists[which].tail = i
    else:
        items[after].previous = i
    lists[which].length += 1


@jit()
def append(items, lists, which, i):
    """Put item i at the end of a list."""
    insert_after(items, lists, which, lists[which].tail, i)


@jit()
def remove(items, lists, which, i):
    """Take item i out of the list that it is in."""
    before, after = items[i].previous, items[i].next
    if before == NONE:
        lists[which].head = after
    else:
        items[before].next = after
    if after == NONE:
        lists[which].tail = before
    else:
        items[after].previous = before
    lists[which].length -= 1


@jit()
def pop_first(items, lists, which):
    """Take the first item off a list, which must not be empty."""
    i = lists[which].head
    remove(items, lists, which, i)
    return i


@jit()
def splice(items, lists, source, target):
    """Put all items of one list, in order, at the end of another."""
    first, before = lists[source].head, lists[target].tail
    if first == NONE:
        return
    if before == NONE:
        lists[target].head = first
    else:
        items[before].next = first
    items[first].previous = before
    lists[target].tail = lists[source].tail
    lists[target].length += lists[source].length
    lists[source].head = lists[source].tail = NONE
    lists[source].length = 0


@jit()
def sort_by_arrival(requests, lists, which):
    """Sort by arrival, stable; by insertion, as the list is nearly in order."""
    i = lists[which].head
    while i != NONE:
        after, place = requests[i].next, requests[i].previous
        if place != NONE and requests[place].arrival_s > requests[i].arrival_s:
            remove(requests, lists, which, i)
            while place != NONE and requests[place].arrival_s > requests[i].arrival_s:
                place = requests[place].previous
            insert_after(requests, lists, which, place, i)
        i = after
