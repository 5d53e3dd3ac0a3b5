"""Making the prefix cache of a run: what `fastsim.kernel.prepare` lays out in the pool for it."""

from typing import Any

import numpy as np

from fastsim.kernel.pieces import PIECE_SIZE
from fastsim.kernel.prefix_cache import USE_SIZE
from fastsim.kernel.prefix_index import ENTRY_SIZE, OLDEST
from fastsim.kernel.radix_tree import LOCKS, NODE_SIZE
from fastsim.kernel.state import NONE


def cache_parts(replicas: np.ndarray, longest: int, named_blocks: Any) -> dict[str, int]:
    """The parts of the prefix cache in the pool of a replica, with their sizes; none without a cache.

    They are as large as the worst case needs, a piece for every block and a use for every block of every running
    request; the memory of what is never touched is never taken.
    """
    replica = replicas[0]
    if not replica["caching"]:
        return {}
    num_blocks, most_blocks = int(replica["num_blocks"]), longest // int(replica["block_size"]) + 1
    entries = 1 << (2 * num_blocks).bit_length()
    if replica["radix"]:
        replicas["children_mask"] = entries - 1
        # A node for every page, and the root.
        return {"children": entries, "next_node": NODE_SIZE * (num_blocks + 1)}
    replicas["index_mask"] = entries - 1
    named = 0 if named_blocks is None else min(most_blocks, int(named_blocks.num_named.max()))
    return {
        "index": ENTRY_SIZE * entries,
        "found": 2 * most_blocks,
        "next_piece": PIECE_SIZE * (num_blocks + 2),
        "next_use": USE_SIZE * named * int(replica["max_num_seqs"]),
    }


def empty_cache(replica: np.void, integers: np.ndarray) -> None:
    """Write an empty prefix cache into the parts of a replica, in place."""
    if replica["radix"]:
        replica["root"] = replica["next_node"]
        integers[replica["root"] + LOCKS] = 1  # for ever
        replica["next_node"] += NODE_SIZE
    elif replica["caching"]:
        integers[replica["index"] + OLDEST : replica["found"] : ENTRY_SIZE] = NONE


def name_requests(table: np.ndarray, named_blocks: Any) -> None:
    """Write where the names of its blocks are into each REQUEST or PENDING record, in place."""
    rows = table["row"] if "row" in (table.dtype.names or ()) else slice(None)
    table["first_id"], table["num_named"] = named_blocks.first_id[rows], named_blocks.num_named[rows]
