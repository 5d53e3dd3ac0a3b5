"""Lengths of any trace, and pairs of lengths that go together."""

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from traces.errors import MAX_TOKENS, real_number
from traces.trace_columns import path_text, version_of


@dataclass(frozen=True)
class Empirical:
    """Lengths of the requests of a trace in any format that `traces.read` knows, drawn with replacement, in pairs.

    Attributes:
        path: the file.
    """

    path: str

    def __post_init__(self) -> None:
        """Read the file once to check it; raises TraceError."""
        object.__setattr__(self, "path", path_text(self.path))
        _lengths(self.path, version_of(self.path))

    def sample(self, n: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Prompt and output tokens, each of shape (n,)."""
        prompt, output = _lengths(self.path, version_of(self.path))
        drawn = rng.integers(0, len(prompt), n)
        return prompt[drawn], output[drawn]


@dataclass(frozen=True)
class Correlated:
    """Lognormal lengths, rounded to whole tokens, at least 1, whose logarithms are correlated.

    Attributes:
        prompt_mean: mean prompt tokens, at least 1.
        prompt_cv: standard deviation / mean of the prompt, 0 to 100.
        output_mean: mean output tokens, at least 1.
        output_cv: standard deviation / mean of the output, 0 to 100.
        correlation: Pearson's, of the logarithms, -1 to 1.
    """

    prompt_mean: float
    prompt_cv: float
    output_mean: float
    output_cv: float
    correlation: float

    def __post_init__(self) -> None:
        for side in ("prompt", "output"):
            mean = real_number(f"{side}_mean", getattr(self, f"{side}_mean"), 1, MAX_TOKENS)
            object.__setattr__(self, f"{side}_mean", mean)
            object.__setattr__(self, f"{side}_cv", real_number(f"{side}_cv", getattr(self, f"{side}_cv"), 0, 100))
        object.__setattr__(self, "correlation", real_number("correlation", self.correlation, -1, 1))

    def sample(self, n: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Prompt and output tokens, each of shape (n,)."""
        drawn = rng.standard_normal((n, 2))
        other = self.correlation * drawn[:, 0] + math.sqrt(1 - self.correlation**2) * drawn[:, 1]
        return (
            lognormal_tokens(drawn[:, 0], self.prompt_mean, self.prompt_cv),
            lognormal_tokens(other, self.output_mean, self.output_cv),
        )


def lognormal_tokens(normal: NDArray[np.float64], mean: float, cv: float) -> NDArray[np.int64]:
    """Whole tokens, shape (n,), from standard normal numbers of that shape."""
    variance = math.log1p(cv * cv)
    drawn = np.exp(math.log(mean) - variance / 2 + math.sqrt(variance) * normal)
    return np.clip(np.rint(drawn), 1, MAX_TOKENS).astype(np.int64)


@functools.lru_cache(maxsize=8)
def _lengths(path: str, version: tuple[int, int] | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Prompt and output tokens of a file, each of shape (rows,)."""
    from traces.readers import read

    workload = read(path)
    return workload.prompt_tokens, workload.output_tokens
