"""The KV blocks of the requests of vllm_v1, with or without a prefix cache (docs/policies.md, section 9)."""

from collections.abc import Iterable

from reference.blocks import BlockPool
from reference.config import ReferenceConfig
from reference.prefix_cache import PrefixCache
from reference.requests import Request


class RequestBlocks:
    """Gives requests their blocks, and keeps account of which of those are cached.

    As the engine does, but for one thing. A block that a decode fills the engine marks as cached at once; here it is
    counted as marked then, and enters the index when its request gives it up. Nobody else can have a use for it before,
    unless the workload names it.

    Attributes:
        pool: The blocks; a PrefixCache if enable_prefix_caching.
    """

    def __init__(self, config: ReferenceConfig) -> None:
        """Start with all blocks free."""
        self._cache: PrefixCache | None = None
        if config.enable_prefix_caching:
            self._cache = PrefixCache(config.num_usable_blocks, config.block_size, config.uncached_blocks_first)
        self.pool = self._cache or BlockPool(config.num_usable_blocks, config.block_size)

    def find(self, request: Request) -> list[int]:
        """Blocks in the cache with which a request begins; at least one known token is left to compute."""
        if self._cache is None:
            return []
        return self._cache.find(map(request.identity, range((request.known_tokens - 1) // self.pool.block_size)))

    def num_free_beside(self, found: list[int]) -> int:
        """Length of the free queue once the blocks that were found are held."""
        return self.pool.num_free - (self._cache.num_free_of(found) if self._cache is not None else 0)

    def hold(self, request: Request, found: list[int]) -> None:
        """Give a request that is being admitted the blocks that were found for it."""
        if self._cache is not None:
            self._cache.touch(found)
            request.blocks = list(found)
            request.marked_blocks = len(found)
            request.computed_tokens = len(found) * self.pool.block_size

    def take(self, request: Request, count: int) -> None:
        """Give a request blocks from the front of the free queue."""
        request.blocks += self.pool.take(count)

    def count_marked(self, request: Request, tokens: int) -> None:
        """Count the full blocks of so many tokens as marked."""
        if self._cache is not None:
            request.marked_blocks = max(request.marked_blocks, tokens // self.pool.block_size)

    def mark_counted(self, request: Request) -> None:
        """Let the index have all blocks that were counted."""
        if self._cache is not None:
            for place in range(request.marked_blocks):
                self._cache.mark(request.blocks[place], request.identity(place))

    def release(self, request: Request) -> None:
        """Take all blocks from a request."""
        self.mark_counted(request)
        self.pool.release(request.blocks)
        request.blocks = []
        request.marked_blocks = 0

    def check(self, running: Iterable[Request], waiting: Iterable[Request]) -> None:
        """Hold the invariants of the blocks.

        Raises:
            AssertionError: One is broken.
        """
        if self._cache is not None:
            self._cache.check([request.blocks for request in running])
        if any(request.blocks or request.marked_blocks for request in waiting):
            raise AssertionError("a request that waits holds blocks")
