"""A radix tree of KV pages in the integer pool: its nodes, the table of children, and the list of unlocked leaves.

A *node* is the pages ``lo`` to ``hi - 1`` of the text of the request that wrote them, and stands below the node with
the pages before them; so a node costs as much with one page as with a thousand. The root has none. Children are found
through an open-addressing hash table by their parent and the identity of their first page; it is never more than half
full, and its entries are places of nodes. 0 is no node, because the pool does not begin with nodes.

A node is locked as often as requests lock it and as it has locked children. The pages of the others are *evictable*:
they count as free (``free_blocks``), and are given up when fewer than are taken are free without them, by the leaf. The
unlocked leaves are a list in order of access numbers. All functions modify their arguments in place.
"""

import numpy as np

from fastsim.kernel.jit import hash_bits, jit

#: Places within a node: the node above it; its pages [LO, HI) and the request that wrote them; the identity of the
#: first; its locks, its children, its access number; its neighbours among the unlocked leaves.
PARENT, LO, HI, WRITER, FIRST, LOCKS, CHILDREN, ACCESS, OLDER, NEWER = range(10)
NODE_SIZE = 10

NO_NODE = 0


@jit(forceinline=True)
def home_of(replica, parent, first):
    """Where the search for a child begins, counted from the beginning of the table."""
    return hash_bits(first ^ (parent << 20)) & replica.children_mask


@jit(forceinline=True)
def child_entry(replica, integers, parent, first):
    """Place of the entry of the child that begins with this page, or of the empty one where it would be put."""
    slot = home_of(replica, parent, first)
    while True:
        node = integers[replica.children + slot]
        if node == NO_NODE or (integers[node + FIRST] == first and integers[node + PARENT] == parent):
            return replica.children + slot
        slot = (slot + 1) & replica.children_mask


@jit()
def remove_child(replica, integers, node):
    """Take a node out of the table; later entries of its chain close the gap."""
    hole = child_entry(replica, integers, integers[node + PARENT], integers[node + FIRST]) - replica.children
    slot = hole
    while True:
        slot = (slot + 1) & replica.children_mask
        other = integers[replica.children + slot]
        if other == NO_NODE:
            break
        home = home_of(replica, integers[other + PARENT], integers[other + FIRST])
        # Whoever has its home behind the hole stays.
        if ((slot - home) & replica.children_mask) < ((slot - hole) & replica.children_mask):
            continue
        integers[replica.children + hole] = other
        hole = slot
    integers[replica.children + hole] = NO_NODE


@jit()
def new_node(replica, integers, parent, first, lo, hi, writer):
    """A node without locks and children, which its parent does not know yet; returns its place."""
    node = replica.spare_node
    if node == NO_NODE:
        node = replica.next_node
        replica.next_node = node + NODE_SIZE
    else:
        replica.spare_node = integers[node + OLDER]
    integers[node + PARENT] = parent
    integers[node + LO] = lo
    integers[node + HI] = hi
    integers[node + WRITER] = writer
    integers[node + FIRST] = first
    integers[node + LOCKS] = 0
    integers[node + CHILDREN] = 0
    return node


@jit()
def add_child(replica, integers, parent, first, lo, hi, writer):
    """Put pages, which were in use, below a node, as its newest child; nobody locks them. Returns the child."""
    if is_free_leaf(integers, parent):
        unlink_leaf(replica, integers, parent)
    integers[parent + CHILDREN] += 1
    node = new_node(replica, integers, parent, first, lo, hi, writer)
    integers[child_entry(replica, integers, parent, first)] = node
    count_evictable(replica, hi - lo)
    number(replica, integers, node)
    link_leaf(replica, integers, node, replica.newest_leaf)
    return node


@jit()
def split(replica, integers, node, page, first):
    """Divide a node before this page, whose identity is ``first``; returns the upper part, a new node just accessed.

    The lower part stays what requests lock and what the children stand below.
    """
    parent, writer = integers[node + PARENT], integers[node + WRITER]
    upper = new_node(replica, integers, parent, integers[node + FIRST], integers[node + LO], page, writer)
    integers[child_entry(replica, integers, parent, integers[node + FIRST])] = upper
    integers[upper + LOCKS] = min(np.int64(1), integers[node + LOCKS])
    integers[upper + CHILDREN] = 1
    number(replica, integers, upper)
    integers[node + PARENT] = upper
    integers[node + LO] = page
    integers[node + FIRST] = first
    integers[child_entry(replica, integers, upper, first)] = node
    return upper


@jit()
def number(replica, integers, node):
    """Give a node the next access number."""
    replica.access += 1
    integers[node + ACCESS] = replica.access


@jit()
def access(replica, integers, node):
    """Give a node that is in the tree the next access number."""
    number(replica, integers, node)
    if is_free_leaf(integers, node) and replica.newest_leaf != node:
        unlink_leaf(replica, integers, node)
        link_leaf(replica, integers, node, replica.newest_leaf)


@jit()
def is_free_leaf(integers, node):
    """Whether a node may be evicted."""
    return integers[node + LOCKS] == 0 and integers[node + CHILDREN] == 0


@jit()
def count_evictable(replica, pages):
    """Count (or with a negative number discount) pages of unlocked nodes."""
    replica.evictable += pages
    replica.free_blocks += pages


@jit()
def lock(replica, integers, node):
    """Lock a node, and thereby those above it."""
    place = np.int64(node)
    while integers[place + LOCKS] == 0:
        if integers[place + CHILDREN] == 0:
            unlink_leaf(replica, integers, place)
        integers[place + LOCKS] = 1
        count_evictable(replica, integers[place + LO] - integers[place + HI])
        place = integers[place + PARENT]
    integers[place + LOCKS] += 1


@jit()
def unlock(replica, integers, node):
    """Take a lock off a node, and thereby off those above it that nothing else locks."""
    place = np.int64(node)
    integers[place + LOCKS] -= 1
    while integers[place + LOCKS] == 0:
        count_evictable(replica, integers[place + HI] - integers[place + LO])
        if integers[place + CHILDREN] == 0:
            # Mostly it has just been accessed.
            before = replica.newest_leaf
            while before != NO_NODE and integers[before + ACCESS] > integers[place + ACCESS]:
                before = integers[before + OLDER]
            link_leaf(replica, integers, place, before)
        place = integers[place + PARENT]
        integers[place + LOCKS] -= 1


@jit()
def link_leaf(replica, integers, node, before):
    """Put a node into the list of unlocked leaves, behind this one; NO_NODE to put it at the beginning."""
    behind = replica.oldest_leaf if before == NO_NODE else integers[before + NEWER]
    integers[node + OLDER] = before
    integers[node + NEWER] = behind
    if before == NO_NODE:
        replica.oldest_leaf = node
    else:
        integers[before + NEWER] = node
    if behind == NO_NODE:
        replica.newest_leaf = node
    else:
        integers[behind + OLDER] = node


@jit()
def unlink_leaf(replica, integers, node):
    """Take a node out of the list of unlocked leaves."""
    before, behind = integers[node + OLDER], integers[node + NEWER]
    if before == NO_NODE:
        replica.oldest_leaf = behind
    else:
        integers[before + NEWER] = behind
    if behind == NO_NODE:
        replica.newest_leaf = before
    else:
        integers[behind + OLDER] = before


@jit()
def evict(replica, integers, pages):
    """Remove unlocked leaves, those accessed longest ago first, until so many pages are free or no leaf is left."""
    left = np.int64(pages)
    while left > 0 and replica.oldest_leaf != NO_NODE:
        node = replica.oldest_leaf
        unlink_leaf(replica, integers, node)
        remove_child(replica, integers, node)
        size = integers[node + HI] - integers[node + LO]
        left -= size
        replica.evictable -= size
        parent = integers[node + PARENT]
        integers[node + OLDER] = replica.spare_node
        replica.spare_node = node
        integers[parent + CHILDREN] -= 1
        if is_free_leaf(integers, parent):
            # Mostly it was accessed just before what has been evicted, so before all others.
            behind = replica.oldest_leaf
            while behind != NO_NODE and integers[behind + ACCESS] < integers[parent + ACCESS]:
                behind = integers[behind + NEWER]
            before = replica.newest_leaf if behind == NO_NODE else integers[behind + OLDER]
            link_leaf(replica, integers, parent, before)
