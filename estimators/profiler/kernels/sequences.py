"""Attention of chunks and of decodes, made ready for timing."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from estimators.errors import EstimatorError
from estimators.profiler.hardware import torch_type
from estimators.profiler.kernels.attention import PER_REQUEST, attend, attend_decodes
from estimators.profiler.kernels.backends import choose_backend
from estimators.profiler.kernels.operands import activations, block_tables, copies_of, views
from estimators.profiler.kernels.prepared import Prepared, Request, register


@register("decode_attention")
def _decode_attention(request: Request) -> Prepared:
    """One query for each request, all contexts of the same length."""
    columns = request.columns
    batch, kv = columns["batch"], columns["kv"]
    q, cache, tables, scale = operands(request, batch, [kv] * batch)
    refuse_window(columns["window"], kv)
    lens = torch.full((batch,), kv, dtype=torch.int32, device=q.device)
    backend = choose_backend(request.hardware, request.block_size)

    def run(i: int) -> torch.Tensor:
        return attend_decodes(q, cache[0], cache[1], tables[i], lens, scale, backend)

    return Prepared(run, len(tables), backend, backend != PER_REQUEST, rows=batch)


@register("prefill_attention")
def _prefill_attention(request: Request) -> Prepared:
    """A chunk of each request after a history that is in the cache."""
    columns = request.columns
    batch, chunk = columns["batch"], columns["chunk"]
    kv = columns["history"] + chunk
    refuse_window(columns["window"], kv)
    chunks, lengths = [chunk] * batch, [kv] * batch
    q, cache, tables, scale = operands(request, batch * chunk, lengths)
    backend = choose_backend(request.hardware, request.block_size)

    def run(i: int) -> torch.Tensor:
        return attend(q, cache[0], cache[1], tables[i], chunks, lengths, scale, backend)

    return Prepared(run, len(tables), backend, backend != PER_REQUEST, rows=batch * chunk)


def operands(
    request: Request, tokens: int, lengths: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, ...], float]:
    """Queries, a cache, and sets of requests whose blocks lie anywhere in it.

    Args:
        request: its columns have ``q_heads``, ``kv_heads`` and ``head_dim``.
        tokens: queries.
        lengths: tokens that each request has.

    Returns:
        Queries (tokens, q_heads, head_dim); keys and values (2, num_blocks, block_size, kv_heads, head_dim); for each
        copy the block tables, see ``block_tables``; and the scale of the scores.
    """
    hardware, size, columns = request.hardware, request.block_size, request.columns
    q_heads, kv_heads, head_dim = (columns[name] for name in ("q_heads", "kv_heads", "head_dim"))
    if q_heads % kv_heads:
        raise EstimatorError("q_heads", q_heads, f"is no multiple of kv_heads {kv_heads}", "give one")
    dtype, blocks = torch_type(request.dtype), [-(-length // size) for length in lengths]
    copies = copies_of(hardware, 2 * sum(lengths) * kv_heads * head_dim * dtype.itemsize)
    cache = views(hardware, dtype, (2, copies * sum(blocks), size, kv_heads, head_dim), 1, request.seed)[0]
    tables = block_tables(hardware, blocks, copies, request.seed)
    q = activations(hardware, dtype, tokens, q_heads, head_dim)
    return q, cache, tables, head_dim**-0.5


def refuse_window(window: int, kv: int) -> None:
    """Refuse a window that hides anything.

    Raises:
        EstimatorError: where it does.
    """
    if 0 < window < kv:
        raise EstimatorError("window", window, "is not measured by the profiler", "give 0, or the context or more")
