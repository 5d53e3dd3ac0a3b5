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

from fastsim.kernel.blocks import blocks_of, count_crossing, first_blocks
from fastsim.kernel.jit import jit
from fastsim.kernel.notes import begin_steps, end_preemption, end_steps
from fastsim.kernel.pieces import take_blocks
from fastsim.kernel.prefix_cache import hold_found, mark
from fastsim.kernel.queues import append_running, insert_due, pop_waiting, remove_due
from fastsim.kernel.skew import forget_origin, note_origin
from fastsim.kernel.state import DECODE, PREFILL


@jit(forceinline=True)
def admit(requests, replica, integers, num_tokens):
    """Move the head of the waiting queue to the end of the running list, with a first chunk of num_tokens.

    Where its KV was swapped out, what it had computed is copied in. With a prefix cache its computed tokens are those
    that have just been found: by `fastsim.kernel.prefix_cache.find`, or in the radix tree, where it holds them.
    """
    i = pop_waiting(requests, replica)
    request = requests[np.uintp(i)]
    append_running(requests, replica, i)
    request.phase = PREFILL
    if replica.notes > 0 and request.preemptions > 0:
        end_preemption(requests, replica, integers, i)
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
    integers[np.uintp(prefill)] = i
    integers[np.uintp(prefill + 1)] = num_tokens
    replica.num_prefills += 1


@jit()
def resume(requests, replica, integers):
    """Let the head of the waiting queue, a decode that was swapped out, decode again in the batch being formed."""
    i = pop_waiting(requests, replica)
    request = requests[i]
    append_running(requests, replica, i)
    if replica.notes > 0:
        end_preemption(requests, replica, integers, i)
    replica.swapped_blocks += blocks_of(request.computed, replica)
    replica.free_blocks -= blocks_of(request.prompt_tokens + request.generated, replica)
    enter_decodes(requests, replica, integers, i)
    add_fresh(replica, integers, i)
    replica.changes += 1  # whoever stood behind it may be admitted by a cohort that has no place for it


@jit(forceinline=True)
def join_decodes(requests, replica, integers, i):
    """Let request i, which has just had a token, decode from the decode step ``replica.step`` on."""
    requests[np.uintp(i)].last_token_s = replica.clock_s
    enter_decodes(requests, replica, integers, i)
    if replica.last_step_end_s != replica.clock_s:
        add_fresh(replica, integers, i)


@jit(forceinline=True)
def enter_decodes(requests, replica, integers, i):
    """Count request i among the decodes from the decode step ``replica.step`` on."""
    request = requests[np.uintp(i)]
    context = request.prompt_tokens + request.generated
    request.phase = DECODE
    request.cohort = replica.slot
    request.origin = replica.step - context
    if replica.notes > 0:
        begin_steps(replica, integers, i, replica.step)
    if replica.has_skew:
        note_origin(replica, request.origin)
    replica.num_decodes += 1
    replica.decode_kv += context
    count_crossing(replica, integers, request.origin, 1)
    insert_due(requests, replica, integers, i, last_step(request))


@jit()
def add_fresh(replica, integers, i):
    """Remember that the last token of request i is not that of the decodes' last step."""
    integers[np.uintp(replica.fresh + replica.num_fresh)] = i
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
    if replica.notes > 0:
        end_steps(replica, integers, i)
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
