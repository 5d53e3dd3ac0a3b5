"""The radix tree of the reference: matching, splitting, locking, inserting and evicting, by hand."""

from typing import Any

import pytest
from reference.radix_cache import Node, RadixCache
from reference_tests.radix_trees import child, put, shape, text


def test_a_match_ends_where_pages_differ_and_splits_there() -> None:
    cache = RadixCache(9, 1)
    put(cache, 1, 2, 3)
    node = cache.match(text(1, 2, 9))
    assert (node, node.num_pages) == (child(cache.root, 1), 2)
    assert shape(cache.root) == {(1, 2): {(3,): {}}}
    # It entered the node, split it and entered the upper part.
    assert [each.access for each in cache.nodes()] == [3, 2]
    assert cache.match(text(1, 2, 3, 4)) is child(cache.root, 1, 3)
    assert [each.access for each in cache.nodes()] == [4, 5]
    assert cache.match(text(9)) is cache.root is cache.match([])
    assert cache.counter == 5


def test_an_equal_page_behind_another_one_is_not_the_same() -> None:
    """As a text goes on from its beginning."""
    cache = RadixCache(9, 1)
    put(cache, 1, 2)
    put(cache, 9, 2)
    assert shape(cache.root) == {(1, 2): {}, (9, 2): {}}


def test_to_count_changes_nothing() -> None:
    cache = RadixCache(9, 1)
    put(cache, 1, 2, 3)
    assert [cache.num_found(text(*ids)) for ids in [(1, 2, 3, 4), (1, 2, 9), (9,), ()]] == [3, 2, 0, 0]
    assert (shape(cache.root), cache.counter) == ({(1, 2, 3): {}}, 1)


def test_locks_count_all_the_way_up_and_both_parts_of_a_split_have_them() -> None:
    cache = RadixCache(9, 1)
    put(cache, 1, 2, 3)
    put(cache, 1, 2, 4, 5)
    # Of the second only what the first has not locked was evictable.
    last = child(cache.root, 1, 4)
    newly_locked = [cache.lock(child(cache.root, 1, 3)), cache.lock(last)]
    assert newly_locked == [3, 2]
    assert cache.num_evictable == 0
    cache.match(text(1, 2, 4))
    assert shape(cache.root) == {(1, 2): {(3,): {}, (4,): {(5,): {}}}}
    assert [child(cache.root, 1, *ids).locks for ids in [(), (3,), (4,), (4, 5)]] == [2, 1, 1, 1]
    # Who held [4, 5] holds both parts, and gives up both.
    cache.unlock(last)
    assert [child(cache.root, 1, *ids).locks for ids in [(), (3,), (4,), (4, 5)]] == [1, 1, 0, 0]
    assert (cache.num_evictable, cache.num_free, cache.num_used) == (2, 6, 3)


def test_an_insert_frees_what_the_tree_has_and_adds_the_rest() -> None:
    """The tree has [1, 2, 3]; a request that found [1] comes with 2, 4, 5 and a page that is not full."""
    cache = RadixCache(9, 1)
    put(cache, 1, 2, 3)
    held = cache.match(text(1))
    cache.lock(held)
    own = cache.take(4)
    assert cache.insert(text(1, 2, 4, 5), held.num_pages, own) == own[3:]
    assert shape(cache.root) == {(1,): {(2,): {(3,): {}, (4, 5): {}}}}
    assert child(cache.root, 1, 2, 4).pages == own[1:3]
    assert own[0] in cache.free
    assert (len(cache.free), cache.num_evictable, cache.num_used) == (3, 4, 2)
    cache.check([(held, text(1), own[3:])])


def test_whole_leaves_are_evicted_by_the_time_of_access() -> None:
    cache = RadixCache(9, 1)
    for ids in [(1, 2), (3,), (4, 5, 6)]:
        put(cache, *ids)
    cache.match(text(3))
    cache.evict(2)
    assert (shape(cache.root), len(cache.free)) == ({(3,): {}, (4, 5, 6): {}}, 5)
    cache.evict(0)
    # Of the three pages one is needed, two stay free.
    assert len(cache.take(6)) == 6
    assert (shape(cache.root), len(cache.free)) == ({(3,): {}}, 2)


def test_a_node_is_a_leaf_when_it_has_no_children_any_more() -> None:
    """The beginning was entered before one of the ends, and stays until both are gone."""
    cache = RadixCache(9, 1)
    put(cache, 1, 2, 3)
    put(cache, 1, 2, 4)
    assert [child(cache.root, 1, *ids).access for ids in [(), (3,), (4,)]] == [3, 2, 4]
    lefts: list[dict[tuple[int, ...], Any]] = [{(1, 2): {(4,): {}}}, {(1, 2): {}}, {}]
    for left in lefts:
        cache.evict(1)
        assert shape(cache.root) == left
    assert len(cache.free) == 9


def test_a_partial_match_refreshes_the_part_that_it_did_not_want() -> None:
    cache = RadixCache(9, 1)
    put(cache, 1, 2)
    put(cache, 3, 4)
    cache.match(text(1))
    cache.evict(1)
    assert shape(cache.root) == {(1,): {(2,): {}}}


def test_what_is_held_is_not_evicted() -> None:
    cache = RadixCache(9, 1)
    put(cache, 1, 2, 3)
    put(cache, 4)
    cache.lock(node := cache.match(text(1, 2)))
    cache.evict(9)
    assert (shape(cache.root), cache.num_free, cache.num_used) == ({(1, 2): {}}, 7, 2)
    cache.unlock(node)
    assert (cache.num_free, len(cache.free)) == (9, 7)


@pytest.mark.parametrize(
    ("corrupt", "message"),
    [
        ("free", "a page is not in one of three places"),
        ("own", "a page is not in one of three places"),
        ("locks", "the lock counts of the nodes"),
        ("text", "a request holds a node that is not on the path of its text"),
        ("gone", "a request holds a node that is not in the tree"),
        ("place", "a node does not stand where its text says"),
        ("access", "two nodes have the same access number"),
    ],
)
def test_broken_invariants_are_found(corrupt: str, message: str) -> None:
    cache = RadixCache(9, 1)
    put(cache, 1, 2)
    put(cache, 3)
    cache.lock(node := cache.match(text(1)))
    own = cache.take(1)
    cache.check([(node, text(1), own)])
    match corrupt:
        case "free":
            cache.free.popleft()
        case "own":
            cache.used.clear()
        case "locks":
            child(cache.root, 3).locks = 1
        case "text":
            node.contents = text(7)
        case "gone":
            cache.root.children[("text", 1, 0)] = Node(cache.root, text(1), node.pages, 1, node.access, node.children)
        case "place":
            child(cache.root, 1, 2).parent = cache.root
        case "access":
            node.access = child(cache.root, 3).access
    with pytest.raises(AssertionError, match=message):
        cache.check([(node, text(1), own)])
