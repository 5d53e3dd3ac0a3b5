"""What happens to a running request, and the sums over the decodes that each of these steps keeps true.

A decode is never touched from the iteration it joins until it completes: its context is ``iteration - origin``, its
last iteration is known when it joins, and its replica carries the number of decodes and the sum of their contexts.
Running prefills are few; they are listed, in order of admission, with their chunk of the batch being formed:
``integers[replica.prefills + 2 * k]`` is the request and the next integer its chunk.
All functions modify their arguments in place; ``replica`` is one REPLICA record.
"""

import numpy as np

from fastsim.kernel.blocks import blocks_of, crossing
from fastsim.kernel.jit import jit
from fastsim.kernel.queues import (
    append_running,
    insert_due,
    pop_waiting,
    push_waiting_front,
    remove_due,
    remove_running,
)
from fastsim.kernel.state import COMPLETED, DECODE, NONE, PREFILL, WAITING


@jit()
def admit(requests, replica, integers, num_tokens):
    """Move the head of the waiting queue to the end of the running list, with a first chunk of num_tokens."""
    i = pop_waiting(requests, replica)
    request = requests[i]
    append_running(requests, replica, i)
    request.phase = PREFILL
    if not request.scheduled_s >= 0.0:
        request.scheduled_s = replica.clock_s
    replica.free_blocks -= blocks_of(num_tokens, replica)
    prefill = replica.prefills + 2 * replica.num_prefills
    integers[prefill] = i
    integers[prefill + 1] = num_tokens
    replica.num_prefills += 1


@jit()
def join_decodes(requests, replica, integers, i):
    """Let request i decode from the iteration ``replica.iteration`` on."""
    request = requests[i]
    context = request.prompt_tokens + request.generated
    request.phase = DECODE
    request.origin = replica.iteration - context
    replica.num_decodes += 1
    replica.decode_kv += context
    integers[crossing(replica, request.origin)] += 1
    insert_due(requests, replica, integers, i, last_iteration(request))


@jit()
def leave_decodes(requests, replica, integers, i):
    """Take request i out of the decodes before the iteration ``replica.iteration``, remembering how far it came."""
    request = requests[i]
    context = replica.iteration - request.origin
    remove_due(requests, replica, integers, i, last_iteration(request))
    request.generated = context - request.prompt_tokens
    request.last_token_s = replica.clock_s
    replica.num_decodes -= 1
    replica.decode_kv -= context
    integers[crossing(replica, request.origin)] -= 1


@jit()
def last_iteration(request):
    """Iteration at the end of which this decode completes."""
    return request.origin + request.prompt_tokens + request.output_tokens - 1


@jit()
def preempt_last(requests, replica, integers):
    """Recompute preemption of the last admitted request: it loses its KV and goes to the front of the waiting queue.

    Returns:
        The blocks that it needed for the batch being formed.
    """
    i = replica.running_tail
    request = requests[i]
    if request.phase == DECODE:
        written, chunk = replica.iteration - request.origin - 1, 1
        leave_decodes(requests, replica, integers, i)
    else:
        # The prefills are listed in order of admission too.
        replica.num_prefills -= 1
        written, chunk = np.int64(request.computed), integers[replica.prefills + 2 * replica.num_prefills + 1]
    held = blocks_of(written, replica)
    replica.free_blocks += held
    remove_running(requests, replica, i)
    push_waiting_front(requests, replica, i)
    request.phase = WAITING
    request.computed = 0
    request.preemptions += 1
    replica.preemptions += 1
    replica.preempted_now += 1
    return blocks_of(written + chunk, replica) - held


@jit()
def complete(requests, replica, i, num_tokens):
    """Request i has its last token: free the blocks that hold its num_tokens of KV."""
    request = requests[i]
    remove_running(requests, replica, i)
    replica.free_blocks += blocks_of(num_tokens, replica)
    replica.outstanding -= 1
    replica.completed += 1
    request.phase = COMPLETED
    request.completed_s = replica.clock_s


@jit()
def complete_due(requests, replica, integers, iteration):
    """Complete the decodes whose last token came with this iteration; ``replica.iteration`` is the next one already."""
    slot = replica.calendar + (iteration & replica.calendar_mask)
    i = integers[slot]
    integers[slot] = NONE
    while i != NONE:
        request = requests[i]
        context = iteration - request.origin
        replica.num_decodes -= 1
        replica.decode_kv -= context + 1
        integers[crossing(replica, request.origin)] -= 1
        complete(requests, replica, i, context)
        i = request.due_next
