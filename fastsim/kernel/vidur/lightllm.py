"""The batch policy of LightLLM: admission by the peak of the memory to come (docs/policies.md).

The scratch array holds pairs (decodes left, tokens held), sorted by the first, descending.
"""

from fastsim.kernel.jit import jit
from fastsim.kernel.vidur.lists import pop_first
from fastsim.kernel.vidur.members import admit, join, take
from fastsim.kernel.vidur.state import NONE, RUNNING, WAITING


@jit()
def schedule_lightllm(work, replica, batch):
    """Prefills alone when nobody runs or after so many decode batches, else all decodes.

    Returns:
        Whether decodes that must run find free tokens.
    """
    running = replica.lists + RUNNING
    nobody_runs = work.lists[running].length == 0
    if nobody_runs or replica.waiting_iterations >= replica.max_waiting_iterations:
        admit_under_peak(work, replica, batch)
        admitted = work.lists[batch.members].length > 0
        if admitted or not nobody_runs:
            replica.waiting_iterations = 0
        if admitted or nobody_runs:
            return True
    if replica.free_blocks < work.lists[running].length:
        return False
    while work.lists[running].length > 0:
        i = pop_first(work.requests, work.lists, running)
        take(replica, work.requests[i], 1)
        join(work, replica, batch, i, 1)
    replica.waiting_iterations += 1
    return True


@jit()
def admit_under_peak(work, replica, batch):
    """Admit whole prompts from the head of the queue while the limits hold and the peak stays below the pool."""
    waiting = replica.lists + WAITING
    num_loads = load_running(work, replica)
    while work.lists[waiting].length > 0:
        head = work.requests[work.lists[waiting].head]
        enter(work.scratch, num_loads, max(0, head.decode - 2), head.prefill + 1)
        num_loads += 1
        if (
            batch.num_tokens + head.prefill > replica.max_tokens
            or replica.holders == replica.max_holders
            or work.lists[batch.members].length == replica.max_micro_batch
            or peak(work.scratch, num_loads) >= replica.num_blocks
        ):
            break
        admit(work, replica, batch, head.prefill, head.prefill)


@jit()
def load_running(work, replica):
    """Enter every running request; returns how many there are."""
    num_loads = 0
    i = work.lists[replica.lists + RUNNING].head
    while i != NONE:
        request = work.requests[i]
        decoded = request.processed - request.prefill
        enter(work.scratch, num_loads, max(0, request.decode - decoded - 1), request.processed)
        num_loads += 1
        i = request.next
    return num_loads


@jit()
def enter(scratch, num_loads, left, held):
    """Enter a pair into the sorted list of num_loads pairs."""
    place = 2 * num_loads
    while place > 0 and scratch[place - 2] < left:
        scratch[place] = scratch[place - 2]
        scratch[place + 1] = scratch[place - 1]
        place -= 2
    scratch[place] = left
    scratch[place + 1] = held


@jit()
def peak(scratch, num_loads):
    """Most tokens held at a time: when the i-th longest-lived request ends, i others are left."""
    highest = 0
    held = 0
    for i in range(num_loads):
        held += scratch[2 * i + 1]
        highest = max(highest, scratch[2 * i] * (i + 1) + held)
    return highest
