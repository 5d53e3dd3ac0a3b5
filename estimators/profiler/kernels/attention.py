"""Attention over a paged cache of keys and values, by the kernels that are at hand.

Queries and results are (tokens, q_heads, head_dim), caches (num_blocks, block_size, kv_heads, head_dim); query head
``h`` reads key/value head ``h // (q_heads // kv_heads)``. A request's blocks hold its tokens in order.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

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
        backend: a name of ``backends``.
    """
    if backend != PER_REQUEST:
        starts, longest = _starts(len(q), q.device), block_tables.shape[1] * k_cache.shape[1]
        return backends()[backend](q, k_cache, v_cache, block_tables, starts, kv_lens, 1, longest, scale)
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
        backend: a name of ``backends``.
    """
    chunk = len(q)
    length = history + chunk
    if backend != PER_REQUEST:
        table, lens = blocks.unsqueeze(0), torch.full((1,), length, dtype=torch.int32, device=q.device)
        starts = _starts(1, q.device) * chunk
        return backends()[backend](q, k_cache, v_cache, table, starts, lens, chunk, length, scale)
    k, v = _gathered(k_cache, blocks, length), _gathered(v_cache, blocks, length)
    mask = None
    if history and chunk > 1:
        mask = torch.full((chunk, length), float("-inf"), dtype=q.dtype, device=q.device).triu_(history + 1)
    heads = q.transpose(0, 1).unsqueeze(0)
    attended = functional.scaled_dot_product_attention(
        heads, k, v, attn_mask=mask, is_causal=not history and chunk > 1, scale=scale, enable_gqa=True
    )
    return attended[0].transpose(0, 1)


def _gathered(cache: torch.Tensor, blocks: torch.Tensor, length: int) -> torch.Tensor:
    """A request's keys or values in one piece, (1, kv_heads, length, head_dim)."""
    used = blocks[: -(-length // cache.shape[1])]
    return cache.index_select(0, used).view(-1, *cache.shape[2:])[:length].transpose(0, 1).unsqueeze(0)


@functools.lru_cache(maxsize=256)
def _starts(requests: int, device: torch.device) -> torch.Tensor:
    """0, 1, 2, ... ``requests``: where the query of each request starts, and where the last one ends."""
    return torch.arange(requests + 1, dtype=torch.int32, device=device)


def _torch_varlen(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    block_tables: torch.Tensor,
    starts: torch.Tensor,
    kv_lens: torch.Tensor,
    max_q: int,
    max_kv: int,
    scale: float,
) -> torch.Tensor:
    """FlashAttention as torch 2.11 and later hold it."""
    from torch.nn.attention.varlen import varlen_attn

    attended = varlen_attn(
        q,
        k_cache,
        v_cache,
        starts,
        None,
        max_q,
        max_kv,
        scale=scale,
        window_size=(-1, 0),  # causal: the last query sees all keys
        enable_gqa=True,
        seqused_k=kv_lens,
        block_table=block_tables,
    )
    assert isinstance(attended, torch.Tensor)
    return attended


def _vllm_flash_attn(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    block_tables: torch.Tensor,
    starts: torch.Tensor,
    kv_lens: torch.Tensor,
    max_q: int,
    max_kv: int,
    scale: float,
) -> torch.Tensor:
    """FlashAttention as vLLM calls it for a batch."""
    from vllm.vllm_flash_attn import flash_attn_varlen_func

    return flash_attn_varlen_func(
        q=q,
        k=k_cache,
        v=v_cache,
        cu_seqlens_q=starts,
        max_seqlen_q=max_q,
        seqused_k=kv_lens,
        max_seqlen_k=max_kv,
        softmax_scale=scale,
        causal=True,
        block_table=block_tables,
    )


def backends() -> dict[str, Callable[..., Any]]:
    """Kernels that take a whole batch, the likeliest in a serving engine first; ``choose_backend`` tries them."""
    return {"vllm_flash_attn": _vllm_flash_attn, "torch_varlen": _torch_varlen}
