"""The index of cached KV blocks: from a key to its pieces, an open-addressing hash table in the integer pool.

An entry is three integers: the key, the oldest and the newest of its pieces (`fastsim.kernel.pieces`), NONE in an empty
entry. A named block has its id as key, a private one -1 - the row of its request. Collisions go to the next entry;
taking a key out closes the gap it leaves, so that no search passes over graves. The table is never more than half full.
"""

from fastsim.kernel.jit import hash_bits, jit
from fastsim.kernel.state import NONE

#: Places within an entry, and its size.
OLDEST, NEWEST, ENTRY_SIZE = 1, 2, 3


@jit(forceinline=True)
def entry_of(replica, integers, key):
    """Place of the entry with this key, or of the empty one where it would be put."""
    slot = hash_bits(key) & replica.index_mask
    entry = replica.index + ENTRY_SIZE * slot
    while integers[entry + OLDEST] != NONE and integers[entry] != key:
        slot = (slot + 1) & replica.index_mask
        entry = replica.index + ENTRY_SIZE * slot
    return entry


@jit()
def remove_key(replica, integers, key):
    """Take a key, which must be in it, out of the index; later entries of its chain close the gap."""
    hole = (entry_of(replica, integers, key) - replica.index) // ENTRY_SIZE
    slot = hole
    while True:
        slot = (slot + 1) & replica.index_mask
        entry = replica.index + ENTRY_SIZE * slot
        if integers[entry + OLDEST] == NONE:
            break
        home = hash_bits(integers[entry]) & replica.index_mask
        # Whoever has its home behind the hole stays.
        if ((slot - home) & replica.index_mask) < ((slot - hole) & replica.index_mask):
            continue
        for k in range(ENTRY_SIZE):
            integers[replica.index + ENTRY_SIZE * hole + k] = integers[entry + k]
        hole = slot
    integers[replica.index + ENTRY_SIZE * hole + OLDEST] = NONE
