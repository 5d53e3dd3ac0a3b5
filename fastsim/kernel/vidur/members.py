"""What the batch policies share: KV blocks, members of a batch, restarts and the end of a batch (in place)."""

from fastsim.kernel.jit import jit
from fastsim.kernel.vidur.lists import append, insert_after, pop_first
from fastsim.kernel.vidur.state import NONE, WAITING


@jit()
def round_up(x, multiple):
    """The smallest multiple that is not less than x."""
    return -(-x // multiple) * multiple


@jit()
def blocks_for(replica, tokens):
    """Blocks that hold so many tokens."""
    return -(-tokens // replica.block_size)


@jit()
def take(replica, request, blocks):
    """Give a request blocks; the caller has checked that there are enough."""
    if blocks > 0:
        replica.holders += request.blocks == 0
        request.blocks += blocks
        replica.free_blocks -= blocks


@jit()
def release(replica, request):
    """Take all blocks from a request."""
    if request.blocks > 0:
        replica.holders -= 1
        replica.free_blocks += request.blocks
        request.blocks = 0


@jit()
def clear(batch, now_s):
    """Begin to form a micro-batch: nothing is counted yet."""
    batch.formed_s = now_s
    batch.num_tokens = batch.num_decodes = batch.decode_kv = 0
    batch.num_chunks = batch.prefill_kv = batch.chunk_squares = batch.attention_pairs = 0


@jit()
def count(replica, batch, request, tokens):
    """Add what a member means for the time of its batch; a request whose prefill is complete decodes."""
    request.tokens = tokens
    batch.num_tokens += tokens
    if request.processed > request.prefill:
        batch.num_decodes += 1
        batch.decode_kv += request.processed
        batch.attention_pairs += request.processed
    else:
        batch.num_chunks += 1
        batch.prefill_kv += round_up(request.processed, replica.kv_granularity)
        batch.chunk_squares += tokens * tokens
        batch.attention_pairs += tokens * request.processed + tokens * (tokens + 1) // 2


@jit()
def join(work, replica, batch, i, tokens):
    """Put request i, which is in no list, into a batch."""
    append(work.requests, work.lists, batch.members, i)
    count(replica, batch, work.requests[i], tokens)


@jit()
def admit(work, replica, batch, blocks, tokens):
    """Move the head of the waiting queue into a batch and give it blocks."""
    i = pop_first(work.requests, work.lists, replica.lists + WAITING)
    request = work.requests[i]
    if not request.scheduled:
        request.scheduled = 1
        request.scheduled_s = batch.formed_s
    take(replica, request, blocks)
    join(work, replica, batch, i, tokens)


@jit()
def restart(work, replica, i):
    """Send request i, which is in no list, back to the front of the queue; what it has processed becomes its prompt.

    So an unfinished prefill loses the rest of its prompt to its outputs (oddity 6).
    """
    request = work.requests[i]
    release(replica, request)
    request.decode += request.prefill - request.processed
    request.prefill = request.processed
    request.processed = 0
    request.restarts += 1
    replica.preemptions += 1
    insert_after(work.requests, work.lists, replica.lists + WAITING, NONE, i)


@jit()
def advance(request, now_s):
    """Count the tokens of a batch that ended; returns whether they gave an output token."""
    request.processed += request.tokens
    if request.processed == request.prefill:
        request.processed += 1
        if request.first_token_s == 0.0:
            request.first_token_s = now_s
    elif request.processed < request.prefill:
        return False
    if finished(request):
        request.completed_s = now_s
    return True


@jit()
def finished(request):
    """Whether all its tokens are processed."""
    return request.processed == request.prefill + request.decode
