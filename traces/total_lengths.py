"""Lengths whose sum of prompt and output is drawn, and then divided by a fixed ratio."""

import functools
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from traces.errors import TraceError, real_number, shown, whole_number

_MOST_RANKS: Final = 10_000_000


@dataclass(frozen=True)
class _Total:
    """What both choices share.

    Attributes:
        total_min: fewest tokens of prompt and output together, at least 2.
        total_max: most of them.
        prompt_to_output: prompt tokens for each output token.
    """

    total_min: int
    total_max: int
    prompt_to_output: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "total_min", whole_number("total_min", self.total_min, 2))
        object.__setattr__(self, "total_max", whole_number("total_max", self.total_max, self.total_min))
        ratio = real_number("prompt_to_output", self.prompt_to_output, 1e-6, 1e6)
        object.__setattr__(self, "prompt_to_output", ratio)

    def divided(self, total: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Prompt and output tokens, each of shape (n,), at least 1."""
        output = np.clip(np.rint(total / (1 + self.prompt_to_output)).astype(np.int64), 1, total - 1)
        return total - output, output


@dataclass(frozen=True)
class UniformTotal(_Total):
    """Sums that are uniform integers, both ends included.

    Attributes:
        total_min: fewest tokens of prompt and output together, at least 2.
        total_max: most of them.
        prompt_to_output: prompt tokens for each output token.
    """

    def sample(self, n: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Prompt and output tokens, each of shape (n,)."""
        return self.divided(rng.integers(self.total_min, self.total_max, n, endpoint=True))


@dataclass(frozen=True)
class Zipf(_Total):
    """Sums of which the k-th most frequent comes with a probability proportional to k ** -theta.

    Attributes:
        total_min: fewest tokens of prompt and output together, at least 2; the most frequent unless scrambled.
        total_max: most of them; no more than 10 M different sums.
        prompt_to_output: prompt tokens for each output token.
        theta: skew, 0 (uniform) to 10.
        scramble: spread the frequent sums over the range, always in the same way.
    """

    theta: float = 0.6
    scramble: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "theta", real_number("theta", self.theta, 0, 10))
        if not isinstance(self.scramble, bool):
            raise TraceError("scramble", self.scramble, f"is {shown(self.scramble)}", "give true or false")
        whole_number("total_max", self.total_max, self.total_min, self.total_min + _MOST_RANKS - 1)

    def sample(self, n: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Prompt and output tokens, each of shape (n,)."""
        cumulated = _cumulated(self.total_max - self.total_min + 1, self.theta)
        # The last cumulated weight is the sum of all, so that a rank beyond it cannot be drawn.
        rank = np.searchsorted(cumulated, rng.random(n) * cumulated[-1], side="right")
        return self.divided(self.total_min + (_order(len(cumulated))[rank] if self.scramble else rank))


@functools.lru_cache(maxsize=4)
def _cumulated(num_ranks: int, theta: float) -> NDArray[np.float64]:
    """Sums of the first 1, 2, ... weights."""
    return np.cumsum(np.arange(1, num_ranks + 1, dtype=np.float64) ** -theta)


@functools.lru_cache(maxsize=4)
def _order(num_ranks: int) -> NDArray[np.int64]:
    """A fixed permutation of the ranks."""
    return np.random.Generator(np.random.PCG64(0)).permutation(num_ranks)
