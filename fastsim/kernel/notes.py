"""What is noted of each request under ``record_metrics``: for how long it was preempted, and its longest gap.

``integers[replica.notes]`` begins a few integers for each request; the place is 0 where nothing is recorded. Most gaps
are those of decode steps, which all decodes of a cohort share. Its slot has a *stack* of them, (decode step, gap), the
later the smaller: a gap that is followed by a larger one is nobody's longest any more. When a request leaves the
decodes it looks up the largest one since its first step, by bisection. While nobody comes or goes the largest gap is
kept in the record alone (``gap_s``), so a leap costs one comparison per iteration. Entries older than the longest
output are dropped, so the stack is a ring as long as the calendar.
"""

import numpy as np

from fastsim.kernel.jit import bits_float, float_bits, jit

#: Of a request: time between preemptions and being scheduled again [s], longest gap so far [s], decode step of the
#: first gap that it shares with its cohort, its REPLICA record, how much of the first was before its first token [s].
PREEMPTED_S, WORST_TBT_S, FIRST_STEP, ENGINE, PREEMPTED_PREFILL_S = range(5)
SIZE = 5
#: Places within a stack: numbers of its first entry and of the one behind its last, which only ever grow with it.
BOTTOM, TOP = range(2)
STACK_HEADER = 2


@jit()
def add_preempted(replica, integers, i, seconds):
    """Add to the time that request i was preempted for: the clock when that ends, and its negative when it begins."""
    place = replica.notes + SIZE * i + PREEMPTED_S
    integers[place] = float_bits(bits_float(integers[place]) + seconds)


@jit()
def end_preemption(requests, replica, integers, i):
    """Request i, which was preempted, is scheduled again at the clock."""
    add_preempted(replica, integers, i, replica.clock_s)
    if not requests[i].first_token_s >= 0.0:
        place = replica.notes + SIZE * i
        integers[place + PREEMPTED_PREFILL_S] = integers[place + PREEMPTED_S]


@jit()
def note_gap(replica, integers, i, gap_s):
    """Note a time between tokens of request i."""
    place = np.uintp(replica.notes + SIZE * i + WORST_TBT_S)
    if gap_s > bits_float(integers[place]):
        integers[place] = float_bits(gap_s)


@jit()
def begin_steps(replica, integers, i, step):
    """Let request i share the gaps of its cohort from a decode step on."""
    settle_gap(replica, integers)
    integers[np.uintp(replica.notes + SIZE * i + FIRST_STEP)] = step


@jit()
def end_steps(replica, integers, i):
    """Note the longest gap that request i has shared with its cohort, that at hand."""
    settle_gap(replica, integers)
    first_step = integers[np.uintp(replica.notes + SIZE * i + FIRST_STEP)]
    note_gap(replica, integers, i, longest_since(replica, integers, first_step))


@jit()
def settle_gap(replica, integers):
    """Put the largest gap since somebody last came or went on the stack; ``replica.step`` is the step after it."""
    if replica.gap_s > 0.0:
        push_gap(replica, integers, replica.step - 1, replica.gap_s)
        replica.gap_s = 0.0


@jit()
def push_gap(replica, integers, step, gap_s):
    """Put the gap of a decode step on the stack of the cohort at hand."""
    stack = replica.stack
    bottom, top = integers[np.uintp(stack + BOTTOM)], integers[np.uintp(stack + TOP)]
    while top > bottom and gap_of(replica, integers, top - 1) <= gap_s:
        top -= 1
    while top > bottom and integers[entry(replica, bottom)] < step - replica.calendar_mask:
        bottom += 1
    integers[entry(replica, top)] = step
    integers[entry(replica, top, 1)] = float_bits(gap_s)
    integers[np.uintp(stack + BOTTOM)], integers[np.uintp(stack + TOP)] = bottom, top + 1


@jit()
def longest_since(replica, integers, step):
    """The largest gap on the stack from a decode step on, 0 if there is none [s]."""
    first, last = integers[np.uintp(replica.stack + BOTTOM)], integers[np.uintp(replica.stack + TOP)]
    top = last
    while first < last:
        middle = (first + last) >> 1
        if integers[entry(replica, middle)] < step:
            first = middle + 1
        else:
            last = middle
    return gap_of(replica, integers, first) if first < top else 0.0


@jit()
def gap_of(replica, integers, number):
    """The gap in an entry of the stack at hand [s]."""
    return bits_float(integers[entry(replica, number, 1)])


@jit()
def entry(replica, number, part=0):
    """Place of an entry of the stack at hand: its decode step is part 0, its gap part 1."""
    return np.uintp(replica.stack + STACK_HEADER + 2 * (number & replica.calendar_mask) + part)
