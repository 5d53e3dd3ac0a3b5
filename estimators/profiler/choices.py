"""Which experts the tokens of a batch choose, drawn the way the batches were made that estimators learn from.

``estimators/features/moe.py`` says how; chance decides where it takes means.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from estimators.errors import EstimatorError
from estimators.features.moe import power_law


def draw_counts(tokens: int, topk: int, experts: int, load: int, draws: np.random.Generator) -> NDArray[np.int64]:
    """Tokens of each expert.

    Args:
        tokens: in the batch.
        topk: experts that each token passes.
        experts: that there are.
        load: 100 x the exponent of the power law between one token and 0.8 of all, 0 where all experts get the same.
        draws: where chance comes from.

    Returns:
        (experts,), which sum to ``tokens * topk``; none has more than ``tokens``.

    Raises:
        EstimatorError: when a token passes more experts than there are.
    """
    if topk > experts:
        raise EstimatorError("topk", topk, f"is more than the {experts} experts", "give fewer")
    total = tokens * topk
    if load == 0:  # the rest that does not divide is spread as well
        return np.diff(np.arange(experts + 1) * total // experts)
    drawn = power_law(draws.random(experts), tokens, total / experts, load)
    share = drawn / drawn.sum() * total
    while (share > tokens).any():
        share = np.minimum(share, tokens)
        rest = share < tokens
        if rest.any():
            share[rest] *= (total - tokens * np.count_nonzero(~rest)) / share[rest].sum()
    return _whole(share, total, tokens)


def _whole(share: NDArray[np.float64], total: int, most: int) -> NDArray[np.int64]:
    """Whole numbers near the shares, each ``most`` at most, that sum to ``total``."""
    counts = np.floor(share).astype(np.int64)
    nearest_up = np.argsort(counts - share, kind="stable")
    while (missing := total - int(counts.sum())) > 0:
        counts[nearest_up[counts[nearest_up] < most][:missing]] += 1
    return counts


def choices(counts: NDArray[np.int64], tokens: int, draws: np.random.Generator) -> NDArray[np.int64]:
    """Different experts for each token, as often as ``counts`` (experts,) says: (tokens, topk)."""
    # An expert's places are consecutive and no more than the tokens, so no token meets it twice.
    by_place = np.repeat(np.arange(counts.size), counts).reshape(-1, tokens)
    return np.ascontiguousarray(by_place.T[draws.permutation(tokens)])


def on_fullest(chosen: NDArray[np.int64], experts: int, local: int) -> NDArray[np.int64]:
    """The same choices as the GPU with most of them sees them.

    Args:
        chosen: experts, of any shape.
        experts: that there are.
        local: on each GPU, one after another.

    Returns:
        0 to ``local - 1`` for experts on that GPU, ``local`` for all others.
    """
    gpu = chosen // local
    fullest = np.bincount(gpu.ravel(), minlength=-(-experts // local)).argmax()
    return np.where(gpu == fullest, chosen % local, local)


def rotations(chosen: NDArray[np.int64], local: int, most: int) -> NDArray[np.int64]:
    """The same batch over other experts each time, so that their weights come from memory.

    Args:
        chosen: as ``on_fullest`` returns it.
        local: experts on this GPU.
        most: rotations that are wanted.

    Returns:
        (rotations, *chosen.shape), as many as find experts of their own among the local ones, ``most`` at most.
    """
    used = np.unique(chosen[chosen < local])
    place = np.full(local + 1, local)
    place[np.concatenate([used, np.setdiff1d(np.arange(local), used)])] = np.arange(local)
    shifts = range(min(most, -(-local // max(used.size, 1))))
    return np.stack([np.where(chosen < local, (place[chosen] + i * used.size) % local, local) for i in shifts])
