"""Asynchronous scheduling: what happens when the oldest batch in flight has been processed."""

import numpy as np

from fastsim.kernel.blocks import blocks_of, whole_tokens
from fastsim.kernel.completion import complete, settle
from fastsim.kernel.flights import COMPLETE, DECODES, END_S, LATE, MEMBERS, STEP, complete_list, flight_at, late_list
from fastsim.kernel.iteration import count_gap, count_own_gap
from fastsim.kernel.jit import bits_float, jit
from fastsim.kernel.landing import deliver_late
from fastsim.kernel.notes import end_steps, push_gap
from fastsim.kernel.series import pass_clock
from fastsim.kernel.state import ENDING, NONE


@jit(forceinline=True)
def await_oldest(replica, integers):
    """Note when the oldest flight will have been processed."""
    flight = flight_at(replica, 0)
    end_s = max(replica.clock_s, bits_float(integers[flight + END_S]))
    replica.next_end_s = end_s + (replica.process_s + replica.process_s_per_request * integers[flight + MEMBERS])


@jit(forceinline=True)
def process_decodes(replica, integers, flight):
    """Let the oldest flight have been processed, of decodes none of which has its last token, or a part of a prompt."""
    if replica.next_end_s >= replica.next_edge_s:
        pass_clock(replica, integers, replica.next_end_s, 0)
    replica.block_seconds += (replica.num_blocks - replica.free_blocks) * (replica.next_end_s - replica.clock_s)
    replica.clock_s = replica.next_end_s
    gap_s = replica.clock_s - replica.last_step_end_s
    decodes = integers[flight + DECODES]
    count_gap(replica, integers, gap_s, decodes)
    if replica.notes > 0 and decodes > 0:
        push_gap(replica, integers, integers[flight + STEP], gap_s)
    replica.last_step_end_s = replica.clock_s
    replica.oldest = 1 - replica.oldest
    replica.in_flight = 1
    await_oldest(replica, integers)


@jit()
def process_oldest(requests, replica, integers):
    """Let the oldest flight have been processed: its requests have their tokens."""
    flight = flight_at(replica, 0)
    used = replica.num_blocks - replica.free_blocks
    if replica.next_end_s >= replica.next_edge_s:
        pass_clock(replica, integers, replica.next_end_s, 0)
    replica.block_seconds += used * (replica.next_end_s - replica.clock_s)
    replica.clock_s = replica.next_end_s
    decodes = integers[flight + DECODES]
    gap_s = replica.clock_s - replica.last_step_end_s
    if decodes > integers[flight + LATE]:
        count_gap(replica, integers, gap_s, decodes - integers[flight + LATE])
        if replica.notes > 0:
            push_gap(replica, integers, integers[flight + STEP], gap_s)
    if decodes > 0:
        step = integers[flight + STEP]
        if integers[replica.calendar + (step & replica.calendar_mask)] != NONE:
            replica.batch_may_change = 1
            complete_ending(requests, replica, integers, step)
    if integers[flight + COMPLETE] + integers[flight + LATE] > 0:
        deliver_first(requests, replica, integers, flight)
    replica.last_step_end_s = replica.clock_s
    if replica.num_done > 0:
        settle(requests, replica, integers)
    replica.oldest = 1 - replica.oldest
    replica.in_flight -= 1
    if replica.in_flight > 0:
        await_oldest(replica, integers)


@jit()
def complete_ending(requests, replica, integers, step):
    """Complete the requests whose last token came with this decode step."""
    slot = replica.calendar + (step & replica.calendar_mask)
    i = integers[slot]
    integers[slot] = NONE
    while i != NONE:
        if replica.notes > 0:
            end_steps(replica, integers, i)
        complete(requests, replica, integers, i, blocks_of(whole_tokens(requests[i]) - 1, replica))
        i = np.int64(requests[i].due_next)


@jit()
def deliver_first(requests, replica, integers, flight):
    """Deliver the tokens of completed prefills, and of requests that have been preempted since."""
    place = complete_list(flight)
    for _ in range(integers[flight + COMPLETE]):
        i = integers[place]
        request = requests[i]
        if request.preemptions != integers[place + 1]:
            deliver_late(requests, replica, integers, i)
            replica.batch_may_change = 1
        else:
            if request.generated == 1:
                request.first_token_s = replica.clock_s
            else:
                count_own_gap(replica, integers, i, replica.clock_s - request.last_token_s)
            if request.phase == ENDING and request.generated == request.output_tokens:
                replica.batch_may_change = 1
                complete(requests, replica, integers, i, blocks_of(request.computed, replica))
        place += 2
    place = late_list(replica, flight)
    for k in range(integers[flight + LATE]):
        deliver_late(requests, replica, integers, integers[place + k])
        replica.batch_may_change = 1
