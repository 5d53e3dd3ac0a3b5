"""Batch policy of vLLM's V1 engine (vllm/v1/core/sched/scheduler.py).

Running requests first, in order of admission, then the waiting queue, first come first served. There is no prefill
phase and no decode phase: each request catches up with the tokens it knows, within one token budget. A running request
that cannot get its blocks preempts the last admitted one; a waiting one never preempts.
"""

import numpy as np

from fastsim.kernel.blocks import blocks_of, blocks_to_decode, chunk_blocks
from fastsim.kernel.jit import jit
from fastsim.kernel.pieces import take_blocks
from fastsim.kernel.preemption import preempt
from fastsim.kernel.prefix_cache import find, mark
from fastsim.kernel.running import admit, resume
from fastsim.kernel.state import NONE, PRIORITY, SWAPPED
from fastsim.kernel.vllm_v1_walk import schedule_in_order, wanted_chunk


@jit()
def schedule(requests, replica, integers):
    """Form the batch of the next iteration at ``replica.clock_s``; all modified in place.

    Every decode is in the batch, and every prefill with a chunk. Blocks are taken here.

    Returns:
        The number of tokens in the batch.
    """
    budget = schedule_running(requests, replica, integers)
    if replica.preempted_now == 0:
        budget = admit_waiting(requests, replica, integers, budget)
    # Without chunks and preemptions the same decodes go on, and what blocks the waiting queue's head still blocks it.
    replica.batch_may_change = replica.num_prefills + replica.preempted_now + replica.retry_head > 0
    return replica.max_num_batched_tokens - budget


@jit(forceinline=True)
def schedule_running(requests, replica, integers):
    """Give every running request its tokens and blocks, preempting from the end of the list; returns the budget left.

    The engine walks the list in order, and preempts the last request whenever the current one lacks a block. As a
    victim stands behind everything scheduled so far, that comes to: preempt the last until the others' needs are met.
    Where victims stand elsewhere, or the budget may end before a decode, the list is walked as the engine does. So it
    is where a prefix cache makes a difference between blocks taken before a victim has freed its own, and after.
    """
    budget = replica.max_num_batched_tokens - replica.num_decodes
    needed = blocks_to_decode(replica, integers)
    is_cut = False
    for prefill in range(replica.prefills, replica.prefills + 2 * replica.num_prefills, 2):
        request = requests[np.uintp(integers[np.uintp(prefill)])]
        wanted = wanted_chunk(replica, request)
        chunk = min(wanted, budget)
        is_cut = is_cut or chunk < wanted
        integers[np.uintp(prefill + 1)] = chunk
        budget -= chunk
        needed += chunk_blocks(replica, request, chunk)
    order_counts = replica.queue_order == PRIORITY or replica.has_names or (replica.uncached_first and replica.caching)
    if needed > replica.free_blocks and order_counts:
        return schedule_in_order(requests, replica, integers)
    if is_cut and may_cut_decodes(replica, integers):
        return schedule_in_order(requests, replica, integers)
    while needed > replica.free_blocks:
        needed -= preempt(requests, replica, integers, replica.running_tail)
    take_blocks(replica, integers, needed)
    if replica.has_names:
        mark_chunks(requests, replica, integers)
    return budget


@jit()
def mark_chunks(requests, replica, integers):
    """Let others find the blocks that the chunks of the batch being formed will fill."""
    for prefill in range(replica.prefills, replica.prefills + 2 * replica.num_prefills, 2):
        request = requests[integers[prefill]]
        mark(request, replica, integers, request.computed + integers[prefill + 1])


@jit()
def may_cut_decodes(replica, integers):
    """Whether a budget that cuts a chunk may have nothing left for a decode behind it.

    With one stage it cannot: what a request asks for (the threshold, the rest of its prompt, then one) never grows, all
    running requests ask every time, and nothing is admitted behind a request that got less than it asked for.
    """
    return replica.num_stages > 1 and integers[replica.prefills] != replica.running_tail


@jit(forceinline=True)
def admit_waiting(requests, replica, integers, budget):
    """Admit from the head of the waiting queue while it fits, never past the head; returns the budget left."""
    replica.retry_head = 0
    while replica.waiting_head != NONE and budget > 0 and replica.num_running < replica.max_num_seqs:
        request = requests[np.uintp(replica.waiting_head)]
        if request.token_in_flight:
            break
        found = idle = np.int64(0)
        if replica.caching:
            found, idle = find(requests, replica, integers, replica.waiting_head)
            request.computed = found * replica.block_size
        chunk = wanted_chunk(replica, request)
        if chunk > budget and not replica.enable_chunked_prefill:
            break
        chunk = min(chunk, budget)
        known = request.prompt_tokens + request.generated
        # A block found that nobody uses is no longer free when it is touched.
        free = replica.free_blocks + found - idle
        if replica.scheduler_reserve_full_isl and blocks_of(known, replica) > free:
            break
        if blocks_of(request.computed + chunk, replica) > free:
            replica.retry_head = idle > 0
            break
        if request.phase == SWAPPED:
            resume(requests, replica, integers)
        else:
            admit(requests, replica, integers, chunk)
        budget -= chunk
    return budget
