"""Batches in flight under asynchronous scheduling: at most two, each with a *flight* in the integer pool.

A flight says when its batch ends, its members, its decodes and their step, and has two lists: the requests whose
prefill it completes, each with how often it had been preempted then, and those of its decodes that have been preempted
since.
"""

from fastsim.kernel.jit import jit

#: Places within a flight; the two lists come behind them, of two integers for each request and of one.
END_S, MEMBERS, DECODES, STEP, COMPLETE, LATE = range(6)
HEADER = 6


@jit()
def flight_size(max_num_seqs):
    """Integers of a flight."""
    return HEADER + 3 * max_num_seqs


@jit(forceinline=True)
def flight_at(replica, k):
    """Place of the flight that is the k-th to end, from 0."""
    return replica.flights + (replica.oldest + k) % 2 * flight_size(replica.max_num_seqs)


@jit(forceinline=True)
def complete_list(flight):
    """Where the list of requests begins whose prefill a flight completes."""
    return flight + HEADER


@jit(forceinline=True)
def late_list(replica, flight):
    """Where the list of its preempted decodes begins."""
    return flight + HEADER + 2 * replica.max_num_seqs


@jit()
def note_late(replica, integers, i):
    """Note in the one flight in flight that its decode i has been preempted."""
    flight = flight_at(replica, 0)
    integers[late_list(replica, flight) + integers[flight + LATE]] = i
    integers[flight + LATE] += 1
