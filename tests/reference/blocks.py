"""The KV blocks of one replica (VLLM.md part 2), prefix caching off."""

from collections import deque
from collections.abc import Iterable


class BlockPool:
    """Blocks 1..N and the queue of the free ones; block 0 is the null block and never given out.

    Attributes:
        block_size: Tokens of a block.
        num_usable_blocks: N.
        free: Ids of the free blocks; taken from the left, returned to the right.
        used: Ids of the blocks that somebody holds.
    """

    def __init__(self, num_usable_blocks: int, block_size: int) -> None:
        """Start with every block free, in ascending order."""
        self.block_size = block_size
        self.num_usable_blocks = num_usable_blocks
        self.free = deque(range(1, num_usable_blocks + 1))
        self.used: set[int] = set()

    @property
    def num_free(self) -> int:
        """Length of the free queue."""
        return len(self.free)

    @property
    def num_used(self) -> int:
        """Blocks that somebody holds."""
        return len(self.used)

    def blocks_for(self, tokens: int) -> int:
        """Blocks that hold so many tokens."""
        return -(-tokens // self.block_size)

    def take(self, count: int) -> list[int]:
        """Take blocks from the front of the queue; the caller has checked that there are enough."""
        if not 0 <= count <= len(self.free):
            raise AssertionError(f"{count} blocks are asked for and {len(self.free)} are free")
        blocks = [self.free.popleft() for _ in range(count)]
        self.used.update(blocks)
        return blocks

    def release(self, blocks: Iterable[int]) -> None:
        """Return the blocks of a request, given in the order of its tokens, to the back: its last block first."""
        for block in reversed(list(blocks)):
            self.used.remove(block)
            self.free.append(block)
