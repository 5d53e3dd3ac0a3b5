"""The pass of vLLM's V1 scheduler over its running requests, request by request.

`fastsim.kernel.vllm_v1` needs it only where a shortage hits requests in the middle of the list or meets a prefix cache,
or a chunk may leave no budget for decodes behind it; docs/policies.md has the rules. The k-th request scheduled so far
is ``integers[replica.scratch + 2 k]``, and the next integer its tokens. All functions modify their arguments in place.
"""

import numpy as np

from fastsim.kernel.bench import bench
from fastsim.kernel.blocks import chunk_blocks, decode_needs_block
from fastsim.kernel.jit import jit
from fastsim.kernel.pieces import take_blocks
from fastsim.kernel.preemption import place_of_prefill, preempt
from fastsim.kernel.prefix_cache import mark
from fastsim.kernel.queues import comes_before
from fastsim.kernel.state import DECODE, ENDING, NONE, PREFILL, PRIORITY


@jit()
def schedule_in_order(requests, replica, integers):
    """Give running requests tokens and blocks in the order of the list; returns the budget left.

    Decodes that get nothing are benched.
    """
    for prefill in range(replica.prefills, replica.prefills + 2 * replica.num_prefills, 2):
        integers[prefill + 1] = 0
    budget = replica.max_num_batched_tokens
    scheduled = 0
    i = np.int64(replica.running_head)
    while i != NONE and budget > 0:
        tokens = min(asks(replica, requests[i]), budget)
        if tokens > 0:
            needed = blocks_for(replica, requests[i], tokens)
            while needed > replica.free_blocks:
                victim = victim_of(requests, replica)
                given_back, scheduled = give_up(requests, replica, integers, victim, scheduled)
                budget += given_back
                if victim == i:
                    bench_idle_after(requests, replica, integers, scheduled)
                    return budget
            put_in_batch(requests, replica, integers, i, tokens, scheduled)
            take_blocks(replica, integers, needed)
            if replica.has_names and requests[i].phase == PREFILL:
                mark(requests[i], replica, integers, requests[i].computed + tokens)
            budget -= tokens
            scheduled += 1
        i = np.int64(requests[i].next)
    bench_idle_after(requests, replica, integers, scheduled)
    return budget


@jit()
def asks(replica, request):
    """Tokens that a running request asks for; 0 for one whose next token is in flight, or its last one."""
    if request.phase == DECODE:
        return np.int64(1 if request.cohort == replica.slot else 0)
    if request.phase == ENDING:
        return np.int64(0)
    return wanted_chunk(replica, request)


@jit()
def wanted_chunk(replica, request):
    """Tokens that this request needs to catch up with what it knows, cut by the chunk threshold."""
    missing = np.int64(request.prompt_tokens + request.generated - request.computed)
    if replica.long_prefill_token_threshold > 0:
        return min(missing, replica.long_prefill_token_threshold)
    return missing


@jit()
def blocks_for(replica, request, tokens):
    """Blocks that a running request takes for its next tokens."""
    if request.phase == DECODE:
        return np.int64(decode_needs_block(replica, request))
    return chunk_blocks(replica, request, tokens)


@jit()
def victim_of(requests, replica):
    """The running request that a shortage hits: the last in queue order of classes, else the last admitted."""
    victim = np.int64(replica.running_tail)
    if replica.queue_order == PRIORITY:
        i = np.int64(requests[victim].previous)
        while i != NONE:
            if comes_before(requests, victim, i):
                victim = i
            i = np.int64(requests[i].previous)
    return victim


@jit()
def put_in_batch(requests, replica, integers, i, tokens, scheduled):
    """Note that request i is in the batch with these tokens."""
    integers[replica.scratch + 2 * scheduled] = i
    integers[replica.scratch + 2 * scheduled + 1] = tokens
    if requests[i].phase == PREFILL:
        integers[place_of_prefill(replica, integers, i) + 1] = tokens


@jit()
def give_up(requests, replica, integers, victim, scheduled):
    """Preempt a request; if it is in the batch already it is taken out.

    Returns:
        The tokens that it had in the batch, and how many requests are left in it.
    """
    tokens = np.int64(0)
    for k in range(scheduled):
        place = replica.scratch + 2 * k
        if integers[place] == victim:
            tokens = integers[place + 1]
            for later in range(place, replica.scratch + 2 * (scheduled - 1)):
                integers[later] = integers[later + 2]
            scheduled -= 1
            break
    preempt(requests, replica, integers, victim, tokens)
    return tokens, scheduled


@jit()
def bench_idle_after(requests, replica, integers, scheduled):
    """Bench the decodes at hand that are not among those scheduled."""
    k = 0
    i = np.int64(replica.running_head)
    while i != NONE:
        following = np.int64(requests[i].next)
        if k < scheduled and integers[replica.scratch + 2 * k] == i:
            k += 1
        elif requests[i].phase == DECODE and requests[i].cohort == replica.slot:
            bench(requests, replica, integers, i)
        i = following
