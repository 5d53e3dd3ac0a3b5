from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traces import TraceError, Workload

MAX_ID = 2**62 - 1


def lists(workload: Workload) -> list[list[int]]:
    """The ids of each request."""
    return [part.tolist() for part in np.split(workload.block_ids, workload.block_offsets[1:-1])]


def example(ids=((5, 6, 7), (), (5, 8)), **more) -> Workload:
    """Three requests of up to 5, 1 and 4 blocks of 16 tokens, out of order."""
    given_ids = {"block_ids": ids, "block_tokens": 16, **more}
    return Workload.from_arrays([3.0, 1.0, 2.0], [50, 8, 30], [20, 8, 20], **given_ids)


requests = st.lists(st.tuples(st.integers(0, 5), st.lists(st.integers(0, MAX_ID), max_size=5)), min_size=1, max_size=20)


@settings(max_examples=50, deadline=None)
@given(requests, st.data())
def test_ids_stay_with_their_requests(rows, data):
    n = len(rows)
    workload = Workload.from_arrays(
        [row[0] for row in rows], [49] * n, [1] * n, block_ids=[row[1] + [3] for row in rows], block_tokens=7
    )
    wanted = [row[1] + [3] for row in sorted(rows, key=lambda row: row[0])]
    assert lists(workload) == wanted
    assert workload.block_ids.dtype == workload.block_offsets.dtype == np.int64
    k = data.draw(st.integers(1, n))
    assert lists(workload.head(k)) == wanted[:k]
    assert lists(workload.repeated(k)) == wanted * k
    counts = np.array(data.draw(st.lists(st.integers(0, 7), min_size=n, max_size=n)))
    cut = workload.blocks.cut(counts)
    assert [cut.values[start:end].tolist() for start, end in zip(cut.offsets, cut.offsets[1:], strict=False)] == [
        ids[:count] for ids, count in zip(wanted, counts, strict=True)
    ]


def test_flat_ids_are_the_same_as_lists():
    flat = example(np.array([5, 6, 7, 5, 8], np.uint32), block_offsets=[0, 3, 3, 5])
    assert lists(flat) == lists(example()) == [[], [5, 8], [5, 6, 7]]
    assert flat.hash == example().hash
    again = Workload.from_arrays(
        flat.arrival_s,
        flat.prompt_tokens,
        flat.output_tokens,
        block_ids=flat.block_ids,
        block_offsets=flat.block_offsets,
        block_tokens=flat.block_tokens,
    )
    assert again.hash == flat.hash


def test_changes_of_other_columns_keep_the_ids():
    workload = example()
    for other in (workload.scaled(7), workload.with_classes((0.5, 0.5))):
        assert lists(other) == lists(workload)
        assert other.block_tokens == 16


def test_without_ids():
    workload = example(None, block_tokens=None)
    assert workload.block_tokens == 0
    assert workload.block_ids.tolist() == []
    assert workload.block_offsets.tolist() == [0, 0, 0, 0]
    assert workload.hash == Workload.from_arrays([3.0, 1.0, 2.0], [50, 8, 30], [20, 8, 20]).hash
    assert lists(workload.repeated(2).head(4)) == [[]] * 4


def test_hash_covers_the_ids():
    others = [
        example(),
        example(block_tokens=17),
        example(((5, 6), (7,), (5, 8))),
        example(((5, 6, 9), (), (5, 8))),
        example(((), (), ())),
        example(None, block_tokens=None),
    ]
    assert len({workload.hash for workload in others}) == len(others)


def test_ids_are_read_only_copies():
    ids, offsets = np.array([5, 6]), np.array([0, 2])
    workload = Workload.from_arrays([0.0], [32], [1], block_ids=ids, block_offsets=offsets, block_tokens=16)
    ids[0] = offsets[1] = 1
    assert lists(workload) == [[5, 6]]
    for array in (workload.block_ids, workload.block_offsets):
        assert not array.flags.writeable


RAGGED = "give one sequence of ids per request, or all of them flat with block_offsets"


@pytest.mark.parametrize(
    ("given_ids", "sentence"),
    [
        ({"ids": None}, "block_tokens is given without block_ids; give both, or neither."),
        (
            {"ids": None, "block_tokens": None, "block_offsets": [0]},
            "block_offsets is given without block_ids; give both, or neither.",
        ),
        ({"block_tokens": None}, "block_tokens is None; give a whole number from 1 to 2147483647."),
        ({"block_tokens": 0}, "block_tokens is 0; give a whole number from 1 to 2147483647."),
        ({"ids": [5, 6, 7]}, f"block_ids is not a sequence of sequences; {RAGGED}."),
        ({"ids": [[5]]}, f"block_ids has 1 elements where arrival_s has 3; {RAGGED}."),
        ({"ids": [[5], [], [[6]]]}, f"block_ids is not a flat sequence of whole numbers; {RAGGED}."),
        ({"ids": [[5], [], [-1]]}, f"block_ids has the id -1 at index 2; give whole numbers from 0 to {MAX_ID}."),
        (
            {"ids": [[5], [MAX_ID + 1], []]},
            f"block_ids has the id {MAX_ID + 1} at index 1; give whole numbers from 0 to {MAX_ID}.",
        ),
        (
            {"ids": [[5], [], [1.0]]},
            f"block_ids has elements of type float64; give whole numbers from 0 to {MAX_ID}.",
        ),
        ({"ids": [[], ["a"], []]}, f"block_ids has elements of type <U1; give whole numbers from 0 to {MAX_ID}."),
        (
            {"ids": [[1], [1, 2], []]},
            "block_ids has 2 ids at index 1, for a prompt and output of 16 tokens; give at most 1, one per 16 tokens.",
        ),
        ({"ids": [[5]], "block_offsets": [0, 1, 1, 1]}, f"block_ids has 2 dimensions; {RAGGED}."),
        (
            {"ids": [5], "block_offsets": [0, 1]},
            "block_offsets has 2 elements where arrival_s has 3; give 4: one per request, and the end.",
        ),
        (
            {"ids": [5, 6], "block_offsets": [0, 1, 1, 1]},
            "block_offsets is out of order; let it rise from 0 to the number of ids, 2.",
        ),
        (
            {"ids": [5, 6], "block_offsets": [0, 2, 1, 2]},
            "block_offsets is out of order; let it rise from 0 to the number of ids, 2.",
        ),
    ],
)
def test_refuses_bad_ids(given_ids, sentence):
    with pytest.raises(TraceError) as caught:
        example(**given_ids)
    assert str(caught.value) == sentence


def test_ids_of_other_requests_are_refused():
    with pytest.raises(TraceError, match=r"^blocks are those of 2 requests where arrival_s has 3; give those of the"):
        replace(example(), blocks=example().head(2).blocks)
