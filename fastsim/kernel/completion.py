"""Completing requests, and in which order they free their blocks."""

import numpy as np

from fastsim.kernel.blocks import blocks_of, count_crossing, full_blocks, held_blocks, whole_tokens
from fastsim.kernel.jit import jit
from fastsim.kernel.notes import end_steps
from fastsim.kernel.pieces import free_dead, free_dead_first
from fastsim.kernel.prefix_cache import release
from fastsim.kernel.queues import remove_running
from fastsim.kernel.radix_cache import leave_to_tree
from fastsim.kernel.skew import forget_origin
from fastsim.kernel.state import COMPLETED, NONE


@jit(forceinline=True)
def complete(requests, replica, integers, i, held):
    """Request i has its last token: free the blocks that it held."""
    if replica.has_names:
        # They free their blocks in the order of the batch, which is known when all are.
        integers[replica.scratch + replica.num_done] = i
        replica.num_done += 1
    else:
        remove_running(requests, replica, i)
        if replica.uncached_first:
            cached = full_blocks(whole_tokens(requests[np.uintp(i)]) - 1, replica)
            free_dead_first(replica, integers, held - cached)
            held = cached
        free_dead(replica, integers, held)
    count_completed(requests, replica, i)


@jit()
def settle(requests, replica, integers):
    """Let the requests that have completed in a batch free their blocks, in the order of the running list."""
    if replica.num_done == 1:
        free_completed(requests, replica, integers, integers[replica.scratch])
    else:
        i = np.int64(replica.running_head)
        while replica.num_done > 0:
            following = np.int64(requests[i].next)
            if requests[i].phase == COMPLETED:
                free_completed(requests, replica, integers, i)
            i = following


@jit()
def free_completed(requests, replica, integers, i):
    """Let a completed request leave the running list and free its blocks: all but its last token is written."""
    request = requests[i]
    remove_running(requests, replica, i)
    written = whole_tokens(request) - 1
    request.generated = request.output_tokens
    if replica.radix:
        leave_to_tree(requests, replica, integers, i, blocks_of(written, replica), full_blocks(written, replica))
    else:
        release(requests, replica, integers, i, blocks_of(written, replica), full_blocks(written, replica))
    replica.num_done -= 1


@jit(forceinline=True)
def count_completed(requests, replica, i):
    """Count request i as completed at the clock, and list it if its client waits for it."""
    request = requests[np.uintp(i)]
    replica.outstanding -= 1
    replica.outstanding_tokens -= whole_tokens(request)
    replica.completed += 1
    replica.progress_iteration = replica.iteration
    request.phase = COMPLETED
    request.completed_s = replica.clock_s
    if replica.tells_completed:
        request.due_previous = replica.completed_head
        replica.completed_head = i


@jit()
def complete_due(requests, replica, integers, step):
    """Complete the decodes whose last token came with this decode step; ``replica.step`` is the next one already."""
    slot = np.uintp(replica.calendar + (step & replica.calendar_mask))
    i = integers[slot]
    integers[slot] = NONE
    while i != NONE:
        request = requests[np.uintp(i)]
        if replica.has_skew:
            forget_origin(replica, request.origin)
        if replica.notes > 0:
            end_steps(replica, integers, i)
        replica.num_decodes -= 1
        replica.decode_kv -= replica.step - request.origin
        count_crossing(replica, integers, request.origin, -1)
        complete(requests, replica, integers, i, held_blocks(replica, request))
        i = request.due_next
