"""Seconds of one iteration, looked up in a flat list of floats."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self


@dataclass(frozen=True)
class LogAxis:
    """An axis of whole numbers with 2**bits equal steps in every octave.

    Attributes:
        name: What the axis counts, for messages.
        maximum: Largest value the axis must serve.
        bits: Logarithm of the number of steps per octave.
    """

    name: str
    maximum: int
    bits: int

    @property
    def num_points(self) -> int:
        """Number of points: one beyond the segment of the maximum, so that index + 1 can always be read."""
        return self.index(self.maximum) + 2

    def shift(self, x: int) -> int:
        """Logarithm of the distance between the two points around x."""
        return max(0, x.bit_length() - 1 - self.bits)

    def index(self, x: int) -> int:
        """Index of the last point that is not greater than x."""
        shift = self.shift(x)
        return (shift << self.bits) + (x >> shift)

    def weight(self, x: int) -> float:
        """Share of the way from point index(x) to the next one, in [0, 1)."""
        shift = self.shift(x)
        return (x & ((1 << shift) - 1)) / (1 << shift)

    def point(self, index: int) -> int:
        """Value at an index."""
        if index < 1 << (self.bits + 1):
            return index
        steps = 1 << self.bits
        return ((index & (steps - 1)) + steps) << ((index >> self.bits) - 1)

    def check(self, x: int) -> None:
        """Refuse a value that the axis was not built for.

        Raises:
            ValueError: x is negative or beyond the maximum.
        """
        check_range(self.name, x, self.maximum)


def check_range(name: str, x: int, maximum: int) -> None:
    """Refuse a count outside 0..maximum: in a flat list it would silently read a neighbour.

    Raises:
        ValueError: x lies outside.
    """
    if not 0 <= x <= maximum:
        raise ValueError(f"{name} is {x}, the table holds 0 to {maximum}")


@dataclass(frozen=True)
class JointTable:
    """Seconds of attention by (chunk, history, decodes, context of each), the first axis outermost.

    Attributes:
        axes: The four axes.
        values: Seconds of every point of the grid.
    """

    axes: Sequence[LogAxis]
    values: Sequence[float]

    def seconds(self, place: Sequence[int]) -> float:
        """Interpolate between the corners: along the last axis first, then along the one before, and so on."""
        for axis, x in zip(self.axes, place, strict=True):
            axis.check(x)
        return self._between(0, 0, place)

    def _between(self, depth: int, begin: int, place: Sequence[int]) -> float:
        """The same with the first axes, as many as depth says, fixed at the point whose values begin there."""
        if depth == len(self.axes):
            return self.values[begin]
        axis, x = self.axes[depth], place[depth]
        stride = math.prod(inner.num_points for inner in self.axes[depth + 1 :])
        lo = self._between(depth + 1, begin + axis.index(x) * stride, place)
        hi = self._between(depth + 1, begin + (axis.index(x) + 1) * stride, place)
        return lo + (hi - lo) * axis.weight(x)


@dataclass(frozen=True)
class SkewTable:
    """How far decodes of unequal length lie on the way from the time of their mean to that of the longest.

    Attributes:
        edges: Upper edges of the bins of each axis: chunk, decodes, rate, longest context, history. The last bin of an
            axis has none.
        shares: The share of every bucket, the first axis outermost.
    """

    edges: Sequence[Sequence[float]]
    shares: Sequence[float]

    def share(self, place: Sequence[float]) -> float:
        """The share of the bucket with these values."""
        bucket = 0
        for edges, x in zip(self.edges, place, strict=True):
            bucket = bucket * (len(edges) + 1) + sum(edge < x for edge in edges)
        return self.shares[bucket]


def one_chunk(chunks: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The one chunk that stands for all under the rule "joint", as (history, tokens); (0, 0) for none.

    All their tokens, behind the history that a token has on average, rounded down.
    """
    histories = [history for history, tokens in chunks for _ in range(tokens)]
    return (sum(histories) // len(histories), len(histories)) if histories else (0, 0)


@dataclass(frozen=True)
class ReferenceTables:
    """The four tables of one replica, one after the other in one flat list of seconds.

    Attributes:
        values: token[max_tokens + 1], sequence[max_sequences + 1], decode[max_sequences + 1][kv points],
            prefill[history points][chunk points].
        max_tokens: Most tokens of an iteration.
        max_sequences: Most requests of an iteration.
        max_kv: Most KV tokens read by all decodes of an iteration together.
        max_history: Most tokens in KV before a chunk.
        max_chunk: Most tokens of a chunk.
        kv_bits: Steps per octave of the kv axis, as a logarithm.
        history_bits: The same for history.
        chunk_bits: The same for chunk.
        prefill_rule: "sum" adds up the chunks; "equivalent_chunk" looks up one chunk in place of all; "joint" looks up
            one chunk in place of all together with the decodes.
        joint: The table of both together, with that rule.
        skew: What decodes of unequal length cost, if that is known; only with joint.
        expert: Seconds of the experts by the tokens of all engines of a replica; None where one engine has them all, or
            the model has none.
    """

    values: Sequence[float]
    max_tokens: int
    max_sequences: int
    max_kv: int
    max_history: int
    max_chunk: int
    kv_bits: int = 4
    history_bits: int = 4
    chunk_bits: int = 5
    prefill_rule: str = "sum"
    joint: JointTable | None = None
    skew: SkewTable | None = None
    expert: Sequence[float] | None = None

    def __post_init__(self) -> None:
        """Check the rule and that the list has exactly the length of the layout.

        Raises:
            ValueError: Unknown rule or wrong length.
        """
        if self.prefill_rule not in ("sum", "equivalent_chunk", "joint"):
            raise ValueError(f"prefill_rule is {self.prefill_rule!r}, known are sum, equivalent_chunk and joint")
        if (self.prefill_rule == "joint") != (self.joint is not None):
            raise ValueError("a joint table goes with the rule of that name")
        if len(self.values) != self.size:
            raise ValueError(f"values holds {len(self.values)} numbers, the layout asks for {self.size}")

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Build from a mapping with the fields of this class as keys; values may be any iterable of numbers.

        Raises:
            ValueError: A key is not a field.
        """
        known = {field.name for field in fields(cls)}
        if not set(plain) <= known:
            raise ValueError(f"unknown table fields {sorted(set(plain) - known)}, known are {sorted(known)}")
        return cls(**{**plain, "values": [float(value) for value in plain["values"]]})

    @property
    def kv(self) -> LogAxis:
        """Axis of the KV tokens that all decodes of an iteration read together."""
        return LogAxis("decode kv", self.max_kv, self.kv_bits)

    @property
    def history(self) -> LogAxis:
        """Axis of the tokens in KV before a chunk."""
        return LogAxis("history", self.max_history, self.history_bits)

    @property
    def chunk(self) -> LogAxis:
        """Axis of the tokens of a chunk."""
        return LogAxis("chunk", self.max_chunk, self.chunk_bits)

    @property
    def sequence_offset(self) -> int:
        """Where the sequence table starts."""
        return self.max_tokens + 1

    @property
    def decode_offset(self) -> int:
        """Where the decode table starts."""
        return self.sequence_offset + self.max_sequences + 1

    @property
    def prefill_offset(self) -> int:
        """Where the prefill table starts."""
        return self.decode_offset + (self.max_sequences + 1) * self.kv.num_points

    @property
    def size(self) -> int:
        """Length of the flat list."""
        return self.prefill_offset + self.history.num_points * self.chunk.num_points

    def iteration_s(
        self,
        num_tokens: int,
        num_sequences: int,
        num_decodes: int,
        decode_kv: int,
        chunks: Sequence[tuple[int, int]],
        decode_contexts: Sequence[int] = (),
    ) -> float:
        """Seconds of one iteration.

        Args:
            num_tokens: All tokens of the batch.
            num_sequences: All requests of the batch.
            num_decodes: Requests of the batch that decode.
            decode_kv: KV tokens the decodes read together, the ones being written included.
            chunks: (history, tokens) of every prefill chunk, in batch order.
            decode_contexts: KV tokens that each decode reads; only read by a skew table.

        Returns:
            Seconds.

        Raises:
            ValueError: A count lies beyond its table.
        """
        check_range("tokens", num_tokens, self.max_tokens)
        check_range("sequences", num_sequences, self.max_sequences)
        token_s = self.values[num_tokens]
        sequence_s = self.values[self.sequence_offset + num_sequences]
        if self.joint is not None:
            return (token_s + sequence_s) + self.attention_s(num_decodes, decode_kv, chunks, decode_contexts)
        return ((token_s + sequence_s) + self.decode_s(num_decodes, decode_kv)) + self.prefill_s(chunks)

    def attention_s(
        self, num_decodes: int, decode_kv: int, chunks: Sequence[tuple[int, int]], decode_contexts: Sequence[int]
    ) -> float:
        """Seconds of all attention under the rule "joint"."""
        history, tokens = one_chunk(chunks)
        if num_decodes == 0:
            return self.chunk_s(history, tokens) if tokens else 0.0

        def together_s(kv: int, context: int) -> float:
            """With decodes that read kv tokens in all, context each."""
            if tokens == 0:
                return self.decode_s(num_decodes, kv)
            assert self.joint is not None
            return self.joint.seconds([tokens, history, num_decodes, context])

        mean_s = together_s(decode_kv, (2 * decode_kv + num_decodes) // (2 * num_decodes))
        if self.skew is None or min(decode_contexts) == max(decode_contexts):
            return mean_s
        shortest, longest = min(decode_contexts), max(decode_contexts)
        rate = (decode_kv - num_decodes * shortest) / (num_decodes * (longest - shortest))
        share = self.skew.share([tokens, num_decodes, rate, longest, history])
        longest_s = together_s(num_decodes * longest, longest)
        return max(0.5 * mean_s, mean_s + share * (longest_s - mean_s))

    def expert_s(self, num_tokens: int) -> float:
        """Seconds of the experts of all engines with so many tokens together."""
        assert self.expert is not None
        check_range("tokens of all engines", num_tokens, len(self.expert) - 1)
        return self.expert[num_tokens]

    def decode_s(self, num_decodes: int, decode_kv: int) -> float:
        """Seconds of the attention of all decodes; none: 0.0."""
        if num_decodes == 0:
            return 0.0
        check_range("decodes", num_decodes, self.max_sequences)
        return self._lookup(self.decode_offset + num_decodes * self.kv.num_points, self.kv, decode_kv)

    def prefill_s(self, chunks: Sequence[tuple[int, int]]) -> float:
        """Seconds of the attention of all chunks, given as (history, tokens); none: 0.0."""
        if not chunks:
            return 0.0
        if self.prefill_rule == "equivalent_chunk":
            history = sum(history for history, _ in chunks)
            # round() of a float goes to the even neighbour on a tie, as rint does.
            return self.chunk_s(history, round(math.sqrt(float(sum(tokens * tokens for _, tokens in chunks)))))
        total = 0.0
        for history, tokens in chunks:
            total += self.chunk_s(history, tokens)
        return total

    def chunk_s(self, history: int, tokens: int) -> float:
        """Seconds of the attention of one chunk: along the chunk in two rows, then between the rows."""
        self.history.check(history)
        stride = self.chunk.num_points
        row = self.prefill_offset + self.history.index(history) * stride
        a = self._lookup(row, self.chunk, tokens)
        b = self._lookup(row + stride, self.chunk, tokens)
        return a + (b - a) * self.history.weight(history)

    def _lookup(self, row: int, axis: LogAxis, x: int) -> float:
        """Interpolate at x in the row that starts at `row`."""
        axis.check(x)
        lo = self.values[row + axis.index(x)]
        hi = self.values[row + axis.index(x) + 1]
        return lo + (hi - lo) * axis.weight(x)
