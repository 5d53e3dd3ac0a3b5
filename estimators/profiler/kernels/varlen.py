"""Kernels that attend for a batch of requests of unequal lengths in one launch, over a paged cache; on CUDA."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch


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
    """FlashAttention as torch holds it; paged since 2.12 or so, older ones refuse ``block_table``."""
    from torch.nn.attention.varlen import varlen_attn

    return varlen_attn(
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
    """FlashAttention as vLLM calls it."""
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


#: By name, the likeliest in a serving engine first. Arguments: queries (tokens, q_heads, head_dim), keys and values
#: (num_blocks, block_size, kv_heads, head_dim), int32 block tables (requests, blocks), where queries start (requests
#: + 1,) and tokens of each request (requests,), the longest chunk and context, and the scale of the scores.
VARLEN: Mapping[str, Callable[..., torch.Tensor]] = {
    "vllm_flash_attn": _vllm_flash_attn,
    "torch_varlen": _torch_varlen,
}
