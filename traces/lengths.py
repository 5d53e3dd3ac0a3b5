"""Length distributions: how many tokens each prompt and each output has.

Mean tokens that the embedded tables generate, before any cut, against the trace they were fitted to:

=================  ===========================  ===========================
table              prompt                       output
=================  ===========================  ===========================
azure_conv_2023    1154.8 for 1154.7 (+0.01 %)  211.17 for 211.13 (+0.02 %)
azure_code_2023    2048.2 for 2047.8 (+0.02 %)  28.07 for 27.88 (+0.7 %)
=================  ===========================  ===========================
"""

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from traces.empirical import Correlated, Empirical, lognormal_tokens
from traces.errors import MAX_TOKENS, real_number, whole_number
from traces.quantile_tables import load_quantile_table
from traces.total_lengths import UniformTotal, Zipf
from traces.trace_columns import TraceLengths

Lengths = tuple[NDArray[np.int64], NDArray[np.int64]]


class LengthDistribution(Protocol):
    """What every choice offers."""

    def sample(self, n: int, rng: np.random.Generator) -> Lengths:
        """Draw lengths.

        Drawing k and then m requests gives the same lengths as drawing k + m at once.

        Args:
            n: number of requests.
            rng: source of randomness.

        Returns:
            Prompt and output lengths in tokens, each int64 of shape (n,), at least 1.
        """


@dataclass(frozen=True)
class Fixed:
    """The same lengths for every request.

    Attributes:
        prompt: prompt tokens, at least 1.
        output: output tokens, at least 1.
    """

    prompt: int
    output: int

    def __post_init__(self) -> None:
        for name in ("prompt", "output"):
            object.__setattr__(self, name, whole_number(name, getattr(self, name), 1))

    def sample(self, n: int, rng: np.random.Generator) -> Lengths:
        """Prompt and output tokens, each of shape (n,); draws nothing."""
        return np.full(n, self.prompt, np.int64), np.full(n, self.output, np.int64)


@dataclass(frozen=True)
class Uniform:
    """Independent uniform integers, both ends included.

    Attributes:
        prompt_min: fewest prompt tokens, at least 1.
        prompt_max: most prompt tokens.
        output_min: fewest output tokens, at least 1.
        output_max: most output tokens.
    """

    prompt_min: int
    prompt_max: int
    output_min: int
    output_max: int

    def __post_init__(self) -> None:
        for side in ("prompt", "output"):
            low = whole_number(f"{side}_min", getattr(self, f"{side}_min"), 1)
            object.__setattr__(self, f"{side}_min", low)
            object.__setattr__(self, f"{side}_max", whole_number(f"{side}_max", getattr(self, f"{side}_max"), low))

    def sample(self, n: int, rng: np.random.Generator) -> Lengths:
        """Prompt and output tokens, each of shape (n,)."""
        low = [self.prompt_min, self.output_min]
        high = [self.prompt_max, self.output_max]
        drawn = rng.integers(low, high, size=(n, 2), endpoint=True)
        return drawn[:, 0], drawn[:, 1]


@dataclass(frozen=True)
class Lognormal:
    """Independent lognormal lengths, rounded to whole tokens, at least 1.

    Parameterised by mean and coefficient of variation, because the mean sets the load and the coefficient is the
    measure that arrivals use too: sigma**2 = ln(1 + cv**2) and median = mean / sqrt(1 + cv**2). Raising draws below
    half a token to 1 biases the mean only where the median is of the order of 1.

    Attributes:
        prompt_mean: mean prompt tokens, at least 1.
        prompt_cv: standard deviation / mean of the prompt, 0 to 100.
        output_mean: mean output tokens, at least 1.
        output_cv: standard deviation / mean of the output, 0 to 100.
    """

    prompt_mean: float
    prompt_cv: float
    output_mean: float
    output_cv: float

    def __post_init__(self) -> None:
        for side in ("prompt", "output"):
            mean = real_number(f"{side}_mean", getattr(self, f"{side}_mean"), 1, MAX_TOKENS)
            object.__setattr__(self, f"{side}_mean", mean)
            object.__setattr__(self, f"{side}_cv", real_number(f"{side}_cv", getattr(self, f"{side}_cv"), 0, 100))

    def sample(self, n: int, rng: np.random.Generator) -> Lengths:
        """Prompt and output tokens, each of shape (n,)."""
        drawn = rng.standard_normal((n, 2))
        return (
            lognormal_tokens(drawn[:, 0], self.prompt_mean, self.prompt_cv),
            lognormal_tokens(drawn[:, 1], self.output_mean, self.output_cv),
        )


@dataclass(frozen=True)
class QuantileTable:
    """Lengths that follow a fitted table: its two marginals and its rank correlation, through a Gaussian copula.

    Attributes:
        table: name of an embedded table, or path to a file written by ``LengthTable.save``.
    """

    table: str

    def __post_init__(self) -> None:
        """Load the table once to check it; raises TraceError."""
        load_quantile_table(self.table)

    def sample(self, n: int, rng: np.random.Generator) -> Lengths:
        """Prompt and output tokens, each of shape (n,)."""
        return load_quantile_table(self.table).sample(n, rng)


@dataclass(frozen=True)
class AzureConv2023:
    """Conversation requests of the Azure LLM inference trace 2023: the embedded table ``azure_conv_2023``."""

    def sample(self, n: int, rng: np.random.Generator) -> Lengths:
        """Prompt and output tokens, each of shape (n,)."""
        return load_quantile_table("azure_conv_2023").sample(n, rng)


@dataclass(frozen=True)
class AzureCode2023:
    """Code completion requests of the Azure LLM inference trace 2023: the embedded table ``azure_code_2023``."""

    def sample(self, n: int, rng: np.random.Generator) -> Lengths:
        """Prompt and output tokens, each of shape (n,)."""
        return load_quantile_table("azure_code_2023").sample(n, rng)


LENGTHS: Final[dict[str, type[LengthDistribution]]] = {
    "azure_code_2023": AzureCode2023,
    "azure_conv_2023": AzureConv2023,
    "correlated": Correlated,
    "empirical": Empirical,
    "fixed": Fixed,
    "lognormal": Lognormal,
    "quantile_table": QuantileTable,
    "trace": TraceLengths,
    "uniform": Uniform,
    "uniform_total": UniformTotal,
    "zipf": Zipf,
}
