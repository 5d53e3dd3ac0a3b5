"""KV pages that stay in a radix tree of texts after their requests have left them (docs/policies.md, section 12)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from reference.blocks import BlockPool
from reference.prefix_cache import Identity


@dataclass(eq=False)
class Node:
    """A run of consecutive pages of a text, below the node with the pages before them.

    Attributes:
        parent: The node above; None above the root only.
        contents: What its pages hold; the root has none.
        pages: Their ids.
        locks: How many requests hold it or a node below it.
        access: When it was last entered, on the counter of its tree.
        children: The nodes below, by what their first page holds.
    """

    parent: "Node | None" = None
    contents: list[Identity] = field(default_factory=list)
    pages: list[int] = field(default_factory=list)
    locks: int = 0
    access: int = 0
    children: dict[Identity, "Node"] = field(default_factory=dict)

    @property
    def path(self) -> "list[Node]":
        """The nodes from the root down to this one, the root left out."""
        return [] if self.parent is None else [*self.parent.path, self]

    @property
    def num_pages(self) -> int:
        """Pages above it and its own."""
        return sum(len(node.pages) for node in self.path)

    def agreeing(self, contents: Sequence[Identity]) -> int:
        """How many of its pages are the given ones, counted from the first."""
        count = 0
        for mine, other in zip(self.contents, contents, strict=False):
            if mine != other:
                break
            count += 1
        return count


class RadixCache(BlockPool):
    """A page is free, in a node of the tree, or the own page of one request, which `used` of BlockPool holds.

    Attributes:
        root: The empty node above all others.
        counter: The access number given last.
    """

    def __init__(self, num_usable_blocks: int, block_size: int) -> None:
        """Start with every page free and an empty tree."""
        super().__init__(num_usable_blocks, block_size)
        self.root = Node(locks=1)
        self.counter = 0

    @property
    def num_evictable(self) -> int:
        """Pages of nodes that nobody holds."""
        return sum(len(node.pages) for node in self.nodes() if node.locks == 0)

    @property
    def num_free(self) -> int:
        """Pages that can be taken."""
        return len(self.free) + self.num_evictable

    @property
    def num_used(self) -> int:
        """Pages that somebody holds, those held by several counted once."""
        return self.num_usable_blocks - self.num_free

    def nodes(self) -> Iterator[Node]:
        """All nodes but the root."""
        found = list(self.root.children.values())
        for node in found:
            found += node.children.values()
        return iter(found)

    def num_found(self, contents: Sequence[Identity]) -> int:
        """Pages that a match would find; changes nothing."""
        node, count = self.root, 0
        while count < len(contents) and contents[count] in node.children:
            node = node.children[contents[count]]
            agreeing = node.agreeing(contents[count:])
            count += agreeing
            if agreeing < len(node.contents):
                break
        return count

    def match(self, contents: Sequence[Identity]) -> Node:
        """The node that ends where the tree has no more of the given pages; refreshes all above it."""
        node, count = self.root, 0
        while count < len(contents) and contents[count] in node.children:
            node = node.children[contents[count]]
            self._refresh(node)
            agreeing = node.agreeing(contents[count:])
            count += agreeing
            if agreeing < len(node.contents):
                return self._split(node, agreeing)
        return node

    def lock(self, node: Node) -> int:
        """Hold a node and all above it; returns how many pages that made unevictable."""
        newly_held = [each for each in node.path if each.locks == 0]
        for each in node.path:
            each.locks += 1
        return sum(len(each.pages) for each in newly_held)

    def unlock(self, node: Node) -> None:
        """Give up a node and all above it."""
        for each in node.path:
            each.locks -= 1

    def insert(self, contents: Sequence[Identity], num_before: int, own_pages: Sequence[int]) -> list[int]:
        """Let the tree have the first pages of a text.

        Args:
            contents: What they hold.
            num_before: How many of them are in the tree and held, so that they are not among own_pages.
            own_pages: Ids of all pages behind those, perhaps beyond contents.

        Returns:
            The own pages beyond contents. The others are the tree's or, if it had them already, free.
        """
        node = self.match(contents)
        in_tree = node.num_pages
        if not num_before <= in_tree <= len(contents):
            raise AssertionError(
                f"{in_tree} pages are in the tree, {num_before} were held, {len(contents)} are inserted"
            )
        twice, new, rest = _cut(own_pages, in_tree - num_before, len(contents) - num_before)
        self.release(twice)
        if new:
            child = Node(parent=node, contents=list(contents[in_tree:]), pages=new)
            node.children[child.contents[0]] = child
            self._refresh(child)
            self.used.difference_update(new)
        return rest

    def evict(self, count: int) -> None:
        """Remove whole leaves that nobody holds, those entered longest ago first, until so many pages are free anew."""
        evicted = 0
        while evicted < count:
            leaves = [node for node in self.nodes() if not node.children and node.locks == 0]
            if not leaves:
                return
            oldest = min(leaves, key=lambda node: node.access)
            assert oldest.parent is not None
            del oldest.parent.children[oldest.contents[0]]
            self.free.extend(oldest.pages)
            evicted += len(oldest.pages)

    def take(self, count: int) -> list[int]:
        """Take free pages, after evicting what lacks; the caller has checked that this can be done."""
        self.evict(count - len(self.free))
        return super().take(count)

    def check(self, holders: Sequence[tuple[Node, Sequence[Identity], Sequence[int]]]) -> None:
        """Hold the invariants of pages, locks and the tree.

        Args:
            holders: Of each request that holds pages: its node, what the pages above and at that hold, its own pages.

        Raises:
            AssertionError: One is broken.
        """
        nodes = list(self.nodes())
        in_tree = [page for node in nodes for page in node.pages]
        own = [page for _, _, pages in holders for page in pages]
        if sorted([*self.free, *in_tree, *own]) != list(range(1, self.num_usable_blocks + 1)) or set(own) != self.used:
            raise AssertionError("a page is not in one of three places, the free ones, a node and those of one request")
        locks = {node: 0 for node in nodes}
        for held, contents, _ in holders:
            for node in held.path:
                if node not in locks:
                    raise AssertionError("a request holds a node that is not in the tree")
                locks[node] += 1
            if [content for node in held.path for content in node.contents] != list(contents):
                raise AssertionError("a request holds a node that is not on the path of its text")
        if any(node.locks != count for node, count in locks.items()):
            raise AssertionError("the lock counts of the nodes are not their holders")
        for node in [self.root, *nodes]:
            for content, child in node.children.items():
                if child.parent is not node or child.contents[0] != content or len(child.contents) != len(child.pages):
                    raise AssertionError("a node does not stand where its text says")
                if child.locks > node.locks and node is not self.root:
                    raise AssertionError("a node is held by more than the node above it")
        if len({node.access for node in nodes}) < len(nodes):
            raise AssertionError("two nodes have the same access number")

    def _refresh(self, node: Node) -> None:
        """Give a node that is entered the next access number."""
        self.counter += 1
        node.access = self.counter

    def _split(self, lower: Node, count: int) -> Node:
        """Give the first pages of a node to a new one above it, which is entered."""
        assert lower.parent is not None
        upper = Node(lower.parent, lower.contents[:count], lower.pages[:count], lower.locks)
        lower.contents, lower.pages = lower.contents[count:], lower.pages[count:]
        upper.parent.children[upper.contents[0]] = upper
        upper.children[lower.contents[0]] = lower
        lower.parent = upper
        self._refresh(upper)
        return upper


def _cut(pages: Sequence[int], first: int, second: int) -> tuple[list[int], list[int], list[int]]:
    """The pages before the first place, those between it and the second, and those behind."""
    return list(pages[:first]), list(pages[first:second]), list(pages[second:])
