"""Making and reading radix trees by hand."""

from typing import Any

from reference.prefix_cache import Identity
from reference.radix_cache import Node, RadixCache


def text(*ids: int) -> list[Identity]:
    return [("text", one, place) for place, one in enumerate(ids)]


def put(cache: RadixCache, *ids: int) -> None:
    """Let the tree have a text that nobody holds any more."""
    assert cache.insert(text(*ids), 0, cache.take(len(ids))) == []


def shape(node: Node) -> dict[tuple[int, ...], Any]:
    """Ids of the pages of each child, and what is below it."""
    return {tuple(one for _, one, _ in child.contents): shape(child) for child in node.children.values()}


def child(node: Node, *first_ids: int) -> Node:
    """The node to which the first page of each node on the way leads."""
    for one in first_ids:
        node = next(each for (_, name, _), each in node.children.items() if name == one)
    return node
