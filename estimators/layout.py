"""How iteration tables are laid out: log axes, sizes, offsets."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators.errors import EstimatorError

PrefillRule = Literal["sum", "equivalent_chunk"]
PREFILL_RULES: tuple[PrefillRule, ...] = ("sum", "equivalent_chunk")
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
_MOST = 2**40  # of any limit


def log_index(x: ArrayLike, bits: int) -> tuple[IntArray, FloatArray]:
    """Return where integers ``x >= 0`` lie on a log axis.

    Args:
        x: integers, any shape.
        bits: log2 of the steps per octave.

    Returns:
        The index of the point at or below each ``x``, and the weight of the next point, 0 up to but not including 1.
    """
    value = np.asarray(x, dtype=np.int64)
    # frexp's exponent is the bit length; exact below 2**53.
    shift = np.maximum(0, np.frexp(value.astype(np.float64))[1].astype(np.int64) - 1 - bits)
    step = np.left_shift(np.int64(1), shift)
    return (shift << bits) + (value >> shift), (value & (step - 1)) / step


def log_points(count: int, bits: int) -> IntArray:
    """Return the first ``count`` points of a log axis."""
    index = np.arange(count, dtype=np.int64)
    octave = np.maximum(index >> bits, 1) - 1
    return np.where(index < 2 ** (bits + 1), index, ((index & (2**bits - 1)) + 2**bits) << octave)


@dataclass(frozen=True)
class TableLayout:
    """Sizes of the tables and where each starts in the flat array.

    Attributes:
        max_tokens: most tokens in an iteration.
        max_sequences: most requests in an iteration.
        max_kv: most KV tokens that the decodes of an iteration read together.
        max_history: longest history of a chunk (under ``"equivalent_chunk"``: largest sum of histories).
        max_chunk: longest chunk.
        kv_bits: log2 of the steps per octave on the KV axis.
        history_bits: the same for histories.
        chunk_bits: the same for chunks.
    """

    max_tokens: int
    max_sequences: int
    max_kv: int
    max_history: int
    max_chunk: int
    kv_bits: int = 4
    history_bits: int = 4
    chunk_bits: int = 5

    def __post_init__(self) -> None:
        """Check every field."""
        for name, value in asdict(self).items():
            least, most = (0, 10) if name.endswith("_bits") else (1, 2**52)
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise EstimatorError(
                    name, value, f"is not an integer from {least} to {most}", "choose one in that range"
                )

    @classmethod
    def covering(
        cls,
        max_tokens: int,
        max_sequences: int,
        max_kv: int | None,
        max_model_len: int,
        prefill_rule: PrefillRule = "sum",
    ) -> TableLayout:
        """Return the layout for an engine's limits, rounded up to powers of two so that configurations share tables.

        Without ``max_kv`` it is what ``max_sequences`` requests of ``max_model_len`` read.
        """
        tokens = _rounded_up("max_tokens", max_tokens)
        sequences = _rounded_up("max_sequences", max_sequences)
        length = _rounded_up("max_model_len", max_model_len)
        kv = min(sequences * length, _MOST) if max_kv is None else _rounded_up("max_kv", max_kv)
        if prefill_rule == "sum":
            return cls(tokens, sequences, kv, max_history=length, max_chunk=min(tokens, length))
        return cls(tokens, sequences, kv, max_history=max(kv, length), max_chunk=tokens)

    @property
    def kv_points(self) -> int:
        """Points of the KV axis."""
        return int(log_index(self.max_kv, self.kv_bits)[0]) + 2

    @property
    def history_points(self) -> int:
        """Points of the history axis."""
        return int(log_index(self.max_history, self.history_bits)[0]) + 2

    @property
    def chunk_points(self) -> int:
        """Points of the chunk axis."""
        return int(log_index(self.max_chunk, self.chunk_bits)[0]) + 2

    @property
    def token_offset(self) -> int:
        """Start of the token table in the flat array."""
        return 0

    @property
    def sequence_offset(self) -> int:
        """Start of the sequence table in the flat array."""
        return self.max_tokens + 1

    @property
    def decode_offset(self) -> int:
        """Start of the decode table, row-major (decodes, kv points), in the flat array."""
        return self.sequence_offset + self.max_sequences + 1

    @property
    def prefill_offset(self) -> int:
        """Start of the prefill table, row-major (history points, chunk points), in the flat array."""
        return self.decode_offset + (self.max_sequences + 1) * self.kv_points

    @property
    def size(self) -> int:
        """Length of the flat array."""
        return self.prefill_offset + self.history_points * self.chunk_points


def _rounded_up(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST:
        raise EstimatorError(name, value, "is not an integer from 1 to 2**40", "choose one in that range")
    return 1 << (value - 1).bit_length()


def check_prefill_rule(rule: str) -> None:
    """Raise ``EstimatorError`` unless ``rule`` is one of ``PREFILL_RULES``."""
    if rule not in PREFILL_RULES:
        raise EstimatorError("prefill_rule", rule, "is not known", f"choose {' or '.join(PREFILL_RULES)}")
