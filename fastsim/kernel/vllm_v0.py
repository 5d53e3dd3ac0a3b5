"""Batch policy of vLLM's first engine (docs/policies.md): whole prompts first, decodes where none can be admitted."""

from fastsim.kernel.eviction import head_finds_blocks, is_swapped, make_room
from fastsim.kernel.jit import jit
from fastsim.kernel.running import admit, resume
from fastsim.kernel.state import NONE


@jit()
def schedule(requests, replica, integers):
    """Form the next batch: prefills alone, while which the decodes stall, or else all decodes.

    Returns:
        The number of tokens in the batch.
    """
    tokens = admit_prompts(requests, replica, integers)
    if replica.num_prefills > 0:
        replica.decodes_run = 0
        replica.batch_may_change = 1
        return tokens
    make_room(requests, replica, integers)
    resumed = replica.swaps and replica.preempted_now == 0 and resume_swapped(requests, replica, integers)
    # Whoever was evicted may return with the next batch, and prompts behind the swapped may be admitted.
    replica.batch_may_change = replica.preempted_now > 0 or resumed
    return replica.num_decodes


@jit()
def admit_prompts(requests, replica, integers):
    """Admit whole prompts while the batch, padded to its longest, stays within the limits; returns their tokens."""
    tokens = 0
    longest = 0
    while replica.waiting_head != NONE and replica.num_running < replica.max_num_seqs:
        head = requests[replica.waiting_head]
        known = head.prompt_tokens + head.generated
        longest = max(longest, known)
        if (replica.num_prefills + 1) * longest > replica.max_num_batched_tokens:
            break
        if replica.num_prefills == replica.max_micro_batch or is_swapped(head):
            break
        if not head_finds_blocks(requests, replica):
            break
        admit(requests, replica, integers, known)
        tokens += known
    return tokens


@jit()
def resume_swapped(requests, replica, integers):
    """Let decodes that were swapped out decode again while the head of the queue is one and fits; says if any did."""
    running = replica.num_running
    while (
        replica.waiting_head != NONE
        and is_swapped(requests[replica.waiting_head])
        and replica.num_running < replica.max_num_seqs
        and replica.num_decodes < replica.max_micro_batch
        and head_finds_blocks(requests, replica)
    ):
        resume(requests, replica, integers)
    return replica.num_running > running
