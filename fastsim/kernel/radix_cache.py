"""SGLang's radix cache (docs/policies.md, section 12): what requests find in the tree, hold of it and put into it.

A running request locks the node ``last_use`` of the tree (`fastsim.kernel.radix_tree`), which with those above it holds
its first ``num_listed`` pages; its own pages behind them are only counted. Pages are the KV blocks of the other
modules, and have the same names as in `fastsim.kernel.prefix_cache`. Texts are compared by the name, not by the page.
All functions modify their arguments in place.
"""

import numpy as np

from fastsim.kernel.blocks import full_blocks
from fastsim.kernel.jit import jit
from fastsim.kernel.prefix_cache import key_at
from fastsim.kernel.radix_tree import (
    HI,
    LO,
    NO_NODE,
    WRITER,
    access,
    add_child,
    child_entry,
    lock,
    split,
    unlock,
)
from fastsim.kernel.state import NONE


@jit()
def agree_until(requests, replica, integers, node, i, most):
    """The page before which a node and the first pages, at most so many, of request i cease to be the same."""
    writer = integers[node + WRITER]
    end = min(most, integers[node + HI])
    if writer == i:
        return end
    theirs, ours = requests[writer], requests[i]
    end = min(end, min(np.int64(theirs.num_named), np.int64(ours.num_named)))
    page = integers[node + LO]
    while page < end:
        name = page // replica.blocks_per_id
        if integers[replica.ids + theirs.first_id + name] != integers[replica.ids + ours.first_id + name]:
            return page
        page = (name + 1) * replica.blocks_per_id
    return end


@jit()
def child_with(requests, replica, integers, node, i, page):
    """The child of a node that begins with this page of request i, or NO_NODE."""
    first, _ = key_at(replica, requests[i], integers, page)
    return integers[child_entry(replica, integers, node, first)]


@jit()
def match(requests, replica, integers, i, most):
    """Go down the tree along the first pages, at most so many, of request i, and count that as access.

    Returns:
        The node that ends where they cease to agree, and the pages found.
    """
    node = replica.root
    found = np.int64(0)
    while found < most:
        child = child_with(requests, replica, integers, node, i, found)
        if child == NO_NODE:
            break
        node = child
        access(replica, integers, node)
        found = agree_until(requests, replica, integers, node, i, most)
        if found < integers[node + HI]:
            writer = integers[node + WRITER]
            first, _ = key_at(replica, requests[writer], integers, found)
            node = split(replica, integers, node, found, first)
    return node, found


@jit()
def matching_tokens(requests, replica, integers, i):
    """Prompt tokens that request i would find in the tree now; nothing changes [tokens]."""
    node = replica.root
    found = np.int64(0)
    most = full_blocks(np.int64(requests[i].prompt_tokens) - 1, replica)
    while found < most:
        node = child_with(requests, replica, integers, node, i, found)
        if node == NO_NODE:
            break
        found = agree_until(requests, replica, integers, node, i, most)
        if found < integers[node + HI]:
            break
    return found * replica.block_size


@jit()
def insert(requests, replica, integers, i, pages):
    """Put the first pages of request i, which it holds, into the tree; returns the node where they end.

    Where the tree has a page already, the request's own one is freed.
    """
    node, found = match(requests, replica, integers, i, pages)
    replica.free_blocks += found - requests[i].num_listed
    if found < pages:
        first, _ = key_at(replica, requests[i], integers, found)
        node = add_child(replica, integers, node, first, found, pages, i)
    return node


@jit()
def hold(request, replica, integers, node, pages):
    """Let a request lock the node that ends behind so many of its pages, in place of the one before."""
    lock(replica, integers, node)
    if request.last_use != NONE:
        unlock(replica, integers, np.int64(request.last_use))
    request.last_use = node
    request.num_listed = pages


@jit()
def let_go(request, replica, integers):
    """Let a request lock nothing any more."""
    unlock(replica, integers, np.int64(request.last_use))
    request.last_use = NONE
    request.num_listed = 0


@jit()
def keep_prefill(requests, replica, integers, i):
    """Put the full pages that request i has computed into the tree, and lock them, unless it is about to complete."""
    request = requests[i]
    if request.computed < request.prompt_tokens + request.output_tokens - 1:
        pages = full_blocks(request.computed, replica)
        hold(request, replica, integers, insert(requests, replica, integers, i, pages), pages)


@jit()
def leave_to_tree(requests, replica, integers, i, held, pages):
    """Put the first pages of request i, which completes, into the tree; the rest of those that it held are freed."""
    insert(requests, replica, integers, i, pages)
    replica.free_blocks += held - pages
    let_go(requests[i], replica, integers)


@jit()
def drop_own(request, replica, integers, held):
    """Free the own pages of a request that held so many in all, and let it lock nothing any more."""
    replica.free_blocks += held - request.num_listed
    let_go(request, replica, integers)
