"""Preempting running requests: what they leave behind, whether they decode, are being prefilled, or are in flight."""

import numpy as np

from fastsim.kernel.blocks import (
    blocks_of,
    chunk_blocks,
    decode_needs_block,
    full_blocks,
    held_blocks,
    whole_tokens,
    written_tokens,
)
from fastsim.kernel.cohorts import note_in_flight, switch_cohort
from fastsim.kernel.flights import note_late
from fastsim.kernel.jit import jit
from fastsim.kernel.notes import add_preempted, end_steps
from fastsim.kernel.prefix_cache import release
from fastsim.kernel.queues import push_waiting_front, remove_due, remove_running
from fastsim.kernel.radix_cache import drop_own
from fastsim.kernel.running import last_step, leave_decodes
from fastsim.kernel.state import DECODE, ENDING, PREFILL, SWAPPED, WAITING


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
        marked = full_blocks(request.computed + tokens - unmarked, replica)
        release(requests, replica, integers, i, held, marked)
    else:
        replica.free_blocks += held
    remove_running(requests, replica, i)
    request.phase = phase if replica.swaps else WAITING
    if replica.swaps:
        replica.swapped_blocks += blocks_of(request.computed, replica)
    else:
        request.computed = 0
    if replica.notes > 0:
        add_preempted(replica, integers, i, -replica.clock_s)
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
            if replica.notes > 0:
                end_steps(replica, integers, i)
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
