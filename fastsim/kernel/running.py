"""What happens to a running request, and the sums over the decodes that each of these steps keeps true.

Iterations in which the decodes run are *decode steps*; a policy may let them stall. A decode is never touched from when
it joins until it completes: its context is ``step - origin``, its last step is known when it joins, and its replica
carries the number of decodes and the sum of their contexts.
Running prefills are few; they are listed, in order of admission, with their chunk of the batch being formed:
``integers[replica.prefills + 2 * k]`` is the request and the next integer its chunk.
All functions modify their arguments in place; ``replica`` is one REPLICA record.
"""

import numpy as np

from fastsim.kernel.blocks import chunk_blocks, count_crossing, decode_needs_block, first_blocks, held_blocks
from fastsim.kernel.jit import jit
from fastsim.kernel.queues import (
    append_running,
    insert_due,
    pop_waiting,
    push_waiting_front,
    remove_due,
    remove_running,
)
from fastsim.kernel.state import COMPLETED, DECODE, NONE, PREFILL, RESTING, WAITING


@jit()
def admit(requests, replica, integers, num_tokens):
    """Move the head of the waiting queue to the end of the running list, with a first chunk of num_tokens."""
    i = pop_waiting(requests, replica)
    request = requests[i]
    append_running(requests, replica, i)
    request.phase = PREFILL
    if not request.scheduled_s >= 0.0:
        request.scheduled_s = replica.clock_s
    request.computed = 0
    replica.free_blocks -= first_blocks(replica, request, num_tokens)
    prefill = replica.prefills + 2 * replica.num_prefills
    integers[prefill] = i
    integers[prefill + 1] = num_tokens
    replica.num_prefills += 1


@jit()
def join_decodes(requests, replica, integers, i):
    """Let request i, which has just had a token, decode from the decode step ``replica.step`` on."""
    requests[i].last_token_s = replica.clock_s
    enter_decodes(requests, replica, integers, i)
    if not replica.decodes_run:
        list_fresh(replica, integers, i)


@jit()
def enter_decodes(requests, replica, integers, i):
    """Count request i among the decodes from the decode step ``replica.step`` on."""
    request = requests[i]
    context = request.prompt_tokens + request.generated
    request.phase = DECODE
    request.origin = replica.step - context
    replica.num_decodes += 1
    replica.decode_kv += context
    count_crossing(replica, integers, request.origin, 1)
    insert_due(requests, replica, integers, i, last_step(request))


@jit()
def list_fresh(replica, integers, i):
    """List a decode whose last token came before, or after, the end of the last decode step."""
    integers[replica.fresh + replica.num_fresh] = i
    replica.num_fresh += 1


@jit()
def rest(requests, replica, integers, i):
    """Leave decode i out of the batch being formed; it keeps its blocks."""
    leave_decodes(requests, replica, integers, i)
    requests[i].phase = RESTING
    replica.num_resting += 1


@jit()
def end_rest(requests, replica, integers):
    """Let those decode again that the batch before left out."""
    i = replica.running_head
    while replica.num_resting > 0:
        if requests[i].phase == RESTING:
            enter_decodes(requests, replica, integers, i)
            list_fresh(replica, integers, i)
            replica.num_resting -= 1
        i = requests[i].next


@jit()
def leave_decodes(requests, replica, integers, i):
    """Take request i out of the decodes before a decode step, remembering how far it came."""
    request = requests[i]
    context = replica.step - request.origin
    remove_due(requests, replica, integers, i, last_step(request))
    request.generated = context - request.prompt_tokens
    request.last_token_s = max(request.last_token_s, replica.last_step_end_s)
    replica.num_decodes -= 1
    replica.decode_kv -= context
    count_crossing(replica, integers, request.origin, -1)
    strike_fresh(replica, integers, i)


@jit()
def strike_fresh(replica, integers, i):
    """Strike request i off the fresh decodes, if it is one; the order of the rest says nothing."""
    last = replica.fresh + replica.num_fresh - 1
    for place in range(last, replica.fresh - 1, -1):
        if integers[place] == i:
            integers[place] = integers[last]
            replica.num_fresh -= 1
            return


@jit()
def last_step(request):
    """Decode step at the end of which this decode completes."""
    return request.origin + request.prompt_tokens + request.output_tokens - 1


@jit()
def preempt_last(requests, replica, integers):
    """Recompute preemption of the last admitted request: it loses its KV and goes to the front of the waiting queue.

    Returns:
        The blocks that it needed for the batch being formed.
    """
    i = np.int64(replica.running_tail)
    needed = stop_running(requests, replica, integers, i)
    push_waiting_front(requests, replica, i)
    return needed


@jit()
def stop_running(requests, replica, integers, i):
    """Recompute preemption of running request i, which loses its KV; the caller puts it into the waiting queue.

    Returns:
        The blocks that it needed for the batch being formed.
    """
    request = requests[i]
    held = held_blocks(replica, request)
    if request.phase == DECODE:
        needed = np.int64(decode_needs_block(replica, request))
        leave_decodes(requests, replica, integers, i)
    else:
        needed = chunk_blocks(replica, request, strike_prefill(replica, integers, i))
    replica.free_blocks += held
    remove_running(requests, replica, i)
    request.phase = WAITING
    request.computed = 0
    request.preemptions += 1
    replica.preemptions += 1
    replica.preempted_now += 1
    return needed


@jit()
def strike_prefill(replica, integers, i):
    """Strike request i off the prefills, which stay in order of admission; returns its chunk."""
    place = replica.prefills + 2 * (replica.num_prefills - 1)
    while integers[place] != i:
        place -= 2
    chunk = integers[place + 1]
    replica.num_prefills -= 1
    for later in range(place, replica.prefills + 2 * replica.num_prefills, 2):
        integers[later] = integers[later + 2]
        integers[later + 1] = integers[later + 3]
    return chunk


@jit()
def complete(requests, replica, i, held):
    """Request i has its last token: free the blocks that it held."""
    request = requests[i]
    remove_running(requests, replica, i)
    replica.free_blocks += held
    replica.outstanding -= 1
    replica.outstanding_tokens -= request.prompt_tokens + request.output_tokens
    replica.completed += 1
    request.phase = COMPLETED
    request.completed_s = replica.clock_s


@jit()
def complete_due(requests, replica, integers, step):
    """Complete the decodes whose last token came with this decode step; ``replica.step`` is the next one already."""
    slot = replica.calendar + (step & replica.calendar_mask)
    i = integers[slot]
    integers[slot] = NONE
    while i != NONE:
        request = requests[i]
        replica.num_decodes -= 1
        replica.decode_kv -= replica.step - request.origin
        count_crossing(replica, integers, request.origin, -1)
        complete(requests, replica, i, held_blocks(replica, request))
        i = request.due_next
