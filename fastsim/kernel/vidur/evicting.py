"""The batch policies of vLLM's first engine and of Sarathi (docs/policies.md, its lines on parity)."""

from fastsim.kernel.jit import jit
from fastsim.kernel.vidur.lists import append, insert_after, pop_first, remove, sort_by_arrival, splice
from fastsim.kernel.vidur.members import admit, blocks_for, count, join, restart, take
from fastsim.kernel.vidur.state import ASIDE, NONE, RUNNING, WAITING


@jit()
def fits(replica, request):
    """Whether a waiting request finds blocks for its whole prompt above the watermark."""
    return replica.free_blocks - blocks_for(replica, request.prefill) >= replica.watermark_blocks


@jit()
def decode(work, replica, batch):
    """Put the first of the running list into a batch; without a free block the last is evicted, at worst itself."""
    running = replica.lists + RUNNING
    i = pop_first(work.requests, work.lists, running)
    while replica.free_blocks < 1:
        victim = work.lists[running].tail
        if victim == NONE:
            restart(work, replica, i)
            return
        remove(work.requests, work.lists, running, victim)
        restart(work, replica, victim)
    request = work.requests[i]
    take(replica, request, max(0, request.processed - request.blocks * replica.block_size))
    join(work, replica, batch, i, 1)


@jit()
def schedule_vllm(work, replica, batch):
    """Whole prompts only, or, if none is admitted, decodes only."""
    waiting, running, members = replica.lists + WAITING, replica.lists + RUNNING, batch.members
    longest = 0
    while work.lists[waiting].length > 0:
        head = work.requests[work.lists[waiting].head]
        longest = max(longest, head.prefill)
        if (
            not fits(replica, head)
            or (work.lists[members].length + 1) * longest > replica.max_tokens
            or replica.holders == replica.max_holders
            or work.lists[members].length == replica.max_micro_batch
        ):
            break
        admit(work, replica, batch, blocks_for(replica, head.prefill), head.prefill)
    if work.lists[members].length > 0:
        return
    sort_by_arrival(work.requests, work.lists, running)
    if all_can_decode(work, replica):
        decode_all(work, replica, batch)
    while work.lists[running].length > 0 and work.lists[members].length != replica.max_micro_batch:
        decode(work, replica, batch)


@jit()
def all_can_decode(work, replica):
    """Whether all of the running list get into an empty batch and nobody is evicted."""
    length = work.lists[replica.lists + RUNNING].length
    return length <= replica.free_blocks and length <= replica.max_micro_batch


@jit()
def decode_all(work, replica, batch):
    """Put all decodes of the running list into an empty batch, and set the others aside: as one by one, but faster."""
    running = replica.lists + RUNNING
    i = work.lists[running].head
    while i != NONE:
        request = work.requests[i]
        after = request.next
        if request.processed > request.prefill:
            take(replica, request, max(0, request.processed - request.blocks * replica.block_size))
            count(replica, batch, request, 1)
        else:
            remove(work.requests, work.lists, running, i)
            append(work.requests, work.lists, replica.lists + ASIDE, i)
        i = after
    splice(work.requests, work.lists, running, batch.members)


@jit()
def chunk(replica, batch, request):
    """Tokens that the budget leaves a prefill."""
    return max(0, min(request.prefill - request.processed, replica.max_tokens - batch.num_tokens))


@jit()
def schedule_sarathi(work, replica, batch):
    """Decodes, then prefills under way, which ignore the micro-batch cap (oddity 13), then new prefills."""
    waiting, running, members = replica.lists + WAITING, replica.lists + RUNNING, batch.members
    walk(work, replica, batch)
    resume(work, replica, batch)
    sort_by_arrival(work.requests, work.lists, running)
    while (
        work.lists[waiting].length > 0
        and replica.holders != replica.max_holders
        and work.lists[members].length != replica.max_micro_batch
    ):
        head = work.requests[work.lists[waiting].head]
        tokens = chunk(replica, batch, head)
        if tokens == 0 or not fits(replica, head):
            break
        admit(work, replica, batch, blocks_for(replica, head.prefill), tokens)


@jit()
def walk(work, replica, batch):
    """Batch the decodes of the running list, from its front; prefills under way are set aside."""
    running, members = replica.lists + RUNNING, batch.members
    if all_can_decode(work, replica):
        decode_all(work, replica, batch)
    while work.lists[running].length > 0 and work.lists[members].length != replica.max_micro_batch:
        first = work.lists[running].head
        if work.requests[first].processed > work.requests[first].prefill:
            decode(work, replica, batch)
        else:
            remove(work.requests, work.lists, running, first)
            append(work.requests, work.lists, replica.lists + ASIDE, first)


@jit()
def resume(work, replica, batch):
    """Give those set aside what is left of the budget; the others go back to the front of the running list."""
    place = NONE
    while work.lists[replica.lists + ASIDE].length > 0:
        i = pop_first(work.requests, work.lists, replica.lists + ASIDE)
        tokens = chunk(replica, batch, work.requests[i])
        if tokens > 0:
            join(work, replica, batch, i, tokens)
        else:
            insert_after(work.requests, work.lists, replica.lists + RUNNING, place, i)
            place = i
