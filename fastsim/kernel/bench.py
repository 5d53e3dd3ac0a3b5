"""The bench: a cohort that is in no batch and waits beside the one at hand.

A decode is benched where a batch goes without it (docs/policies.md: its micro-batch is full, or the pass over the
running requests ended before it); a cohort, where it is idle while another one lands. Before the next batch is formed
the two are united, or, where they are more than a batch takes, its policy divides them anew. Only the fewer of the
requests are ever moved, as either cohort can be the one at hand.
All functions modify their arguments in place; ``replica`` is one REPLICA record.
"""

import numpy as np

from fastsim.kernel.cohorts import switch_cohort
from fastsim.kernel.jit import jit
from fastsim.kernel.running import add_fresh, enter_decodes, leave_decodes
from fastsim.kernel.state import DECODE, NONE


@jit()
def trade_places(replica, integers):
    """Let the cohort at hand and the one on the bench trade places."""
    slot, decodes = replica.slot, replica.num_decodes
    switch_cohort(replica, integers, replica.bench_slot)
    replica.bench_slot = slot
    replica.num_benched = decodes
    replica.asked = -1


@jit()
def bench(requests, replica, integers, i):
    """Move decode i from the cohort at hand to the bench."""
    leave_decodes(requests, replica, integers, i)
    trade_places(replica, integers)
    enter(requests, replica, integers, i)
    trade_places(replica, integers)


@jit()
def bench_all(requests, replica, integers):
    """Move everybody at hand to the bench."""
    if replica.num_benched > 0:
        unbench(requests, replica, integers)
    trade_places(replica, integers)


@jit()
def unbench(requests, replica, integers):
    """Move everybody on the bench to the cohort at hand."""
    if replica.num_benched <= replica.num_decodes:
        trade_places(replica, integers)
    count = np.int64(replica.num_decodes)
    last = replica.scratch + count
    list_decodes(requests, replica, integers, replica.scratch, last, replica.slot)
    take_out(requests, replica, integers, replica.scratch, count)
    trade_places(replica, integers)
    put_in(requests, replica, integers, last, count)


@jit()
def list_decodes(requests, replica, integers, first, last, slot):
    """Write the decodes at hand and those in a slot into places first to last, as many as there are, as admitted.

    Each step of a walk waits for the one before, so the running list is walked from both of its ends at a time; and
    nothing predicts who belongs to a cohort, so no branch depends on it.
    """
    i = np.int64(replica.running_head)
    j = np.int64(replica.running_tail)
    while first < last:
        integers[first] = i
        first += (requests[i].phase == DECODE) & ((requests[i].cohort == replica.slot) | (requests[i].cohort == slot))
        if first == last:
            break
        integers[last - 1] = j
        last -= (requests[j].phase == DECODE) & ((requests[j].cohort == replica.slot) | (requests[j].cohort == slot))
        i = np.int64(requests[i].next)
        j = np.int64(requests[j].previous)


@jit()
def exchange(requests, replica, integers, end, last, num_up, num_down):
    """Bring decodes to where they belong.

    Args:
        requests: REQUEST records [n].
        replica: one REPLICA record.
        integers: the pool of integers.
        end: who is listed from the begin of the scratch list to here belongs to the cohort at hand,
        last: and who is listed from there to here to the bench.
        num_up: how many of the former are on the bench.
        num_down: how many of the latter are in the cohort at hand.
    """
    take_out(requests, replica, integers, end, num_down)
    trade_places(replica, integers)
    take_out(requests, replica, integers, replica.scratch, num_up)
    put_in(requests, replica, integers, last, num_down)
    trade_places(replica, integers)
    put_in(requests, replica, integers, end, num_up)


@jit(forceinline=True)
def take_out(requests, replica, integers, first, count):
    """Take the first decodes, as many as count says, listed from first on who are in the cohort at hand out of it."""
    place = first
    while count > 0:
        i = integers[place]
        if requests[i].phase == DECODE and requests[i].cohort == replica.slot:
            leave_decodes(requests, replica, integers, i)
            requests[i].cohort = NONE
            count -= 1
        place += 1


@jit(forceinline=True)
def put_in(requests, replica, integers, last, count):
    """Let the last decodes, as many as count says, listed before last who are in no cohort enter the one at hand.

    The last come first: who leaves again soon is among the first, and is found at the end of the fresh decodes.
    """
    place = last
    while count > 0:
        place -= 1
        i = integers[place]
        if requests[i].phase == DECODE and requests[i].cohort == NONE:
            enter(requests, replica, integers, i)
            count -= 1


@jit(forceinline=True)
def enter(requests, replica, integers, i):
    """Let a decode that is in no cohort enter the one at hand."""
    enter_decodes(requests, replica, integers, i)
    add_fresh(replica, integers, i)
