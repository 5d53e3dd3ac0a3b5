"""Batch policy of TensorRT-LLM (docs/policies.md): who may hold KV blocks, and who of these runs now.

Under ``guaranteed_no_evict`` a request is admitted when all blocks that it will ever need are free and not promised to
others: what the running ones still lack and what they hold are together what they will hold in the end, so
``running_blocks`` alone says what is promised. Under ``max_utilization`` blocks are given as they are needed, and a
shortage pauses the last started: as in `vllm_v1` that comes to pausing the last until the others' needs are met.
"""

import numpy as np

from fastsim.kernel.blocks import blocks_of, blocks_to_decode, chunk_blocks
from fastsim.kernel.jit import jit
from fastsim.kernel.running import admit, preempt_last
from fastsim.kernel.state import NONE


@jit()
def schedule(requests, replica, integers):
    """Form the next batch: all decodes, then prefills within what they leave of max_num_batched_tokens.

    Returns:
        The number of tokens in the batch.
    """
    make_room(requests, replica, integers)
    left = continue_prefills(requests, replica, integers, replica.max_num_batched_tokens - replica.num_decodes)
    if replica.preempted_now == 0:
        left = admit_waiting(requests, replica, integers, left)
    # What kept the head waiting keeps it so until something completes: blocks and budget do not come back before.
    replica.batch_may_change = replica.num_prefills + replica.preempted_now > 0
    return replica.max_num_batched_tokens - left


@jit()
def make_room(requests, replica, integers):
    """Take the blocks of the next decode step, pausing the last started until there are enough."""
    needed = blocks_to_decode(replica, integers)
    while needed > replica.free_blocks:
        needed -= preempt_last(requests, replica, integers)
    replica.free_blocks -= needed


@jit()
def continue_prefills(requests, replica, integers, left):
    """Give the prefills under way their chunks, in order of start; returns the budget left."""
    for prefill in range(replica.prefills, replica.prefills + 2 * replica.num_prefills, 2):
        request = requests[integers[prefill]]
        chunk = cut(replica, request, left)
        integers[prefill + 1] = chunk
        replica.free_blocks -= chunk_blocks(replica, request, chunk)
        left -= chunk
    return left


@jit()
def admit_waiting(requests, replica, integers, left):
    """Admit from the head of the waiting queue while it fits, never past the head; returns the budget left."""
    while replica.waiting_head != NONE and replica.num_running < replica.max_num_seqs:
        head = requests[replica.waiting_head]
        chunk = cut(replica, head, left)
        if chunk == 0 or not has_capacity(replica, head):
            break
        admit(requests, replica, integers, chunk)
        left -= chunk
    return left


@jit()
def has_capacity(replica, request):
    """Whether a waiting request can have its blocks: those of its whole life, or those of all its known tokens."""
    if replica.guaranteed_no_evict:
        return replica.running_blocks + blocks_of(whole_tokens(request), replica) <= replica.num_blocks
    return blocks_of(request.prompt_tokens + request.generated, replica) <= replica.free_blocks


@jit()
def whole_tokens(request):
    """Prompt and output tokens of a request."""
    return np.int64(request.prompt_tokens) + request.output_tokens


@jit()
def cut(replica, request, left):
    """The next chunk of a prefill if the batch has so many tokens left: all it lacks, or some blocks, or 0."""
    missing = request.prompt_tokens + request.generated - request.computed
    if missing <= left:
        return missing
    if not replica.enable_chunked_prefill:
        return np.int64(0)
    return left - left % replica.block_size
