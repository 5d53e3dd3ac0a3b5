"""Batch policy of Sarathi-Serve (docs/policies.md): decodes, the prefill under way, then new ones, cut to a budget.

At most one prefill is under way, and it is the latest arrival: whoever is cut has used up the budget.
"""

from fastsim.kernel.eviction import head_finds_blocks, make_room
from fastsim.kernel.jit import jit
from fastsim.kernel.running import admit
from fastsim.kernel.state import NONE


@jit()
def schedule(requests, replica, integers):
    """Form the next batch.

    Returns:
        The number of tokens in the batch.
    """
    make_room(requests, replica, integers)
    tokens = replica.num_decodes
    if replica.num_prefills > 0:
        chunk = next_chunk(replica, requests[integers[replica.prefills]], tokens)
        integers[replica.prefills + 1] = chunk
        tokens += chunk
    while replica.waiting_head != NONE and replica.num_running < replica.max_num_seqs:
        chunk = next_chunk(replica, requests[replica.waiting_head], tokens)
        if chunk == 0 or not head_finds_blocks(requests, replica):
            break
        admit(requests, replica, integers, chunk)
        tokens += chunk
    # What kept the head waiting keeps it so until something completes: blocks and budget do not come back before.
    replica.batch_may_change = replica.num_prefills > 0
    return tokens


@jit()
def next_chunk(replica, request, tokens):
    """Prefill tokens that a batch of so many tokens has room for."""
    missing = request.prompt_tokens + request.generated - request.computed
    return max(0, min(missing, replica.max_num_batched_tokens - tokens))
