"""Batch policies that reserve the blocks of a longest request: orca and faster_transformer (docs/policies.md)."""

from fastsim.kernel.eviction import divide
from fastsim.kernel.jit import jit
from fastsim.kernel.running import admit
from fastsim.kernel.state import NONE


@jit()
def schedule(requests, replica, integers):
    """Orca: all decodes and the whole prompts of whoever finds a place.

    Returns:
        The number of tokens in the batch.
    """
    # Batches that end together may leave more decodes than one batch takes.
    if replica.num_decodes + replica.num_benched > replica.max_micro_batch:
        divide(requests, replica, integers)
    tokens = replica.num_decodes + admit_reserved(requests, replica, integers)
    replica.batch_may_change = replica.num_prefills > 0
    return tokens


@jit()
def schedule_groups(requests, replica, integers):
    """FasterTransformer: a group of requests runs until its last member is done, and then the next is formed.

    Returns:
        The number of tokens in the batch.
    """
    tokens = replica.num_decodes
    if replica.num_decodes == 0:
        tokens = admit_reserved(requests, replica, integers)
    replica.batch_may_change = replica.num_prefills > 0
    return tokens


@jit()
def admit_reserved(requests, replica, integers):
    """Admit whole prompts while there are places and reservations left; returns their tokens."""
    tokens = 0
    while (
        replica.waiting_head != NONE
        and replica.num_decodes + replica.num_prefills < replica.max_micro_batch
        and replica.reserved_blocks <= replica.free_blocks
    ):
        head = requests[replica.waiting_head]
        known = head.prompt_tokens + head.generated
        admit(requests, replica, integers, known)
        tokens += known
    return tokens
