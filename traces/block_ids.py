"""Which requests begin with the same text: ids of its blocks, a list of any length per request in flat arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from traces.errors import MAX_TOKENS, TraceError, shown, whole_number

MAX_ID: Final = 2**62 - 1
"""Largest block id."""
_RAGGED: Final = "give one sequence of ids per request, or all of them flat with block_offsets"


@dataclass(frozen=True, eq=False)
class BlockIds:
    """Ids of the blocks of each request, in arrays that nobody writes to; `checked` makes them of what a user gives.

    Attributes:
        values: the ids, those of one request behind those of the other, 0 to 2**62 - 1; int64, shape (m,).
        offsets: where those of each request begin, and the end of the last; int64, shape (n + 1,).
        tokens: tokens of a block, 1 to 2**31 - 1, or 0 where requests have no ids.
    """

    values: NDArray[np.int64]
    offsets: NDArray[np.int64]
    tokens: int

    def __post_init__(self) -> None:
        """Freeze the arrays."""
        self.values.setflags(write=False)
        self.offsets.setflags(write=False)

    @classmethod
    def none(cls, n: int) -> "BlockIds":
        """Those of n requests without any."""
        return cls(np.empty(0, np.int64), np.zeros(n + 1, np.int64), 0)

    @classmethod
    def checked(cls, ids: Any, offsets: ArrayLike | None, tokens: Any, n: int) -> "BlockIds":
        """Make a checked copy of ids that are given.

        Args:
            ids: one sequence of ids per request; or all ids flat, with ``offsets``; or None for none.
            offsets: where the ids of each request begin and the last ones end, shape (n + 1,); None with sequences.
            tokens: tokens of a block; None without ids.
            n: number of requests.

        Raises:
            TraceError: an id or an offset is out of place, or some of these are given without the others.
        """
        if ids is None:
            for field, value in (("block_offsets", offsets), ("block_tokens", tokens)):
                if value is not None:
                    raise TraceError(field, value, "is given without block_ids", "give both, or neither")
            return cls.none(n)
        tokens = whole_number("block_tokens", tokens, 1, MAX_TOKENS)
        if offsets is None:
            ids, offsets = _flat(ids, n)
        ends = _integers("block_offsets", offsets)
        values = _integers("block_ids", ids)
        if len(ends) != n + 1:
            problem = f"has {len(ends)} elements where arrival_s has {n}"
            raise TraceError("block_offsets", len(ends), problem, f"give {n + 1}: one per request, and the end")
        if ends[0] != 0 or ends[-1] != len(values) or np.any(ends[1:] < ends[:-1]):
            problem, mend = "is out of order", f"let it rise from 0 to the number of ids, {len(values)}"
            raise TraceError("block_offsets", shown(ends), problem, mend)
        if len(values) and not 0 <= int(values.min()) <= int(values.max()) <= MAX_ID:
            place = int(((values < 0) | (values > MAX_ID)).argmax())
            index = int(np.searchsorted(ends, place, side="right")) - 1
            problem = f"has the id {values[place]} at index {index}"
            raise TraceError("block_ids", int(values[place]), problem, f"give whole numbers from 0 to {MAX_ID}")
        return cls(values.astype(np.int64), ends.astype(np.int64), tokens)

    @property
    def counts(self) -> NDArray[np.int64]:
        """Number of ids of each request, shape (n,)."""
        return np.diff(self.offsets)

    def check_against(self, total_tokens: NDArray[np.int64]) -> None:
        """Raise TraceError where a request has more ids than its prompt and output, shape (n,), have blocks."""
        if len(self.offsets) != len(total_tokens) + 1:
            problem = f"are those of {len(self.offsets) - 1} requests where arrival_s has {len(total_tokens)}"
            raise TraceError("blocks", self, problem, "give those of the same requests")
        if not self.tokens:
            return
        bad = self.counts > max_blocks(total_tokens, self.tokens)
        if bad.any():
            index = int(bad.argmax())
            count, total = int(self.counts[index]), int(total_tokens[index])
            problem = f"has {count} ids at index {index}, for a prompt and output of {total} tokens"
            mend = f"give at most {max_blocks(total, self.tokens)}, one per {self.tokens} tokens"
            raise TraceError("block_ids", count, problem, mend)

    def gathered(self, order: NDArray[np.int64]) -> "BlockIds":
        """Those of the requests ``order``, an index array, in that order."""
        return self._runs(self.offsets[:-1][order], self.counts[order])

    def cut(self, counts: NDArray[np.int64]) -> "BlockIds":
        """The first ``counts`` ids of each request, shape (n,), or all of one that has less."""
        return self._runs(self.offsets[:-1], np.minimum(self.counts, counts))

    def head(self, n: int) -> "BlockIds":
        """Those of the first n requests."""
        return BlockIds(self.values[: self.offsets[n]], self.offsets[: n + 1], self.tokens)

    def repeated(self, times: int) -> "BlockIds":
        """The same lists again and again."""
        shifts = np.arange(times, dtype=np.int64)[:, None] * len(self.values)
        offsets = np.append((self.offsets[:-1] + shifts).ravel(), times * len(self.values))
        return BlockIds(np.tile(self.values, times), offsets, self.tokens)

    def _runs(self, starts: NDArray[np.int64], counts: NDArray[np.int64]) -> "BlockIds":
        """Pieces of the values, each of its length, as lists of their own."""
        offsets = offsets_of(counts)
        place = np.arange(offsets[-1])
        place += np.repeat(starts - offsets[:-1], counts)
        return BlockIds(self.values[place], offsets, self.tokens)


def max_blocks(total_tokens: Any, block_tokens: int) -> Any:
    """Number of blocks that hold so many tokens, of numbers or arrays."""
    return -(-total_tokens // block_tokens)


def offsets_of(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where lists of these lengths begin, and the last one ends, shape (n + 1,)."""
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def _flat(lists: Sequence[Sequence[int]], n: int) -> tuple[list[int], NDArray[np.int64]]:
    """One sequence per request as a flat list and offsets."""
    try:
        counts = np.array([len(ids) for ids in lists], np.int64)
        ids = list(chain.from_iterable(lists))
    except TypeError as error:
        raise TraceError("block_ids", lists, "is not a sequence of sequences", _RAGGED) from error
    if len(counts) != n:
        problem = f"has {len(counts)} elements where arrival_s has {n}"
        raise TraceError("block_ids", len(counts), problem, _RAGGED)
    return ids, offsets_of(counts)


def _integers(field: str, values: ArrayLike) -> NDArray[Any]:
    """A flat array of integers; floats are none, which have no room for ids."""
    try:
        array = np.asarray(values)
    except (ValueError, OverflowError) as error:
        raise TraceError(field, values, "is not a flat sequence of whole numbers", _RAGGED) from error
    if array.ndim != 1:
        raise TraceError(field, values, f"has {array.ndim} dimensions", _RAGGED)
    if len(array) == 0:
        return np.empty(0, np.int64)
    if array.dtype.kind not in "iu":
        problem, mend = f"has elements of type {array.dtype}", f"give whole numbers from 0 to {MAX_ID}"
        raise TraceError(field, values, problem, mend)
    return array
