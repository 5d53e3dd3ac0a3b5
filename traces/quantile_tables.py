"""Quantile tables: the lengths of a trace in 2 x 101 numbers and a rank correlation, to draw from without its rows.

An embedded table is reproduced from the public file it was fitted to by::

    workload = Workload.read("AzureLLMInferenceTrace_conv.csv.gz")
    fit_quantile_table(workload, source=..., citation=..., license=...).save("azure_conv_2023.json")
"""

import functools
import json
import math
import os
from dataclasses import asdict, dataclass
from importlib import resources
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from traces.bounded import parsed_json, read_bounded
from traces.errors import MAX_TOKENS, TraceError, real_number, shown, whole_number
from traces.workload import Workload
from traces.writing import replace_file

NUM_QUANTILES: Final = 101
_PERCENT: Final = np.arange(NUM_QUANTILES) / 100
_CDF_END: Final = 8.0
_CDF_STEPS_PER_UNIT: Final = 4096


@dataclass(frozen=True)
class Marginal:
    """Distribution of one length.

    Between quantiles the inverse distribution function is linear, but for the top percent: the few longest requests of
    a trace lie far above the rest, and a straight line to the maximum would raise the mean (of ``azure_code_2023``
    outputs by 22 %). There it is q99 + (q100 - q99) * w**tail_exponent, w from 0 to 1, with the exponent that gives the
    top percent its true mean.

    Attributes:
        mean: mean of the fitted lengths in tokens, for comparison.
        tail_exponent: 1 is a straight line; 0 to 1e9.
        quantiles: the 0 %, 1 %, ..., 100 % quantiles in tokens, at least 1, nondecreasing.
    """

    mean: float
    tail_exponent: float
    quantiles: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", real_number("mean", self.mean, 1, MAX_TOKENS))
        exponent = real_number("tail_exponent", self.tail_exponent, 0, 1e9)
        object.__setattr__(self, "tail_exponent", exponent)
        quantiles = tuple(whole_number("quantiles", value, 1) for value in self.quantiles)
        if len(quantiles) != NUM_QUANTILES or list(quantiles) != sorted(quantiles):
            problem = f"has {len(quantiles)} values, or some that decrease"
            raise TraceError("quantiles", quantiles, problem, f"give {NUM_QUANTILES} nondecreasing numbers")
        object.__setattr__(self, "quantiles", quantiles)

    def tokens(self, uniform: NDArray[np.float64]) -> NDArray[np.int64]:
        """Whole tokens, shape (n,), at the ranks ``uniform`` (0 to 1, shape (n,))."""
        position = uniform * (NUM_QUANTILES - 1)
        top = NUM_QUANTILES - 2
        tail = position > top
        position[tail] = top + (position[tail] - top) ** self.tail_exponent
        return np.rint(_interpolate(np.array(self.quantiles, np.float64), position)).astype(np.int64)


@dataclass(frozen=True)
class LengthTable:
    """Joint distribution of prompt and output lengths: two marginals and their rank correlation (Gaussian copula).

    Attributes:
        source: the data set and file that was fitted.
        citation: the publication to cite for it.
        license: its licence.
        num_requests: number of requests that were fitted.
        rank_correlation: Spearman's, of prompt and output, -1 to 1.
        prompt_tokens: marginal of the prompt.
        output_tokens: marginal of the output.
    """

    source: str
    citation: str
    license: str
    num_requests: int
    rank_correlation: float
    prompt_tokens: Marginal
    output_tokens: Marginal

    def __post_init__(self) -> None:
        object.__setattr__(self, "num_requests", whole_number("num_requests", self.num_requests, 1))
        correlation = real_number("rank_correlation", self.rank_correlation, -1, 1)
        object.__setattr__(self, "rank_correlation", correlation)

    def sample(self, n: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Draw prompt and output tokens, each int64 of shape (n,); see ``LengthDistribution.sample``."""
        normal = rng.standard_normal((n, 2))
        # Pearson's correlation of the two normals that gives Spearman's of the copula.
        pearson = 2 * math.sin(math.pi / 6 * self.rank_correlation)
        first = normal[:, 0]
        second = pearson * first + math.sqrt(1 - pearson * pearson) * normal[:, 1]
        return self.prompt_tokens.tokens(normal_cdf(first)), self.output_tokens.tokens(normal_cdf(second))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the table as JSON, one line per field; whole or not at all."""
        lines = (f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in asdict(self).items())
        text = "{\n" + ",\n".join(lines) + "\n}\n"
        replace_file(path, lambda file: file.write(text.encode()))


def fit_quantile_table(workload: Workload, source: str, citation: str, license: str) -> LengthTable:
    """Fit a table to the lengths of a workload.

    Quantiles are observed values (inverse of the empirical distribution function).

    Args:
        workload: the requests.
        source: the data set and file they come from.
        citation: the publication to cite.
        license: the licence of the data.
    """
    prompt_ranks, output_ranks = _ranks(workload.prompt_tokens), _ranks(workload.output_tokens)
    varies = np.ptp(prompt_ranks) > 0 and np.ptp(output_ranks) > 0
    correlation = float(np.corrcoef(prompt_ranks, output_ranks)[0, 1]) if varies else 0.0
    return LengthTable(
        source,
        citation,
        license,
        len(workload),
        round(correlation, 6),
        _fit_marginal(workload.prompt_tokens),
        _fit_marginal(workload.output_tokens),
    )


@functools.cache
def embedded_tables() -> dict[str, LengthTable]:
    """The tables that ship with the package, by name."""
    files = sorted(resources.files("traces").joinpath("quantiles").iterdir(), key=lambda file: file.name)
    return {
        file.name.removesuffix(".json"): _parse(file.name, file.read_bytes())
        for file in files
        if file.name.endswith(".json")
    }


def load_quantile_table(table: str) -> LengthTable:
    """An embedded table by name, or a file by path.

    Raises:
        TraceError: there is no such table, or its content is not a table.
    """
    embedded = embedded_tables()
    mend = f"give the path of a table or one of {', '.join(embedded)}"
    if not isinstance(table, str):
        raise TraceError("table", table, f"is {shown(table)}", mend)
    if table in embedded:
        return embedded[table]
    try:
        content = read_bounded(table)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise TraceError("table", table, f"is {table!r}, which cannot be read ({reason})", mend) from error
    return _parse(table, content)


def _parse(table: str, text: bytes) -> LengthTable:
    """The table that JSON text holds; ``table`` names it in errors."""
    try:
        content: dict[str, Any] = parsed_json(text)
        marginals = {name: Marginal(**content[name]) for name in ("prompt_tokens", "output_tokens")}
        return LengthTable(**{**content, **marginals})
    except TraceError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        mend = "give a file written by LengthTable.save"
        raise TraceError("table", table, f"is {table!r}, which is not a quantile table", mend) from error


def normal_cdf(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distribution function of the standard normal, shape (n,).

    Linear interpolation of ``math.erfc`` at steps of h = 1/4096 from -8 to 8, held constant beyond: the error is at
    most h**2 / 8 * max |density'| = 1.8e-9.
    """
    position = (np.clip(z, -_CDF_END, _CDF_END) + _CDF_END) * _CDF_STEPS_PER_UNIT
    return _interpolate(_normal_cdf_grid(), position)


@functools.cache
def _normal_cdf_grid() -> NDArray[np.float64]:
    """The distribution function of the standard normal at steps of 1/4096 from -8 to 8."""
    num_points = int(2 * _CDF_END * _CDF_STEPS_PER_UNIT) + 1
    z = np.linspace(-_CDF_END, _CDF_END, num_points) / math.sqrt(2)
    return np.array([math.erfc(-value) / 2 for value in z.tolist()])


def _interpolate(points: NDArray[np.float64], position: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear interpolation of ``points`` at fractional indices; several times faster than numpy.interp's search."""
    cell = np.minimum(position.astype(np.intp), len(points) - 2)
    between = np.diff(points).take(cell)
    between *= position - cell
    between += points.take(cell)
    return between


def _fit_marginal(tokens: NDArray[np.int64]) -> Marginal:
    """Quantiles and the exponent of the top percent."""
    quantiles = np.quantile(tokens, _PERCENT, method="inverted_cdf")
    longest = np.sort(tokens)[-max(1, round(len(tokens) / 100)) :]
    rise, span = float(longest.mean() - quantiles[-2]), float(quantiles[-1] - quantiles[-2])
    # The mean of w**s is 1 / (s + 1).
    exponent = span / rise - 1 if span > 0 else 1.0
    return Marginal(round(float(tokens.mean()), 6), round(exponent, 6), tuple(quantiles.tolist()))


def _ranks(values: NDArray[np.int64]) -> NDArray[np.float64]:
    """Ranks from 1, ties at their mean rank; shape (n,)."""
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean_ranks: NDArray[np.float64] = np.cumsum(counts) - (counts - 1) / 2
    return mean_ranks[index]
