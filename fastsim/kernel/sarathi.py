"""Batch policy of Sarathi-Serve (docs/policies.md): decodes, prefills under way, then new ones, cut to a budget.

With one stage at most one prefill is under way: whoever is cut has used up the budget.
"""

from fastsim.kernel.eviction import LEFT_OUT, head_finds_blocks, make_room
from fastsim.kernel.jit import jit
from fastsim.kernel.running import admit, resume
from fastsim.kernel.state import NONE, SWAPPED


@jit()
def schedule(requests, replica, integers):
    """Form the next batch.

    Returns:
        The number of tokens in the batch.
    """
    make_room(requests, replica, integers)
    tokens = replica.num_decodes
    members = replica.num_decodes
    for prefill in range(replica.prefills, replica.prefills + 2 * replica.num_prefills, 2):
        chunk = next_chunk(replica, requests[integers[prefill]], tokens)
        if members >= replica.max_micro_batch or integers[prefill + 1] == LEFT_OUT:
            chunk = 0
        integers[prefill + 1] = chunk
        tokens += chunk
        members += chunk > 0
    while replica.waiting_head != NONE and members < replica.max_micro_batch:
        head = requests[replica.waiting_head]
        chunk = next_chunk(replica, head, tokens)
        if chunk == 0 or replica.num_running >= replica.max_num_seqs or not head_finds_blocks(requests, replica):
            break
        if head.phase == SWAPPED:
            resume(requests, replica, integers)
        else:
            admit(requests, replica, integers, chunk)
        tokens += chunk
        members += 1
    # What kept the head waiting keeps it so until something completes: blocks and budget do not come back before.
    # A shortage that benched decodes or refused the swapped is over with the batch.
    replica.batch_may_change = replica.num_prefills + replica.preempted_now > 0
    return tokens


@jit()
def next_chunk(replica, request, tokens):
    """Prefill tokens that a batch of so many tokens has room for."""
    missing = request.prompt_tokens + request.generated - request.computed
    return max(0, min(missing, replica.max_num_batched_tokens - tokens))
