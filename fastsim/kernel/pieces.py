"""Pieces: runs of consecutive KV blocks of one text, and the queue of those that nobody uses.

Blocks have no numbers of their own here. A *piece* is what is cached of the blocks ``lo`` to ``hi - 1`` of a text, all
used by the same number of requests, so one costs as much as a thousand. A request frees its blocks from the last to the
first, and blocks are taken from the front of the queue, so a piece in the queue is eaten from its end. Where only a
part of it is touched it is split. Blocks in the queue that nobody can find are a piece too, a *dead* run.

While no cached piece is in the queue (``num_live`` is 0) all free blocks are alike, and the queue is not kept.
A piece is nine integers of the pool, at the places below. All functions modify their arguments in place.
"""

import numpy as np

from fastsim.kernel.jit import jit
from fastsim.kernel.prefix_index import NEWEST, OLDEST, entry_of, remove_key
from fastsim.kernel.radix_tree import evict
from fastsim.kernel.state import NONE

#: Places within a piece: its key; the blocks [LO, HI) of its text; the requests that use it; its neighbours in the
#: queue towards the front and the back; the pieces with the same key marked before and after it; what was split off its
#: end.
KEY, LO, HI, USERS, AHEAD, BEHIND, OLDER, NEWER, REST = range(9)
PIECE_SIZE = 9

#: Key of blocks that nobody can find.
DEAD = np.iinfo(np.int64).min


@jit()
def new_piece(replica, integers, key, lo, hi, users):
    """A piece in neither the index nor the queue; returns its place."""
    piece = replica.spare_piece
    if piece == NONE:
        piece = replica.next_piece
        replica.next_piece = piece + PIECE_SIZE
    else:
        replica.spare_piece = integers[piece + BEHIND]
    integers[piece + KEY] = key
    integers[piece + LO] = lo
    integers[piece + HI] = hi
    integers[piece + USERS] = users
    integers[piece + REST] = NONE
    return piece


@jit()
def drop_piece(replica, integers, piece):
    """Give a piece's place back."""
    integers[piece + BEHIND] = replica.spare_piece
    replica.spare_piece = piece


@jit()
def index_piece(replica, integers, piece):
    """Put a piece into the index, as the newest with its key."""
    entry = entry_of(replica, integers, integers[piece + KEY])
    integers[piece + NEWER] = NONE
    if integers[entry + OLDEST] == NONE:
        integers[entry] = integers[piece + KEY]
        integers[entry + OLDEST] = piece
        integers[piece + OLDER] = NONE
    else:
        newest = integers[entry + NEWEST]
        integers[newest + NEWER] = piece
        integers[piece + OLDER] = newest
    integers[entry + NEWEST] = piece


@jit()
def unindex_piece(replica, integers, piece):
    """Take a piece out of the index."""
    older, newer = integers[piece + OLDER], integers[piece + NEWER]
    if older == NONE and newer == NONE:
        remove_key(replica, integers, integers[piece + KEY])
        return
    if older != NONE and newer != NONE:
        integers[older + NEWER] = newer
        integers[newer + OLDER] = older
        return
    entry = entry_of(replica, integers, integers[piece + KEY])
    if older == NONE:
        integers[newer + OLDER] = NONE
        integers[entry + OLDEST] = newer
    else:
        integers[older + NEWER] = NONE
        integers[entry + NEWEST] = older


@jit()
def split(replica, integers, piece, block):
    """Divide a piece before this block, which it holds behind its first: it keeps what comes before.

    Its users use both, and in the queue the end stands before the beginning.
    """
    rest = new_piece(replica, integers, integers[piece + KEY], block, integers[piece + HI], integers[piece + USERS])
    integers[piece + HI] = block
    integers[rest + REST] = integers[piece + REST]
    integers[piece + REST] = rest
    newer = integers[piece + NEWER]
    integers[rest + OLDER] = piece
    integers[rest + NEWER] = newer
    integers[piece + NEWER] = rest
    if newer != NONE:
        integers[newer + OLDER] = rest
    else:
        integers[entry_of(replica, integers, integers[piece + KEY]) + NEWEST] = rest
    if integers[piece + USERS] == 0:
        ahead = integers[piece + AHEAD]
        integers[rest + AHEAD] = ahead
        integers[rest + BEHIND] = piece
        integers[piece + AHEAD] = rest
        if ahead == NONE:
            replica.queue_front = rest
        else:
            integers[ahead + BEHIND] = rest
        replica.num_live += 1
    return rest


@jit()
def link_back(replica, integers, piece):
    """Put a piece at the back of the queue."""
    back = replica.queue_back
    integers[piece + AHEAD] = back
    integers[piece + BEHIND] = NONE
    if back == NONE:
        replica.queue_front = piece
    else:
        integers[back + BEHIND] = piece
    replica.queue_back = piece


@jit()
def unlink(replica, integers, piece):
    """Take a piece out of the queue."""
    ahead, behind = integers[piece + AHEAD], integers[piece + BEHIND]
    if ahead == NONE:
        replica.queue_front = behind
    else:
        integers[ahead + BEHIND] = behind
    if behind == NONE:
        replica.queue_back = ahead
    else:
        integers[behind + AHEAD] = ahead


@jit()
def free_piece(replica, integers, piece):
    """Put a cached piece, which nobody uses any more, at the back of the queue."""
    if replica.num_live == 0 and replica.free_blocks > 0:
        link_back(replica, integers, new_piece(replica, integers, DEAD, 0, replica.free_blocks, 0))
    link_back(replica, integers, piece)
    replica.num_live += 1
    replica.free_blocks += integers[piece + HI] - integers[piece + LO]


@jit(forceinline=True)
def free_dead(replica, integers, blocks):
    """Put blocks that nobody can find at the back of the queue."""
    if blocks == 0:
        return
    if replica.num_live > 0:
        back = replica.queue_back
        if integers[back + KEY] == DEAD:
            integers[back + HI] += blocks
        else:
            link_back(replica, integers, new_piece(replica, integers, DEAD, 0, blocks, 0))
    replica.free_blocks += blocks


@jit()
def free_dead_first(replica, integers, blocks):
    """Put blocks that nobody can find at the front of the queue."""
    if blocks > 0 and replica.num_live > 0:
        front = replica.queue_front
        if integers[front + KEY] == DEAD:
            integers[front + HI] += blocks
        else:
            piece = new_piece(replica, integers, DEAD, 0, blocks, 0)
            integers[piece + AHEAD] = NONE
            integers[piece + BEHIND] = front
            integers[front + AHEAD] = piece
            replica.queue_front = piece
    replica.free_blocks += blocks


@jit()
def use_piece(replica, integers, piece):
    """Count one more user of a cached piece; the first takes it out of the queue."""
    if integers[piece + USERS] == 0:
        unlink(replica, integers, piece)
        replica.free_blocks -= integers[piece + HI] - integers[piece + LO]
        count_live(replica, integers, -1)
    integers[piece + USERS] += 1


@jit()
def count_live(replica, integers, change):
    """Count cached pieces in the queue; without one its dead runs need not be told apart."""
    replica.num_live += change
    if replica.num_live == 0:
        while replica.queue_front != NONE:
            piece = replica.queue_front
            replica.queue_front = integers[piece + BEHIND]
            drop_piece(replica, integers, piece)
        replica.queue_back = NONE


@jit(forceinline=True)
def take_blocks(replica, integers, blocks):
    """Take free blocks, from the front of the queue: what was cached in them can be found no more.

    Under a radix tree leaves are evicted for them only where no others are left.
    """
    replica.free_blocks -= blocks
    if replica.num_live > 0:
        eat_queue(replica, integers, blocks)
    if replica.evictable > replica.free_blocks:
        evict(replica, integers, replica.evictable - replica.free_blocks)


@jit()
def eat_queue(replica, integers, blocks):
    """Take blocks off the front of the queue."""
    left = np.int64(blocks)
    while left > 0 and replica.num_live > 0:
        piece = replica.queue_front
        eaten = min(left, integers[piece + HI] - integers[piece + LO])
        integers[piece + HI] -= eaten
        left -= eaten
        if integers[piece + HI] == integers[piece + LO]:
            unlink(replica, integers, piece)
            is_live = integers[piece + KEY] != DEAD
            if is_live:
                unindex_piece(replica, integers, piece)
            drop_piece(replica, integers, piece)
            if is_live:
                count_live(replica, integers, -1)
