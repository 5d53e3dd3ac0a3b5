"""KV blocks that keep their content after they are freed (VLLM.md part 2), and what that content is called."""

from collections.abc import Iterable, Sequence

from reference.blocks import BlockPool

Identity = tuple[str, int, int]
"""Content of a full block: ("text", id, place) if the workload names it, else ("request", request id, place)."""


def named_blocks(ids: Sequence[int], block_tokens: int, block_size: int) -> list[Identity]:
    """Identities of the first KV blocks of a request, as far as the workload names them.

    Args:
        ids: What the workload calls the request's tokens, block_tokens at a time from the first on.
        block_tokens: Tokens of an id, a multiple of block_size or a divisor of it.
        block_size: Tokens of a KV block.

    Returns:
        Of block 0, 1, ...: the id that covers the block's last token, and the place.
    """
    names: list[Identity] = []
    for place in range(len(ids) * block_tokens // block_size):
        last_token = (place + 1) * block_size - 1
        names.append(("text", ids[last_token // block_tokens], place))
    return names


class PrefixCache(BlockPool):
    """Blocks with reference counts, and an index of those whose content somebody may use again.

    Attributes:
        references: How many requests hold each block.
        identities: Content of each cached block, those in the free queue included.
        index: Cached blocks with a content, in the order in which they were marked; duplicates are kept.
        uncached_first: Whether freed blocks that are not cached go to the front of the queue.
    """

    def __init__(self, num_usable_blocks: int, block_size: int, uncached_first: bool = False) -> None:
        """Start with every block free and nothing cached."""
        super().__init__(num_usable_blocks, block_size)
        self.references = dict.fromkeys(self.free, 0)
        self.identities: dict[int, Identity] = {}
        self.index: dict[Identity, list[int]] = {}
        self.uncached_first = uncached_first

    def find(self, identities: Iterable[Identity]) -> list[int]:
        """Blocks with the given contents, up to the first that nobody has; nothing is held."""
        found: list[int] = []
        for identity in identities:
            if identity not in self.index:
                break
            found.append(self.index[identity][0])
        return found

    def num_free_of(self, blocks: Iterable[int]) -> int:
        """How many of these blocks lie in the free queue."""
        return sum(self.references[block] == 0 for block in blocks)

    def touch(self, blocks: Iterable[int]) -> None:
        """Hold blocks that were found."""
        for block in blocks:
            if self.references[block] == 0:
                self.free.remove(block)
                self.used.add(block)
            self.references[block] += 1

    def take(self, count: int) -> list[int]:
        """Take blocks from the front of the queue, and forget what they held."""
        blocks = super().take(count)
        for block in blocks:
            self.references[block] += 1
            if block in self.identities:
                identity = self.identities.pop(block)
                self.index[identity].remove(block)
                if not self.index[identity]:
                    del self.index[identity]
        return blocks

    def mark(self, block: int, identity: Identity) -> None:
        """Make a held block findable, if it is not yet."""
        if block not in self.identities:
            self.identities[block] = identity
            self.index.setdefault(identity, []).append(block)

    def release(self, blocks: Iterable[int]) -> None:
        """Give up the blocks of a request, given in the order of its tokens: its last block first."""
        to_front: list[int] = []
        for block in reversed(list(blocks)):
            self.references[block] -= 1
            if self.references[block] == 0:
                self.used.remove(block)
                if self.uncached_first and block not in self.identities:
                    to_front.append(block)
                else:
                    self.free.append(block)
        # The last block of the request is the very next to be taken.
        self.free.extendleft(reversed(to_front))

    def check(self, holders: Iterable[Sequence[int]]) -> None:
        """Hold the invariants: references are holders, a block is free or held, the index names the cached blocks.

        Args:
            holders: The blocks of each request.

        Raises:
            AssertionError: One is broken.
        """
        counts = dict.fromkeys(self.references, 0)
        for blocks in holders:
            for block in blocks:
                counts[block] += 1
        if counts != self.references:
            raise AssertionError("the reference counts of the blocks are not their holders")
        held = {block for block, count in counts.items() if count > 0}
        if held != self.used or sorted([*self.free, *held]) != list(range(1, self.num_usable_blocks + 1)):
            raise AssertionError("a block is not in one of two places, the free queue and the hands of its holders")
        indexed = sorted((block, identity) for identity, blocks in self.index.items() for block in blocks)
        if indexed != sorted(self.identities.items()) or not all(self.index.values()):
            raise AssertionError("the index does not name exactly the cached blocks")
