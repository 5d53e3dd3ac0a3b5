"""Prefix caching as vLLM's V1 engine does it (docs/policies.md, section 9), paid for by the piece and not by the block.

The first ``num_named`` blocks of a request have names: block k has the id ``integers[replica.ids + first_id + k //
blocks_per_id]``. Those of them that are marked are *listed*: each request has a list of the pieces that hold them, from
its last block to its first, linked through *uses* of three integers: the piece where the use begins, the block before
which it ends, and the use before it. If others have split that piece since, what was split off follows as its REST.
The other blocks of a running request are only counted; when it is preempted those that are marked become pieces that
only it can find. All functions modify their arguments in place.
"""

import numpy as np

from fastsim.kernel.blocks import full_blocks
from fastsim.kernel.jit import jit
from fastsim.kernel.pieces import (
    HI,
    KEY,
    LO,
    NEWER,
    REST,
    USERS,
    drop_piece,
    free_dead,
    free_dead_first,
    free_piece,
    index_piece,
    new_piece,
    split,
    unindex_piece,
    use_piece,
)
from fastsim.kernel.prefix_index import OLDEST, entry_of
from fastsim.kernel.state import NONE

#: Places within a use, and its size.
PIECE, END, BEFORE = range(3)
USE_SIZE = 3


@jit()
def find(requests, replica, integers, i):
    """Look request i up: note the pieces that it finds and where in each it stops; holds nothing.

    Returns:
        The number of blocks found, and how many of these nobody uses.
    """
    request = requests[i]
    replica.num_found = 0
    if request.num_named == 0 and (request.preemptions == 0 or replica.num_live == 0):
        return np.int64(0), np.int64(0)  # nobody has ever written its blocks
    most = full_blocks(np.int64(request.prompt_tokens) + request.generated - 1, replica)
    found = np.int64(0)
    idle = np.int64(0)
    place = replica.found
    while found < most:
        key, end = key_at(replica, request, integers, found)
        piece, end = piece_with(replica, integers, key, found, min(end, most))
        if piece == NONE:
            break
        integers[place] = piece
        integers[place + 1] = end
        place += 2
        if integers[piece + USERS] == 0:
            idle += end - found
        found = end
    replica.num_found = (place - replica.found) // 2
    return found, idle


@jit()
def key_at(replica, request, integers, block):
    """The key of a block of a request, and the block before which blocks with this key end."""
    if block >= request.num_named:
        return np.int64(-1) - request.row, np.int64(1 << 40)
    name = block // replica.blocks_per_id
    end = min((name + 1) * replica.blocks_per_id, np.int64(request.num_named))
    return integers[replica.ids + request.first_id + name], end


@jit()
def piece_with(replica, integers, key, block, most):
    """The oldest piece that holds a block, and up to where, at most, it is the oldest for the blocks behind it, too."""
    piece = integers[entry_of(replica, integers, key) + OLDEST]
    end = most
    while piece != NONE:
        lo = integers[piece + LO]
        if lo <= block < integers[piece + HI]:
            return piece, min(end, integers[piece + HI])
        if lo > block:
            end = min(end, lo)
        piece = integers[piece + NEWER]
    return np.int64(NONE), end


@jit()
def hold_found(requests, replica, integers, i):
    """Let request i use what `find` has found, at once before this; returns the number of blocks."""
    block = np.int64(0)
    for place in range(replica.found, replica.found + 2 * replica.num_found, 2):
        piece, end = integers[place], integers[place + 1]
        while integers[piece + HI] <= block:  # noted twice, and split since
            piece = integers[piece + REST]
        if block > integers[piece + LO]:
            piece = split(replica, integers, piece, block)
        if end < integers[piece + HI]:
            split(replica, integers, piece, end)
        use_piece(replica, integers, piece)
        if integers[piece + KEY] < 0:
            # Its own: only counted from now on.
            unindex_piece(replica, integers, piece)
            drop_piece(replica, integers, piece)
        else:
            add_use(requests[i], replica, integers, piece, end)
        block = end
    replica.num_found = 0
    return block


@jit()
def add_use(request, replica, integers, piece, end):
    """Put a piece at the end of a request's list."""
    use = replica.spare_use
    if use == NONE:
        use = replica.next_use
        replica.next_use = use + USE_SIZE
    else:
        replica.spare_use = integers[use + BEFORE]
    integers[use + PIECE] = piece
    integers[use + END] = end
    integers[use + BEFORE] = request.last_use
    request.last_use = use
    request.num_listed = end


@jit()
def mark(request, replica, integers, tokens):
    """Mark the named blocks that this many tokens of a request fill, and that it holds."""
    until = min(np.int64(request.num_named), full_blocks(tokens, replica))
    while request.num_listed < until:
        block = np.int64(request.num_listed)
        key, end = key_at(replica, request, integers, block)
        end = min(end, until)
        if not grow_last(request, replica, integers, key, block, end):
            piece = new_piece(replica, integers, key, block, end, 1)
            index_piece(replica, integers, piece)
            add_use(request, replica, integers, piece, end)


@jit()
def grow_last(request, replica, integers, key, block, end):
    """Let the last piece of a request's list reach to a later block, if it is its own and the newest with this key."""
    use = np.int64(request.last_use)
    if use == NONE:
        return False
    piece = integers[use + PIECE]
    if (
        integers[piece + KEY] != key
        or integers[piece + HI] != block
        or integers[piece + USERS] != 1
        or integers[piece + NEWER] != NONE
    ):
        return False
    integers[piece + HI] = end
    integers[use + END] = end
    request.num_listed = end
    return True


@jit()
def release(requests, replica, integers, i, held, marked):
    """Let request i, which completes or is preempted, free the blocks it held, of which the first are marked.

    Args:
        requests: REQUEST records.
        replica: its REPLICA record.
        integers: the pool.
        i: the request.
        held: blocks that it holds.
        marked: blocks of these that are marked, as many as it could find again if it is preempted.
    """
    request = requests[i]
    named = np.int64(request.num_named)
    if replica.uncached_first:
        free_dead_first(replica, integers, held - marked)
    else:
        free_dead(replica, integers, held - marked)
    if marked > named:
        # Of a request that is about to complete nobody will ask for the private blocks.
        if request.generated < request.output_tokens:
            free_new(replica, integers, np.int64(-1) - request.row, named, marked)
        else:
            free_dead(replica, integers, marked - named)
    until = min(marked, named)
    while until > request.num_listed:
        first = max((until - 1) // replica.blocks_per_id * replica.blocks_per_id, np.int64(request.num_listed))
        key, _ = key_at(replica, request, integers, first)
        free_new(replica, integers, key, first, until)
        until = first
    release_listed(request, replica, integers)


@jit()
def free_new(replica, integers, key, lo, hi):
    """Mark blocks that their request frees at the same time."""
    piece = new_piece(replica, integers, key, lo, hi, 0)
    index_piece(replica, integers, piece)
    free_piece(replica, integers, piece)


@jit()
def release_listed(request, replica, integers):
    """Empty the list of a request; pieces that nobody else uses go to the back of the queue, from last to first."""
    use = np.int64(request.last_use)
    while use != NONE:
        first, end = integers[use + PIECE], integers[use + END]
        while True:
            piece = first
            while integers[piece + HI] < end:
                piece = integers[piece + REST]
            integers[piece + USERS] -= 1
            end = integers[piece + LO]
            if integers[piece + USERS] == 0:
                free_piece(replica, integers, piece)
            if piece == first:
                break
        before = integers[use + BEFORE]
        integers[use + BEFORE] = replica.spare_use
        replica.spare_use = use
        use = before
    request.last_use = NONE
    request.num_listed = 0


@jit()
def found_tokens(requests, replica, integers, i):
    """Prompt tokens that request i would find in the cache of a replica now [tokens]."""
    found, _ = find(requests, replica, integers, i)
    replica.num_found = 0
    return found * replica.block_size
