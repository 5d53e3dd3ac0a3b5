"""The bench: decodes that are in no batch and step with no cohort until the next batch is formed.

A decode is benched where a batch goes without it (docs/policies.md: its micro-batch is full, or the pass over the
running requests ended before it), and where two cohorts are found idle at one time: the smaller is benched, and enters
the other. So what happens rarely is paid for per request, and the decodes at hand are always one cohort.
All functions modify their arguments in place; ``replica`` is one REPLICA record.
"""

from fastsim.kernel.cohorts import DECODES, slot_place, switch_cohort
from fastsim.kernel.jit import jit
from fastsim.kernel.running import add_fresh, enter_decodes, leave_decodes
from fastsim.kernel.state import DECODE, NONE


@jit()
def bench(requests, replica, integers, i):
    """Take decode i out of the cohort at hand and put it on the bench."""
    leave_decodes(requests, replica, integers, i)
    requests[i].cohort = NONE
    integers[replica.benched + replica.num_benched] = i
    replica.num_benched += 1


@jit()
def unbench(requests, replica, integers):
    """Let everybody on the bench step with the cohort at hand."""
    for k in range(replica.num_benched):
        i = integers[replica.benched + k]
        enter_decodes(requests, replica, integers, i)
        add_fresh(replica, integers, i)
    replica.num_benched = 0
    replica.asked = -1


@jit()
def bench_all(requests, replica, integers):
    """Bench the whole cohort at hand."""
    i = replica.running_head
    while replica.num_decodes > 0:
        if requests[i].phase == DECODE and requests[i].cohort == replica.slot:
            bench(requests, replica, integers, i)
        i = requests[i].next


@jit()
def unite(requests, replica, integers, slot):
    """Bench the smaller of two idle cohorts: the one at hand, and that in a slot; the larger is then at hand.

    Returns:
        The slot of the smaller, which is empty now.
    """
    large, small = replica.slot, slot
    if integers[slot_place(replica, slot) + DECODES] > replica.num_decodes:
        large, small = small, large
    else:
        switch_cohort(replica, integers, small)
    bench_all(requests, replica, integers)
    switch_cohort(replica, integers, large)
    return small
