"""Attention measured for chunks and decodes together, and for decodes of unequal length: layouts of these tables.

Both are optional parts of ``IterationTables`` and follow its other values in the flat array.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Literal, get_args

from estimators.errors import EstimatorError
from estimators.layout import FloatArray, PrefillRule, log_index

TableRule = Literal[PrefillRule, "joint"]
TABLE_RULES: tuple[str, ...] = get_args(TableRule)


@dataclass(frozen=True)
class JointLayout:
    """The table of batches that hold both a chunk and decodes: seconds by (chunk, history, decodes, context).

    All four are log axes like those of ``TableLayout``, row-major in this order. Interpolation is linear along the
    context, then between decodes, then between histories, then between chunks.

    Attributes:
        max_chunk: longest chunk.
        max_history: longest history of a chunk.
        max_decodes: most decodes.
        max_context: longest context of decodes of equal length.
        chunk_bits: log2 of the steps per octave on the axis of chunks.
        history_bits: the same for histories.
        decode_bits: the same for decodes.
        context_bits: the same for contexts.
    """

    max_chunk: int
    max_history: int
    max_decodes: int
    max_context: int
    chunk_bits: int = 1
    history_bits: int = 1
    decode_bits: int = 1
    context_bits: int = 1

    def __post_init__(self) -> None:
        """Check every field."""
        for name, value in asdict(self).items():
            _check_integer(name, value, *((0, 10) if name.endswith("_bits") else (1, 2**40)))

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Points of the four axes."""
        axes = (
            (self.max_chunk, self.chunk_bits),
            (self.max_history, self.history_bits),
            (self.max_decodes, self.decode_bits),
            (self.max_context, self.context_bits),
        )
        chunks, histories, decodes, contexts = (int(log_index(most, bits)[0]) + 2 for most, bits in axes)
        return chunks, histories, decodes, contexts

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    def lookup(self, table: FloatArray, chunk: int, history: int, decodes: int, context: int) -> float:
        """Seconds at one place of ``table``, of shape ``shape``; a chunk and a decode at least."""
        bits = (self.chunk_bits, self.history_bits, self.decode_bits, self.context_bits)
        places = [log_index(x, b) for x, b in zip((chunk, history, decodes, context), bits, strict=True)]
        first = tuple(slice(int(index), int(index) + 2) for index, _ in places)
        corner = table[first]
        for _, weight in reversed(places):
            corner = corner[..., 0] + (corner[..., 1] - corner[..., 0]) * weight
        return float(corner)


@dataclass(frozen=True)
class SkewLayout:
    """The correction for decodes of unequal length: t(mean) + alpha * (t(longest) - t(mean)), alpha by bucket.

    The axes of the buckets are the chunk that stands for all of the batch (0 for none), the number of decodes, the rate
    (mean - shortest) / (longest - shortest), the longest context, and the chunk's history. On each axis a value lies in
    the first bin whose upper edge is not below it; the last bin has no edge. The flat array holds the edges of the five
    axes, one after the other, and then alpha, row-major. The result is never taken below half of t(mean).

    Attributes:
        chunks: bins of chunks.
        decodes: bins of numbers of decodes.
        rates: bins of rates.
        contexts: bins of longest contexts.
        histories: bins of histories.
    """

    chunks: int
    decodes: int
    rates: int
    contexts: int
    histories: int

    def __post_init__(self) -> None:
        """Check every field."""
        for name, value in asdict(self).items():
            _check_integer(name, value, 1, 1024)

    @property
    def shape(self) -> tuple[int, ...]:
        """Bins of the five axes."""
        return tuple(getattr(self, field.name) for field in fields(self))

    @property
    def num_edges(self) -> int:
        """Upper edges of all axes."""
        return sum(self.shape) - len(self.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        return self.num_edges + math.prod(self.shape)

    def alpha(self, values: FloatArray, bucket: Sequence[float]) -> float:
        """Alpha of a bucket, given by a value on each axis; ``values`` has shape (size,)."""
        edge = place = 0
        for bins, x in zip(self.shape, bucket, strict=True):
            place = place * bins + int((values[edge : edge + bins - 1] < x).sum())
            edge += bins - 1
        return float(values[edge + place])


def one_chunk(chunks: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The one chunk that stands for several, given and returned as (history, tokens): as such profiles are meant.

    It has all their tokens and the history that these see on average, rounded down. Its tokens also see one another, so
    several prompts that begin together are taken as more work than they are.
    """
    tokens = sum(chunk for _, chunk in chunks)
    return sum(history * chunk for history, chunk in chunks) // tokens, tokens


def skewed(mean_s: float, longest_s: float, alpha: float) -> float:
    """Seconds of decodes of unequal length, from those of as many of mean and of largest length."""
    return max(0.5 * mean_s, mean_s + alpha * (longest_s - mean_s))


def _check_integer(name: str, value: object, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise EstimatorError(name, value, f"is not an integer from {least} to {most}", "choose one in that range")
