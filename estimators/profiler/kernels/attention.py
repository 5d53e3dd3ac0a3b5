"""Attention over a paged cache of keys and values, by the kernels that are at hand.

Queries and results are (tokens, q_heads, head_dim), caches (num_blocks, block_size, kv_heads, head_dim); query head
``h`` reads key/value head ``h // (q_heads // kv_heads)``. A request's blocks hold its tokens in order.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch.nn import functional

from estimators.profiler.kernels.varlen import VARLEN

PER_REQUEST = "torch_sdpa_per_request"


def attend_decodes(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    block_tables: torch.Tensor,
    kv_lens: torch.Tensor,
    scale: float,
    backend: str = PER_REQUEST,
) -> torch.Tensor:
    """One query of each request over all its tokens, its own included, which is in the cache already.

    Args:
        q: (requests, q_heads, head_dim).
        k_cache: keys.
        v_cache: values.
        block_tables: int32 (requests, blocks of the longest).
        kv_lens: int32 (requests,), tokens of each request, 1 or more.
        scale: of the scores.
        backend: what ``choose_backend`` says.
    """
    if backend != PER_REQUEST:
        longest = block_tables.shape[1] * k_cache.shape[1]
        starts = _starts((1,) * len(q), q.device)
        return VARLEN[backend](q, k_cache, v_cache, block_tables, starts, kv_lens, 1, longest, scale)
    tokens = torch.empty_like(q)
    for i, length in enumerate(kv_lens.tolist()):
        k, v = _gathered(k_cache, block_tables[i], length), _gathered(v_cache, block_tables[i], length)
        # Heads of a group are queries of their key/value head: its keys are read once for all of them.
        grouped = q[i].view(1, k.shape[1], -1, q.shape[-1])
        tokens[i] = functional.scaled_dot_product_attention(grouped, k, v, scale=scale).view(q.shape[1:])
    return tokens


def attend_chunk(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    blocks: torch.Tensor,
    history: int,
    scale: float,
    backend: str = PER_REQUEST,
) -> torch.Tensor:
    """A chunk of one prompt: each query over the history, the chunk up to itself, and no more.

    Args:
        q: (chunk, q_heads, head_dim).
        k_cache: keys, those of the chunk included.
        v_cache: values, likewise.
        blocks: int32, the request's.
        history: tokens before the chunk.
        scale: of the scores.
        backend: what ``choose_backend`` says.
    """
    chunk = len(q)
    length = history + chunk
    if backend != PER_REQUEST:
        return attend(q, k_cache, v_cache, blocks.unsqueeze(0), [chunk], [length], scale, backend)
    k, v = _gathered(k_cache, blocks, length), _gathered(v_cache, blocks, length)
    mask = None
    if history and chunk > 1:
        mask = torch.full((chunk, length), float("-inf"), dtype=q.dtype, device=q.device).triu_(history + 1)
    heads = q.transpose(0, 1).unsqueeze(0)
    attended = functional.scaled_dot_product_attention(
        heads, k, v, attn_mask=mask, is_causal=not history and chunk > 1, scale=scale, enable_gqa=True
    )
    return attended[0].transpose(0, 1)


def attend(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    block_tables: torch.Tensor,
    query_lens: Sequence[int],
    kv_lens: Sequence[int],
    scale: float,
    backend: str = PER_REQUEST,
) -> torch.Tensor:
    """A batch of chunks, which may be decodes: chunks of one query.

    One launch where the backend takes batches, else one request after the other.

    Args:
        q: (tokens, q_heads, head_dim), the requests' queries one after the other.
        k_cache: keys, those of the chunks included.
        v_cache: values, likewise.
        block_tables: int32 (requests, blocks of the longest).
        query_lens: of each request's chunk.
        kv_lens: tokens of each request, its chunk included.
        scale: of the scores.
        backend: what ``choose_backend`` says.
    """
    if backend != PER_REQUEST:
        starts, lens = _starts(tuple(query_lens), q.device), _lengths(tuple(kv_lens), q.device)
        largest = max(query_lens), max(kv_lens)
        return VARLEN[backend](q, k_cache, v_cache, block_tables, starts, lens, *largest, scale)
    parts = [
        attend_chunk(part, k_cache, v_cache, table, length - len(part), scale)
        for part, table, length in zip(q.split(list(query_lens)), block_tables, kv_lens, strict=True)
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _gathered(cache: torch.Tensor, blocks: torch.Tensor, length: int) -> torch.Tensor:
    """A request's keys or values in one piece, (1, kv_heads, length, head_dim)."""
    used = blocks[: -(-length // cache.shape[1])]
    return cache.index_select(0, used).view(-1, *cache.shape[2:])[:length].transpose(0, 1).unsqueeze(0)


# Kept from layer to layer of an iteration, as engines do: no layer copies numbers to the device.
@functools.lru_cache(maxsize=64)
def _starts(query_lens: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Where the queries of each request start, and where the last ones end."""
    return torch.tensor([0, *query_lens], dtype=torch.int32).cumsum(0, dtype=torch.int32).to(device)


@functools.lru_cache(maxsize=64)
def _lengths(kv_lens: tuple[int, ...], device: torch.device) -> torch.Tensor:
    return torch.tensor(kv_lens, dtype=torch.int32, device=device)
