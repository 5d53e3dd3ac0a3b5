"""Batch policy of TensorRT-LLM (docs/policies.md): who may hold KV blocks, and who of these runs now.

Under ``guaranteed_no_evict`` a request is admitted when all blocks that it will ever need are free and not promised to
others: what the running ones still lack and what they hold are together what they will hold in the end, so
``running_blocks`` alone says what is promised. Under ``max_utilization`` blocks are given as they are needed, and a
shortage pauses the last started: as in `vllm_v1` that comes to pausing the last until the others' needs are met.
"""

import numpy as np

from fastsim.kernel.bench import bench, unbench
from fastsim.kernel.blocks import (
    blocks_of,
    blocks_to_decode,
    chunk_blocks,
    decode_needs_block,
    whole_tokens,
    within_block,
)
from fastsim.kernel.jit import jit
from fastsim.kernel.preemption import preempt
from fastsim.kernel.queues import comes_before
from fastsim.kernel.running import admit
from fastsim.kernel.state import DECODE, NONE, PRIORITY


@jit()
def schedule(requests, replica, integers):
    """Form the next batch: all decodes, then prefills within what they leave of max_num_batched_tokens.

    Returns:
        The number of tokens in the batch.
    """
    prefills = make_room(requests, replica, integers)
    left = replica.max_num_batched_tokens - replica.num_decodes
    left = continue_prefills(requests, replica, integers, left, prefills)
    if replica.preempted_now == 0:
        left = admit_waiting(requests, replica, integers, left)
    # What kept the head waiting keeps it so until something completes: blocks and budget do not come back before.
    replica.batch_may_change = replica.num_prefills + replica.preempted_now > 0
    return replica.max_num_batched_tokens - left


@jit()
def make_room(requests, replica, integers):
    """Take the blocks of the next decode step, pausing requests until there are enough.

    Decodes that are not in the batch are benched.

    Returns:
        How many of the prefills under way, in order of start, may run.
    """
    prefills = np.int64(replica.num_prefills)
    if replica.num_benched > 0:
        unbench(requests, replica, integers)
    needed = blocks_to_decode(replica, integers)
    idle = replica.num_decodes + replica.num_prefills
    if replica.num_stages > 1 or replica.queue_order == PRIORITY:
        sort_prefills(requests, replica, integers)
        if needed > replica.free_blocks or idle > replica.max_micro_batch:
            prefills = walk(requests, replica, integers)
            needed = blocks_to_decode(replica, integers)
    while needed > replica.free_blocks:
        needed -= preempt(requests, replica, integers, replica.running_tail)
    replica.free_blocks -= needed
    return min(prefills, replica.num_prefills)


@jit()
def sort_prefills(requests, replica, integers):
    """Bring the listed prefills into order of start, in which several stages do not leave them."""
    k = 0
    i = np.int64(replica.running_head)
    while k + 1 < replica.num_prefills:
        for prefill in range(replica.prefills + 2 * k, replica.prefills + 2 * replica.num_prefills, 2):
            if integers[prefill] == i:
                integers[prefill] = integers[replica.prefills + 2 * k]
                integers[replica.prefills + 2 * k] = i
                k += 1
                break
        i = np.int64(requests[i].next)


@jit()
def walk(requests, replica, integers):
    """Give the idle requests their places in order of start, pausing until each decode that has one finds a block.

    If one that lacks a block is paused itself, nobody who started after it runs.

    Returns:
        How many of the prefills under way, in order of start, may run.
    """
    while True:
        lacking, behind = first_without_block(requests, replica, integers)
        if lacking == NONE:
            return bench_from(requests, replica, integers, behind)
        paused = victim(requests, replica, integers)
        preempt(requests, replica, integers, paused)
        if paused == lacking:
            return bench_from(requests, replica, integers, behind)


@jit()
def first_without_block(requests, replica, integers):
    """The first idle decode that has a place in the batch but lacks a block, and who stands behind it.

    If there is none (NONE), the other is the first for whom the batch has no place.
    """
    free = replica.free_blocks
    places = replica.max_micro_batch
    i = np.int64(replica.running_head)
    while i != NONE:
        if is_idle(requests, replica, integers, i):
            if places == 0:
                return np.int64(NONE), i
            places -= 1
            if requests[i].phase == DECODE and decode_needs_block(replica, requests[i]):
                if free == 0:
                    return i, np.int64(requests[i].next)
                free -= 1
        i = np.int64(requests[i].next)
    return np.int64(NONE), np.int64(NONE)


@jit()
def is_idle(requests, replica, integers, i):
    """Whether running request i is not in flight."""
    if requests[i].phase == DECODE:
        return requests[i].cohort == replica.slot
    for prefill in range(replica.prefills, replica.prefills + 2 * replica.num_prefills, 2):
        if integers[prefill] == i:
            return True
    return False


@jit()
def victim(requests, replica, integers):
    """Of the idle requests the last started, or under priority the last in queue order; there must be one."""
    found = np.int64(NONE)
    i = np.int64(replica.running_tail)
    while i != NONE:
        if is_idle(requests, replica, integers, i):
            if replica.queue_order != PRIORITY:
                return i
            if found == NONE or comes_before(requests, found, i):
                found = i
        i = np.int64(requests[i].previous)
    return found


@jit()
def bench_from(requests, replica, integers, i):
    """Bench the idle decodes from request i on; returns how many of the listed prefills stand before it."""
    prefills = np.int64(replica.num_prefills)
    while i != NONE:
        following = np.int64(requests[i].next)
        if is_idle(requests, replica, integers, i):
            if requests[i].phase == DECODE:
                bench(requests, replica, integers, i)
            else:
                prefills -= 1
        i = following
    return prefills


@jit()
def continue_prefills(requests, replica, integers, left, num_prefills):
    """Give the first num_prefills prefills under way their chunks, in order of start; returns the budget left."""
    for k in range(replica.num_prefills):
        prefill = replica.prefills + 2 * k
        request = requests[integers[prefill]]
        chunk = cut(replica, request, left) if k < num_prefills else np.int64(0)
        integers[prefill + 1] = chunk
        replica.free_blocks -= chunk_blocks(replica, request, chunk)
        left -= chunk
    return left


@jit()
def admit_waiting(requests, replica, integers, left):
    """Admit from the head of the waiting queue while it fits, never past the head; returns the budget left."""
    members = replica.num_decodes
    for prefill in range(replica.prefills, replica.prefills + 2 * replica.num_prefills, 2):
        members += integers[prefill + 1] > 0
    while (
        replica.waiting_head != NONE
        and replica.num_running < replica.max_num_seqs
        and members < replica.max_micro_batch
    ):
        head = requests[replica.waiting_head]
        chunk = cut(replica, head, left)
        if chunk == 0 or not has_capacity(replica, head):
            break
        admit(requests, replica, integers, chunk)
        members += 1
        left -= chunk
    return left


@jit()
def has_capacity(replica, request):
    """Whether a waiting request can have its blocks: those of its whole life, or those of all its known tokens."""
    if replica.guaranteed_no_evict:
        return replica.running_blocks + blocks_of(whole_tokens(request), replica) <= replica.num_blocks
    return blocks_of(request.prompt_tokens + request.generated, replica) <= replica.free_blocks


@jit()
def cut(replica, request, left):
    """The next chunk of a prefill if the batch has so many tokens left: all it lacks, or some blocks, or 0."""
    missing = request.prompt_tokens + request.generated - request.computed
    if missing <= left:
        return missing
    if not replica.enable_chunked_prefill:
        return np.int64(0)
    return left - within_block(left, replica)
