"""Batch policy of SGLang (docs/policies.md): batches of prompts first, decodes where nobody can be admitted.

Memory is not reserved for outputs but set aside by a ratio of those still to come. The ratio falls with every decode
step and jumps when a shortage shows that it was too low: then decodes lose their KV and wait again. Once nobody more
could be admitted the replica is *full*, until somebody leaves: so long nothing is tried.

A prompt that is cut is the only prefill under way between two calls, the *chunked* request.

With pipeline stages the requests at hand are those of one slot (`fastsim.kernel.own_slots`), which has its own flag and
at most max_micro_batch requests; the ratio is that of all slots, and only one of them may have a chunked request.
"""

from typing import NamedTuple

import numpy as np

from fastsim.kernel.blocks import blocks_of, chunk_blocks, full_blocks, within_block
from fastsim.kernel.jit import jit
from fastsim.kernel.pieces import take_blocks
from fastsim.kernel.queues import append_running, remove_running
from fastsim.kernel.radix_cache import hold, let_go, match
from fastsim.kernel.retraction import decode_steps, make_room, set_ratio, settle_ratio
from fastsim.kernel.running import admit
from fastsim.kernel.state import DECODE, NONE, SGLANG_CLIP

_NO_LIMIT = 1 << 60


class Budget(NamedTuple):
    """What is left for the prefill batch being formed.

    Attributes:
        memory: tokens of KV, less those set aside; float.
        prompt: tokens of max_prefill_tokens.
        chunk: tokens of chunked_prefill_size.
    """

    memory: float
    prompt: int
    chunk: int


@jit()
def schedule(requests, replica, integers):
    """Form the next batch: prefills alone, while which the decodes stall, or else all decodes.

    Returns:
        The number of tokens in the batch.
    """
    if replica.idled:
        replica.idled = 0
        replica.full_mark = 0
        set_ratio(replica, replica.ratio_start, decode_steps(replica))
    tokens = try_prefills(requests, replica, integers)
    if tokens == 0:
        make_room(requests, replica, integers)
        if replica.num_decodes == 0 and replica.preempted_now > 0:
            tokens = try_prefills(requests, replica, integers)
    if tokens > 0:
        replica.decodes_run = 0
        replica.batch_may_change = 1
        return tokens
    # A try without success and without a chunked request has found the replica full.
    replica.batch_may_change = replica.num_prefills + replica.preempted_now > 0
    return replica.num_decodes


@jit()
def try_prefills(requests, replica, integers):
    """Give the chunked request its next chunk and admit behind it, within the budgets; returns the tokens, 0 for none.

    Between two calls the chunked request is the only prefill, so all running requests are decodes or in this batch.
    """
    # Where nobody runs nobody could leave, so being full says nothing; with one stage that cannot occur.
    full = replica.full_mark == 1 + replica.completed and replica.num_decodes > 0
    if replica.num_prefills == 0 and (full or replica.waiting_head == NONE):
        return 0
    set_aside = settle_ratio(replica) * float(outputs_to_come(requests, replica, integers))
    chunk = replica.chunked_prefill_size if replica.chunked_prefill_size > 0 else _NO_LIMIT
    budget = Budget(float(replica.free_blocks * replica.block_size) - set_aside, replica.max_num_batched_tokens, chunk)
    tokens = 0
    if replica.num_prefills > 0:
        tokens, budget = continue_chunked(requests, replica, integers, budget)
        if tokens == 0 or spent(replica, budget):
            return tokens
    return tokens + admit_waiting(requests, replica, integers, budget, tokens == 0)


@jit()
def outputs_to_come(requests, replica, integers):
    """Outputs that the decodes still lack, each clipped [tokens]."""
    if replica.num_long_outputs == 0:
        whole = replica.running_tokens
        for prefill in range(replica.prefills, replica.prefills + 2 * replica.num_prefills, 2):
            request = requests[integers[prefill]]
            whole -= request.prompt_tokens + request.output_tokens
        return whole - replica.decode_kv
    outputs = 0
    i = replica.running_head
    while i != NONE:
        request = requests[i]
        if request.phase == DECODE:
            generated = replica.step - request.origin - request.prompt_tokens
            outputs += min(request.output_tokens - generated, SGLANG_CLIP)
        i = request.next
    return outputs


@jit()
def continue_chunked(requests, replica, integers, budget):
    """Give the chunked request its next chunk; returns its tokens, 0 for none, and the budget left."""
    i = integers[replica.prefills]
    request = requests[i]
    missing = request.prompt_tokens + request.generated - request.computed
    tokens = min(min(missing, budget.chunk), int(budget.memory))
    if tokens < missing:
        tokens = max(0, tokens - within_block(tokens, replica))
    integers[replica.prefills + 1] = tokens
    replica.has_chunked = tokens < missing
    take_blocks(replica, integers, chunk_blocks(replica, request, tokens))
    if replica.radix and tokens == missing:
        # Requests insert their pages in the order in which their prefills ended.
        remove_running(requests, replica, i)
        append_running(requests, replica, i)
    outputs = request.output_tokens if tokens == missing else 0
    return tokens, charge(replica, budget, tokens, outputs)


@jit()
def charge(replica, budget, tokens, outputs):
    """The budget after a prefill of so many tokens, whose request has so many outputs (0 if it was cut)."""
    padded = blocks_of(tokens, replica) * replica.block_size
    memory = budget.memory - float(padded) - float(min(outputs, SGLANG_CLIP))
    return Budget(memory, budget.prompt - padded, budget.chunk - padded)


@jit()
def spent(replica, budget):
    """Whether nothing is left of a budget; the replica is full if that is memory."""
    if budget.memory <= 0.0:
        mark_full(replica)
        return True
    return budget.prompt <= 0 or budget.chunk <= 0


@jit()
def mark_full(replica):
    """Try nothing before somebody leaves."""
    replica.full_mark = 1 + replica.completed


@jit()
def admit_waiting(requests, replica, integers, budget, empty):
    """Admit from the head of the waiting queue while the budgets last, never past the head; returns the tokens.

    The first of an empty batch is admitted whatever max_prefill_tokens says.
    """
    admitted = np.int64(0)
    while replica.waiting_head != NONE:
        head = requests[replica.waiting_head]
        missing, budget = find_memory(requests, replica, integers, budget)
        if missing == 0:
            mark_full(replica)
            break
        tokens = first_chunk(replica, budget, missing, empty and admitted == 0)
        if tokens == 0:
            if replica.radix:
                let_go(head, replica, integers)
            break
        outputs = head.output_tokens if tokens == missing else 0
        admit(requests, replica, integers, tokens)
        admitted += tokens
        budget = charge(replica, budget, tokens, outputs)
        if spent(replica, budget):
            break
    return admitted


@jit(forceinline=True)
def find_memory(requests, replica, integers, budget):
    """What the head of the waiting queue has to compute [tokens], 0 if there is no place for it; and the budget then.

    What the cache holds of it is locked, and no longer memory to be had.
    """
    if replica.num_running >= replica.max_micro_batch:
        return np.int64(0), budget
    i = np.int64(replica.waiting_head)
    head = requests[i]
    missing = np.int64(head.prompt_tokens) + head.generated
    outputs = min(head.output_tokens - head.generated, SGLANG_CLIP)
    if replica.radix:
        node, found = match(requests, replica, integers, i, full_blocks(missing - 1, replica))
        head.computed = found * replica.block_size
        missing -= head.computed
        free = replica.free_blocks
        hold(head, replica, integers, node, found)
        memory = budget.memory - float((free - replica.free_blocks) * replica.block_size)
        budget = Budget(memory, budget.prompt, budget.chunk)
    if float(missing + outputs) < budget.memory:
        return missing, budget
    if replica.radix:
        let_go(head, replica, integers)
    return np.int64(0), budget


@jit(forceinline=True)
def first_chunk(replica, budget, missing, is_first):
    """Tokens of the first chunk of a request that lacks so many, which may be the first of its batch; 0 for none."""
    if missing >= budget.prompt and not is_first:
        return np.int64(0)
    if missing <= budget.chunk:
        return missing
    tokens = budget.chunk - within_block(budget.chunk, replica)
    if tokens == 0 or replica.has_chunked:
        return np.int64(0)
    replica.has_chunked = 1
    return tokens
