"""Lengths from published statistics alone: a distribution with a given mean, median and 90 % quantile.

Up to the 90 % quantile lengths are lognormal, or normal, by the median and that quantile; the longest tenth is uniform,
from there to the length that gives the mean. So the published numbers are met; what lies between them is assumed.
"""

import math
from statistics import NormalDist
from typing import Final

import numpy as np

from traces.errors import TraceError
from traces.quantile_tables import LengthTable, Marginal

VIDUR_PAPER: Final = (
    'Agrawal et al., "Vidur: A Large-Scale Simulation Framework for LLM Inference", MLSys 2024, table of workloads'
)
#: Name, number of requests, mean, median and 90 % quantile of prompts and outputs in that table; whether a normal body
#: is assumed, which the outputs of the second need (no lognormal one has their mean); and the rank correlation assumed.
PUBLISHED: Final = {
    "chat_1m_4k": ("LMSys-Chat-1M-4K", 2_000_000, (686, 417, 1678), (197, 139, 484), False, 0.0),
    "bwb_4k": ("Bilingual-Web-Book-4K", 33_000, (1067, 1037, 1453), (1612, 1601, 2149), True, 0.0),
}
_LOWEST: Final = 1e-3  # the rank of the shortest length, as a lognormal one has none


def table_of(name: str) -> LengthTable:
    """One of the published ones, as the embedded table of that name."""
    called, num_requests, prompt, output, normal, rank_correlation = PUBLISHED[name]
    source = f"published: mean, median and 90 % quantile of {called}; assumed: the shape between them, independence"
    marginals = (marginal(*statistics, normal=normal) for statistics in (prompt, output))
    return LengthTable(source, VIDUR_PAPER, "statistics only, no data", num_requests, rank_correlation, *marginals)


def marginal(mean: float, median: float, p90: float, *, normal: bool = False) -> Marginal:
    """A distribution of lengths with these statistics, to a token.

    Args:
        mean: mean tokens.
        median: median tokens, at least 1.
        p90: 90 % quantile, above the median.
        normal: whether lengths up to that quantile are normal, and not lognormal.

    Raises:
        TraceError: no top tenth has that mean.
    """
    ranks = np.maximum(np.arange(91) / 100, _LOWEST).tolist()
    z = np.array([NormalDist().inv_cdf(rank) for rank in ranks]) / NormalDist().inv_cdf(0.9)
    body = median + (p90 - median) * z if normal else median * np.exp(math.log(p90 / median) * z)
    body = np.maximum(body, 1)
    body_mean = float((body[1:] + body[:-1]).mean() / 2)
    longest = 2 * (10 * mean - 9 * body_mean) - p90
    if longest < p90:
        problem = f"is {mean:g}, too little beside the median {median:g} and the 90 % quantile {p90:g}"
        raise TraceError("mean", mean, problem, "give statistics of one distribution")
    quantiles = np.rint(np.append(body, np.linspace(p90, longest, 11)[1:])).astype(int)
    return Marginal(float(mean), 1.0, tuple(quantiles.tolist()))
