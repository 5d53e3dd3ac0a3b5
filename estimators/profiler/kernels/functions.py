"""What an engine runs besides attention: products, and operators that work on each number by itself.

Tensors are (tokens, width) of the activations' type, but where said otherwise. Nothing is modified in place, but the
caches of ``write_kv``.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from estimators.profiler.kernels.fusion import fused_on_cuda


def linear(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Product of (tokens, k) activations with (n, k) weights, (tokens, n)."""
    return functional.linear(x, weight)


@fused_on_cuda
def quantise(x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Activations over one scale of the whole tensor, in fp8 (e4m3)."""
    largest = torch.finfo(torch.float8_e4m3fn).max
    return (x.float() / scale).clamp(-largest, largest).to(torch.float8_e4m3fn)


def linear_fp8(x: torch.Tensor, weight: torch.Tensor, x_scale: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Quantise bf16 activations and multiply them with fp8 weights (n, k); scales are float32 of one element.

    CUDA from compute capability 8.9 on; n and k multiples of 16.
    """
    return torch._scaled_mm(quantise(x, x_scale), weight.t(), scale_a=x_scale, scale_b=scale, out_dtype=x.dtype)


@fused_on_cuda
def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Norm over the last dimension by the root of the mean square."""
    return functional.rms_norm(x, weight.shape, weight, eps)


@fused_on_cuda
def add_rms_norm(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Norm of the sum with the residual, and the sum: the residual of what follows."""
    residual = x + residual
    return functional.rms_norm(residual, weight.shape, weight, eps), residual


@fused_on_cuda
def rotate(q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotary embedding of the halves of the first ``2 * cos.shape[-1]`` numbers of each head, as Llama pairs them.

    Args:
        q: (tokens, q_heads, head_dim).
        k: (tokens, kv_heads, head_dim).
        cos: (tokens, rotary_dim / 2), of the tokens' positions.
        sin: likewise.
    """
    return _rotated(q, cos, sin), _rotated(k, cos, sin)


def _rotated(heads: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    half = cos.shape[-1]
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    first, second, rest = heads[..., :half], heads[..., half : 2 * half], heads[..., 2 * half :]
    return torch.cat((first * cos - second * sin, second * cos + first * sin, rest), dim=-1)


@fused_on_cuda
def gate_activation(gate_up: torch.Tensor) -> torch.Tensor:
    """SiLU of the first half of the columns times the second half."""
    gate, up = gate_up.chunk(2, dim=-1)
    return functional.silu(gate).mul_(up)


@fused_on_cuda
def plain_activation(x: torch.Tensor) -> torch.Tensor:
    """GELU, of an MLP without a gate."""
    return functional.gelu(x)


@fused_on_cuda
def add(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Sum of two."""
    return x + y


def write_kv(
    k: torch.Tensor, v: torch.Tensor, k_cache: torch.Tensor, v_cache: torch.Tensor, slots: torch.Tensor
) -> None:
    """Write new keys and values into a paged cache, which is modified in place.

    Not compiled: a compiler that does not see that it may write in place would copy the cache.

    Args:
        k: (tokens, kv_heads, head_dim).
        v: likewise.
        k_cache: (num_blocks, block_size, kv_heads, head_dim).
        v_cache: likewise.
        slots: int64 (tokens,), ``block * block_size + offset`` of each token, all different.
    """
    k_cache.view(-1, *k_cache.shape[2:]).index_copy_(0, slots, k)
    v_cache.view(-1, *v_cache.shape[2:]).index_copy_(0, slots, v)


def embed(ids: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """Rows of a (vocabulary, hidden) table by int64 token ids, (tokens, hidden)."""
    return functional.embedding(ids, table)


def choose_experts(logits: torch.Tensor, topk: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Softmax over the router's (tokens, experts) logits, and the ``topk`` largest: weights and int64 experts."""
    weights, experts = torch.topk(torch.softmax(logits, dim=-1, dtype=torch.float32), topk, dim=-1)
    return weights, experts


def to_float(logits: torch.Tensor) -> torch.Tensor:
    """Logits (sequences, vocabulary) in float32; where they are, the same tensor."""
    return logits.float()


def greedy(logits: torch.Tensor) -> torch.Tensor:
    """The likeliest token of each sequence, int64 (sequences,)."""
    return logits.argmax(dim=-1)
