"""The KV pages of the requests of sglang, with or without a radix cache (docs/policies.md, section 12)."""

from collections.abc import Iterable

from reference.blocks import BlockPool
from reference.config import ReferenceConfig
from reference.prefix_cache import Identity
from reference.radix_cache import Node, RadixCache
from reference.requests import Request


class RequestPages:
    """Gives requests their pages. With a cache a request holds a node of it and, as its blocks, own pages behind that.

    Attributes:
        pool: The pages; a RadixCache if enable_prefix_caching.
    """

    def __init__(self, config: ReferenceConfig) -> None:
        """Start with all pages free."""
        self._cache: RadixCache | None = None
        if config.enable_prefix_caching:
            self._cache = RadixCache(config.num_usable_blocks, config.block_size)
        self.pool = self._cache or BlockPool(config.num_usable_blocks, config.block_size)

    def num_found(self, request: Request) -> int:
        """Tokens with which a request that is about to arrive begins and that are cached now; changes nothing."""
        if self._cache is None:
            return 0
        contents = self._contents(request, request.prompt_tokens - 1)
        return self._cache.num_found(contents) * self.pool.block_size

    def match(self, request: Request) -> Node | None:
        """The node with which the head of the queue begins; at least one token of its target is left to compute."""
        if self._cache is None:
            return None
        return self._cache.match(self._contents(request, request.prefill_tokens - 1))

    def tokens_of(self, node: Node | None) -> int:
        """Tokens above a node and in it."""
        return node.num_pages * self.pool.block_size if node is not None else 0

    def hold(self, request: Request, node: Node | None) -> int:
        """Let the head of the queue have what was found for it; returns tokens of which that makes the pool shorter."""
        request.computed_tokens = self.tokens_of(node)
        request.node = node
        if self._cache is None or node is None:
            return 0
        return self._cache.lock(node) * self.pool.block_size

    def take(self, request: Request, stored_tokens: int) -> None:
        """Give a request pages until it has room for so many tokens."""
        held_tokens = self.tokens_of(request.node) + len(request.blocks) * self.pool.block_size
        request.blocks += self.pool.take(self.pool.blocks_for(stored_tokens - held_tokens))

    def insert(self, request: Request) -> None:
        """Let the cache have the full pages of what a request has computed, and let it hold them there."""
        if self._cache is None:
            return
        assert request.node is not None
        contents = self._contents(request, request.computed_tokens)
        request.blocks = self._cache.insert(contents, request.node.num_pages, request.blocks)
        node = self._cache.match(contents)
        self._cache.lock(node)
        self._cache.unlock(request.node)
        request.node = node

    def finish(self, request: Request) -> None:
        """Let the cache have the full pages of a request that is finished, and take everything from it."""
        if self._cache is not None:
            assert request.node is not None
            contents = self._contents(request, request.stored_tokens)
            request.blocks = self._cache.insert(contents, request.node.num_pages, request.blocks)
        self.release(request)

    def release(self, request: Request) -> None:
        """Take all pages from a request."""
        self.pool.release(request.blocks)
        request.blocks = []
        if self._cache is not None and request.node is not None:
            self._cache.unlock(request.node)
        request.node = None

    def make_room(self, tokens: int) -> None:
        """Evict until pages for so many tokens are free, as far as that goes."""
        if self._cache is not None:
            self._cache.evict(self.pool.blocks_for(tokens) - len(self._cache.free))

    def check(self, holding: Iterable[Request], waiting: Iterable[Request]) -> None:
        """Hold the invariants of the pages.

        Raises:
            AssertionError: One is broken.
        """
        if any(request.blocks or request.node is not None for request in waiting):
            raise AssertionError("a request that waits holds pages")
        if self._cache is None:
            return
        holders = []
        for request in holding:
            assert request.node is not None
            contents = self._contents(request, self.tokens_of(request.node))
            holders.append((request.node, contents, request.blocks))
        self._cache.check(holders)

    def _contents(self, request: Request, tokens: int) -> list[Identity]:
        """What the full pages of the first so many tokens of a request hold."""
        return [request.identity(place) for place in range(tokens // self.pool.block_size)]
