"""The routed experts of a layer, from the experts chosen for each token to the weighted sum of what they make."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import torch

from estimators.profiler.choices import choices, draw_counts, on_fullest, rotations
from estimators.profiler.hardware import torch_type
from estimators.profiler.kernels.functions import gate_activation
from estimators.profiler.kernels.operands import activations, copies_of, views
from estimators.profiler.kernels.prepared import Prepared, Request, register

Grouped = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]

_TOLERANCE = 0.05  # bf16 results near 1


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


def choose_grouped(device: torch.device, dtype: torch.dtype) -> Grouped:
    """The kernel for all experts at once on CUDA, where there is one and it multiplies right; else the loop."""
    if device.type != "cuda" or dtype is not torch.bfloat16:
        return grouped_by_loop
    return grouped_at_once if _multiplies_at_once(device) else grouped_by_loop


@functools.cache
def _multiplies_at_once(device: torch.device) -> bool:
    generator = torch.Generator(device).manual_seed(0)
    x, weights = (
        torch.rand(shape, device=device, generator=generator).bfloat16() / 8 for shape in ((96, 64), (4, 128, 64))
    )
    ends = torch.tensor([10, 10, 90, 96], dtype=torch.int32, device=device)
    try:
        made = grouped_at_once(x, weights, ends)
    except (AttributeError, RuntimeError):
        return False
    return float((made - grouped_by_loop(x, weights, ends)).abs().max()) <= _TOLERANCE


@register("moe")
def _moe(request: Request) -> Prepared:
    """Weights go round, and the experts that are chosen among them; activations stay."""
    hardware, dtype, columns = request.hardware, torch_type(request.dtype), request.columns
    names = ("tokens", "hidden", "inter", "topk", "experts", "local_experts", "load")
    tokens, hidden, inter, topk, experts, local, load = (columns[name] for name in names)
    draws = np.random.default_rng(request.seed)
    chosen = on_fullest(choices(draw_counts(tokens, topk, experts, load, draws), tokens, draws), experts, local)
    rows, used = int((chosen < local).sum()), np.unique(chosen[chosen < local]).size
    numbers = 3 * hidden * inter  # of an expert
    sets = copies_of(hardware, local * numbers * dtype.itemsize)
    batches = rotations(chosen, local, copies_of(hardware, used * numbers * dtype.itemsize))
    weights = views(hardware, dtype, (3, local, inter * hidden), sets, request.seed)
    gate_up = [each[:2].view(local, 2 * inter, hidden) for each in weights]
    down = [each[2].view(local, hidden, inter) for each in weights]
    x, shares = activations(hardware, dtype, tokens, hidden), activations(hardware, dtype, tokens, topk)
    indices = torch.from_numpy(batches).to(hardware.device).unbind()
    fits = hidden % 8 == 0 and inter % 8 == 0
    grouped = choose_grouped(hardware.device, dtype) if fits else grouped_by_loop

    def run(i: int) -> torch.Tensor:
        layer, batch = divmod(i, len(indices))
        return run_experts(x, indices[batch], shares, gate_up[layer], down[layer], rows, grouped)

    looped = grouped is grouped_by_loop
    kernel = "torch_mm_per_expert" if looped else "torch_grouped_mm"
    return Prepared(run, sets * len(indices), kernel, not looped, rows=tokens)
