"""What vllm_v0 and sarathi share: decodes that ask for a free block each, and evict the last in queue order for it.

Both hold all blocks of a prompt from its admission. In queue order every decode asks for one free block, whether it
takes it or not; where none is free the last of those that have not had their turn goes back to the waiting queue.
"""

from fastsim.kernel.bench import exchange, list_decodes, trade_places, unbench
from fastsim.kernel.blocks import blocks_to_decode, decode_needs_block, first_blocks
from fastsim.kernel.jit import jit
from fastsim.kernel.preemption import place_of_prefill, preempt
from fastsim.kernel.queues import comes_before
from fastsim.kernel.state import DECODE, FCFS, PREFILL, WAITING

#: In place of a chunk: this prefill gets none.
LEFT_OUT = -1


@jit()
def make_room(requests, replica, integers):
    """Evict until every decode in the batch finds a free block when its turn comes, and take the blocks.

    First come, first served, a victim stands behind everybody who has had a turn, so that comes to: evict the last
    until the rest can run. Decodes that the batch has no place for are benched, and prefills marked LEFT_OUT.
    """
    idle = replica.num_decodes + replica.num_benched
    if idle > replica.max_micro_batch and replica.free_blocks >= replica.max_micro_batch:
        divide(requests, replica, integers)
        return
    if replica.num_benched > 0:
        unbench(requests, replica, integers)
    needed = blocks_to_decode(replica, integers)
    if idle > replica.max_micro_batch or not (needed < replica.free_blocks or idle == 0):
        if replica.num_stages > 1 or replica.queue_order != FCFS:
            take_turns(requests, replica, integers)
            return
        while not every_turn_finds_a_block(requests, replica, needed):
            needed -= preempt(requests, replica, integers, replica.running_tail)
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
def divide(requests, replica, integers):
    """Let the idle requests have their turns where no decode can lack a block: the first in queue order run."""
    end = replica.scratch
    last = end + sort_idle(requests, replica, integers)
    members = 0
    benched = 0
    while end < last and members < replica.max_micro_batch:
        request = requests[integers[end]]
        end += 1
        if request.phase == DECODE:
            members += 1
            benched += request.cohort == replica.bench_slot
    if 2 * benched > members:
        trade_places(replica, integers)
        benched = members - benched
    surplus = replica.num_decodes + benched - members
    leave_out(requests, replica, integers, end, last)
    if benched + surplus > 0:
        exchange(requests, replica, integers, end, last, benched, surplus)
    replica.free_blocks -= blocks_to_decode(replica, integers)


@jit()
def take_turns(requests, replica, integers):
    """Let the idle requests have their turns one by one: docs/policies.md to the letter. Nobody is on the bench."""
    first = replica.scratch
    last = first + sort_idle(requests, replica, integers)
    members = 0
    while first < last and members < replica.max_micro_batch:
        i = integers[first]
        first += 1
        if requests[i].phase == PREFILL:
            continue
        while replica.free_blocks < 1 and first < last:
            last -= 1
            preempt(requests, replica, integers, integers[last])
        if replica.free_blocks < 1:
            preempt(requests, replica, integers, i)
            continue
        if decode_needs_block(replica, requests[i]):
            replica.free_blocks -= 1
        members += 1
    if first < last:
        leave_out(requests, replica, integers, first, last)
        exchange(requests, replica, integers, first, last, 0, replica.num_decodes - members)


@jit()
def sort_idle(requests, replica, integers):
    """Write the decodes that are idle and the listed prefills into the scratch list, in queue order.

    Returns:
        Their number.
    """
    first = replica.scratch
    for prefill in range(replica.prefills, replica.prefills + 2 * replica.num_prefills, 2):
        integers[first] = integers[prefill]
        first += 1
    last = first + replica.num_decodes + replica.num_benched
    list_decodes(requests, replica, integers, first, last, replica.bench_slot)
    if first == replica.scratch and replica.queue_order == FCFS and replica.preemptions == 0:
        return last - first  # in order of admission, which is still that of the queue
    for place in range(replica.scratch + 1, last):
        i = integers[place]
        before = place - 1
        while before >= replica.scratch and comes_before(requests, i, integers[before]):
            integers[before + 1] = integers[before]
            before -= 1
        integers[before + 1] = i
    return last - replica.scratch


@jit()
def leave_out(requests, replica, integers, first, last):
    """Mark the prefills listed from first to last as ones that get no chunk."""
    if replica.num_prefills == 0:
        return
    for place in range(first, last):
        i = integers[place]
        if requests[i].phase == PREFILL:
            integers[place_of_prefill(replica, integers, i) + 1] = LEFT_OUT


@jit()
def head_finds_blocks(requests, replica):
    """Whether the head of the waiting queue can have the blocks of all its known tokens, and leave the watermark.

    One that was swapped out stays where it is while others are swapped out.
    """
    head = requests[replica.waiting_head]
    if replica.preempted_now > 0 and is_swapped(head):
        return False
    return replica.free_blocks - first_blocks(replica, head, 0) >= replica.watermark_blocks


@jit()
def is_swapped(request):
    """Whether the KV of a waiting request is in host memory."""
    return request.phase != WAITING or request.computed > 0
