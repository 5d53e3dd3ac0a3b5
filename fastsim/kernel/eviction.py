"""What vllm_v0 and sarathi share: decodes that ask for a free block each, and evict the latest arrival for it.

Both hold all blocks of a prompt from its admission. In order of arrival every decode asks for one free block, whether
it takes it or not; where none is free the last of the running list goes back to the front of the waiting queue.
"""

from fastsim.kernel.blocks import blocks_to_decode, decode_needs_block, first_blocks
from fastsim.kernel.jit import jit
from fastsim.kernel.running import preempt_last
from fastsim.kernel.state import DECODE


@jit()
def make_room(requests, replica, integers):
    """Evict the latest arrivals until every decode finds a free block when its turn comes, and take the blocks.

    A victim stands behind everybody who has had a turn, so that comes to: evict the last until the rest can run.
    """
    needed = blocks_to_decode(replica, integers)
    while not every_turn_finds_a_block(requests, replica, needed):
        needed -= preempt_last(requests, replica, integers)
    replica.free_blocks -= needed


@jit()
def every_turn_finds_a_block(requests, replica, needed):
    """Whether no decode meets an empty pool, if they take these blocks in all."""
    if replica.num_decodes == 0 or needed < replica.free_blocks:
        return True
    if needed > replica.free_blocks:
        return False
    last = replica.running_tail
    if requests[last].phase != DECODE:  # a prefill under way is the latest arrival
        last = requests[last].previous
    return decode_needs_block(replica, requests[last])


@jit()
def head_finds_blocks(requests, replica):
    """Whether the head of the waiting queue can have the blocks of all its known tokens, and leave the watermark."""
    return replica.free_blocks - first_blocks(replica, requests[replica.waiting_head], 0) >= replica.watermark_blocks
