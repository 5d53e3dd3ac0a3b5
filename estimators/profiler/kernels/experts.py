"""The routed experts of a layer, from the experts chosen for each token to the weighted sum of what they make."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from estimators.errors import EstimatorError
from estimators.profiler.kernels.functions import gate_activation

Grouped = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]

_MOST_EVEN_SHARE = 0.8  # of all tokens, of the most loaded expert before scaling


def draw_counts(tokens: int, topk: int, experts: int, load: int, draws: np.random.Generator) -> NDArray[np.int64]:
    """Tokens of each expert, made the way the batches were that estimators learn from (``features/moe.py``).

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
    least, most = (1.0, max(_MOST_EVEN_SHARE * tokens, 1.01)) if total > experts else (0.01, 2.0)
    power = 1 - max(load, 101) / 100  # at an exponent of 1 the law has another form; 1.01 is nearly the same
    drawn = ((most**power - least**power) * draws.random(experts) + least**power) ** (1 / power)
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


def run_experts(
    x: torch.Tensor,
    chosen: torch.Tensor,
    weights: torch.Tensor,
    gate_up: torch.Tensor,
    down: torch.Tensor,
    rows: int,
    grouped: Grouped,
) -> torch.Tensor:
    """Sort tokens by their experts, send them through the gated experts here, and add up by weight.

    Args:
        x: (tokens, hidden).
        chosen: int64 (tokens, topk), place in ``gate_up`` of the experts, or one behind it for those elsewhere.
        weights: (tokens, topk) in the type of ``x``.
        gate_up: (local experts, 2 x inter, hidden).
        down: (local experts, hidden, inter).
        rows: choices that fall on the experts here: the shape of what is computed, which a CUDA graph fixes.
        grouped: ``grouped_by_loop`` or ``grouped_at_once``.

    Returns:
        (tokens, hidden); 0 for tokens without an expert here.
    """
    experts, order = chosen.flatten().sort(stable=True)
    order = order[:rows]
    ends = torch.searchsorted(experts, torch.arange(len(gate_up), device=x.device), right=True).to(torch.int32)
    token = order // chosen.shape[1]
    inner = gate_activation(grouped(x[token], gate_up, ends))
    made = grouped(inner, down, ends) * weights.flatten()[order].unsqueeze(1)
    return torch.zeros_like(x).index_add_(0, token, made)


def grouped_by_loop(x: torch.Tensor, weights: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """Rows of ``x`` times their expert's weights, one product for each expert that has rows.

    Args:
        x: (rows, k), sorted by expert.
        weights: (experts, n, k).
        ends: int32 (experts,), where the rows of each end; the last is all of them.

    Returns:
        (rows, n).
    """
    out, start = x.new_empty(len(x), weights.shape[1]), 0
    for expert, end in enumerate(ends.tolist()):
        if end > start:
            torch.mm(x[start:end], weights[expert].t(), out=out[start:end])
        start = end
    return out


def grouped_at_once(x: torch.Tensor, weights: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """The same as one kernel: bf16, CUDA of compute capability 8.0 on, n and k multiples of 8."""
    return torch._grouped_mm(x, weights.transpose(-2, -1), offs=ends)
