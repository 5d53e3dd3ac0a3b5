"""What happens to a running request, and the sums over the decodes that each of these steps keeps true.

Iterations in which the decodes run are *decode steps*; a policy may let them stall. A decode is never touched from when
it joins until it completes: its context is ``step - origin``, its last step is known when it joins, and its replica
carries the number of decodes and the sum of their contexts.
Running prefills are few; they are listed, in order of admission, with their chunk of the batch being formed:
``integers[replica.prefills + 2 * k]`` is the request and the next integer its chunk. With pipeline stages the decodes
at hand are one cohort of several (`fastsim.kernel.cohorts`), and only prefills with tokens in no batch yet are listed.
All functions modify their arguments in place; ``replica`` is one REPLICA record.
"""

import numpy as np

from fastsim.kernel.blocks import (
    blocks_of,
    chunk_blocks,
    count_crossing,
    decode_needs_block,
    first_blocks,
    held_blocks,
    whole_tokens,
    written_tokens,
)
from fastsim.kernel.cohorts import note_in_flight, switch_cohort
from fastsim.kernel.flights import note_late
from fastsim.kernel.jit import jit
from fastsim.kernel.pieces import free_dead, free_dead_first, take_blocks
from fastsim.kernel.prefix_cache import hold_found, mark, release
from fastsim.kernel.queues import (
    append_running,
    insert_due,
    pop_waiting,
    push_waiting_front,
    remove_due,
    remove_running,
)
from fastsim.kernel.radix_cache import drop_own, leave_to_tree
from fastsim.kernel.skew import forget_origin, note_origin
from fastsim.kernel.state import COMPLETED, DECODE, ENDING, NONE, PREFILL, SWAPPED, WAITING


@jit(forceinline=True)
def admit(requests, replica, integers, num_tokens):
    """Move the head of the waiting queue to the end of the running list, with a first chunk of num_tokens.

    Where its KV was swapped out, what it had computed is copied in. With a prefix cache its computed tokens are those
    that have just been found: by `fastsim.kernel.prefix_cache.find`, or in the radix tree, where it holds them.
    """
    i = pop_waiting(requests, replica)
    request = requests[i]
    append_running(requests, replica, i)
    request.phase = PREFILL
    if not request.scheduled_s >= 0.0:
        request.scheduled_s = replica.clock_s
        request.cached_tokens = request.computed
    if replica.caching:
        if replica.radix:
            held = np.int64(request.num_listed)
        else:
            held = hold_found(requests, replica, integers, i) if replica.num_found > 0 else np.int64(0)
        take_blocks(replica, integers, blocks_of(request.computed + num_tokens, replica) - held)
        if replica.has_names and not replica.radix:
            mark(request, replica, integers, request.computed + num_tokens)
    else:
        if request.computed > 0:
            replica.swapped_blocks += blocks_of(request.computed, replica)
        replica.free_blocks -= first_blocks(replica, request, num_tokens)
    prefill = replica.prefills + 2 * replica.num_prefills
    integers[prefill] = i
    integers[prefill + 1] = num_tokens
    replica.num_prefills += 1


@jit()
def resume(requests, replica, integers):
    """Let the head of the waiting queue, a decode that was swapped out, decode again in the batch being formed."""
    i = pop_waiting(requests, replica)
    request = requests[i]
    append_running(requests, replica, i)
    replica.swapped_blocks += blocks_of(request.computed, replica)
    replica.free_blocks -= blocks_of(request.prompt_tokens + request.generated, replica)
    enter_decodes(requests, replica, integers, i)
    add_fresh(replica, integers, i)


@jit(forceinline=True)
def join_decodes(requests, replica, integers, i):
    """Let request i, which has just had a token, decode from the decode step ``replica.step`` on."""
    requests[i].last_token_s = replica.clock_s
    enter_decodes(requests, replica, integers, i)
    if replica.last_step_end_s != replica.clock_s:
        add_fresh(replica, integers, i)


@jit(forceinline=True)
def enter_decodes(requests, replica, integers, i):
    """Count request i among the decodes from the decode step ``replica.step`` on."""
    request = requests[i]
    context = request.prompt_tokens + request.generated
    request.phase = DECODE
    request.cohort = replica.slot
    request.origin = replica.step - context
    if replica.has_skew:
        note_origin(replica, request.origin)
    replica.num_decodes += 1
    replica.decode_kv += context
    count_crossing(replica, integers, request.origin, 1)
    insert_due(requests, replica, integers, i, last_step(request))


@jit()
def add_fresh(replica, integers, i):
    """Remember that the last token of request i is not that of the decodes' last step."""
    integers[replica.fresh + replica.num_fresh] = i
    replica.num_fresh += 1


@jit()
def forget_fresh(replica, integers, i):
    """Strike request i off the fresh decodes; returns whether it was one."""
    last = replica.fresh + replica.num_fresh - 1
    for place in range(last, replica.fresh - 1, -1):
        if integers[place] == i:
            integers[place] = integers[last]
            replica.num_fresh -= 1
            return True
    return False


@jit(forceinline=True)
def leave_decodes(requests, replica, integers, i):
    """Take request i out of the decodes, remembering how far it came."""
    request = requests[i]
    context = replica.step - request.origin
    remove_due(requests, replica, integers, i, last_step(request))
    has_stepped = context > request.prompt_tokens + request.generated
    request.generated = context - request.prompt_tokens
    if has_stepped or not forget_fresh(replica, integers, i):
        request.last_token_s = replica.last_step_end_s
    if replica.has_skew:
        forget_origin(replica, request.origin)
    replica.num_decodes -= 1
    replica.decode_kv -= context
    count_crossing(replica, integers, request.origin, -1)


@jit()
def last_step(request):
    """Decode step at the end of which this decode completes."""
    return request.origin + request.prompt_tokens + request.output_tokens - 1


@jit()
def preempt(requests, replica, integers, i, tokens=0):
    """Preempt running request i: it gives its blocks back and returns to the front of the waiting queue.

    Args:
        requests: REQUEST records.
        replica: its REPLICA record.
        integers: the pool.
        i: the request.
        tokens: those for which it has taken blocks in the batch being formed.

    Returns:
        The blocks that it needed for the batch being formed.
    """
    needed = stop_running(requests, replica, integers, i, tokens)
    push_waiting_front(requests, replica, i)
    return needed


@jit()
def stop_running(requests, replica, integers, i, tokens=0):
    """Let running request i give its blocks back; whoever calls this puts it into the waiting queue; see `preempt`.

    Returns:
        The blocks that it needed for the batch being formed.
    """
    request = requests[i]
    phase = WAITING
    needed = np.int64(0)
    unmarked = np.int64(0)
    if replica.async_scheduling and request.phase != PREFILL:
        held, needed, unmarked = stop_ahead(requests, replica, integers, i)
    elif request.phase == DECODE and request.cohort != replica.slot:
        held, phase = preempt_decode_in_flight(requests, replica, integers, i), SWAPPED
    elif request.phase == DECODE:
        held, phase = held_blocks(replica, request), SWAPPED
        needed = np.int64(decode_needs_block(replica, request))
        request.computed = written_tokens(replica, request)
        leave_decodes(requests, replica, integers, i)
    elif request.computed == request.prompt_tokens + request.generated:
        held, phase = held_blocks(replica, request), SWAPPED
        request.token_in_flight = 1
    else:
        held = held_blocks(replica, request)
        needed = chunk_blocks(replica, request, unlist_prefill(replica, integers, i))
    if tokens > 0:
        held += needed
    if replica.caching and replica.radix:
        drop_own(request, replica, integers, held)
    elif replica.caching:
        # The engine marks the blocks that decodes fill a token late.
        marked = (request.computed + tokens - unmarked) // replica.block_size
        release(requests, replica, integers, i, held, marked)
    else:
        replica.free_blocks += held
    remove_running(requests, replica, i)
    request.phase = phase if replica.swaps else WAITING
    if replica.swaps:
        replica.swapped_blocks += blocks_of(request.computed, replica)
    else:
        request.computed = 0
    request.preemptions += 1
    replica.preemptions += 1
    replica.preempted_now += 1
    return needed


@jit()
def stop_ahead(requests, replica, integers, i):
    """Take request i, which decodes or is ending, out of what is scheduled ahead; a token in flight is still delivered.

    Returns:
        The blocks it held, those it needed for the batch being formed, and how many of its tokens are not marked.
    """
    request = requests[i]
    in_flight = np.int64(replica.in_flight)
    needed = np.int64(0)
    last_token_s = request.last_token_s
    if request.phase == ENDING:
        has_decoded = request.generated < request.output_tokens
        if has_decoded:
            remove_due(requests, replica, integers, i, last_step(request))
        request.generated = request.output_tokens
        request.computed = whole_tokens(request) - 1
    else:
        request.computed = written_tokens(replica, request)
        has_decoded = request.computed >= request.prompt_tokens + request.generated
        needed = np.int64(decode_needs_block(replica, request))
        leave_decodes(requests, replica, integers, i)
    request.generated -= in_flight
    request.token_in_flight = in_flight
    request.last_token_s = replica.last_step_end_s
    if not has_decoded and in_flight:
        request.last_token_s = last_token_s  # it has had none since it was admitted
    if has_decoded and in_flight:
        note_late(replica, integers, i)
    return blocks_of(request.computed, replica), needed, in_flight * has_decoded


@jit()
def preempt_decode_in_flight(requests, replica, integers, i):
    """Take decode i out of a cohort in flight, whose batch will still deliver its token; returns the blocks it held."""
    request = requests[i]
    mine = replica.slot
    switch_cohort(replica, integers, np.int64(request.cohort))
    request.computed = replica.step - request.origin
    leave_decodes(requests, replica, integers, i)
    note_in_flight(replica, integers, i, request.preemptions, 1)
    switch_cohort(replica, integers, mine)
    request.token_in_flight = 1
    return blocks_of(request.computed, replica)


@jit()
def place_of_prefill(replica, integers, i):
    """Where in the integer pool request i is listed among the prefills; its chunk comes behind it."""
    place = replica.prefills + 2 * (replica.num_prefills - 1)
    while integers[place] != i:
        place -= 2
    return place


@jit()
def unlist_prefill(replica, integers, i):
    """Strike request i off the listed prefills; returns its chunk."""
    place = place_of_prefill(replica, integers, i)
    chunk = integers[place + 1]
    replica.num_prefills -= 1
    for k in range(place, replica.prefills + 2 * replica.num_prefills):
        integers[k] = integers[k + 2]
    return chunk


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
            cached = (whole_tokens(requests[i]) - 1) // replica.block_size
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
        leave_to_tree(requests, replica, integers, i, blocks_of(written, replica), written // replica.block_size)
    else:
        release(requests, replica, integers, i, blocks_of(written, replica), written // replica.block_size)
    replica.num_done -= 1


@jit(forceinline=True)
def count_completed(requests, replica, i):
    """Count request i as completed at the clock, and list it if its client waits for it."""
    request = requests[i]
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
    slot = replica.calendar + (step & replica.calendar_mask)
    i = integers[slot]
    integers[slot] = NONE
    while i != NONE:
        request = requests[i]
        if replica.has_skew:
            forget_origin(replica, request.origin)
        replica.num_decodes -= 1
        replica.decode_kv -= replica.step - request.origin
        count_crossing(replica, integers, request.origin, -1)
        complete(requests, replica, integers, i, held_blocks(replica, request))
        i = request.due_next
