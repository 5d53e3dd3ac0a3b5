"""Which attention kernel is used: the first that is installed and computes attention."""

from __future__ import annotations

import functools

import torch

from estimators.profiler.hardware import Hardware
from estimators.profiler.kernels.attention import PER_REQUEST, attend
from estimators.profiler.kernels.varlen import VARLEN

_QUERIES, _TOKENS = [1, 24, 1], [70, 300, 5]  # decodes and a chunk with a history, in one batch
_HEADS, _KV_HEADS, _HEAD_DIM = 8, 2, 128
_TOLERANCE = 0.03  # bf16 results near 1


def choose_backend(hardware: Hardware, block_size: int) -> str:
    """Name of the kernel for a cache of such blocks; on a CPU one request after the other by torch's own."""
    return try_backends(hardware.device, block_size)[0]


@functools.cache
def try_backends(device: torch.device, block_size: int) -> tuple[str, tuple[str, ...]]:
    """The kernel to use, and a sentence about each that was not because it is missing, refuses or is wrong."""
    notes: list[str] = []
    if device.type != "cuda":
        return PER_REQUEST, ()
    for name in VARLEN:
        try:
            error = _error(device, block_size, name)
        except (ImportError, RuntimeError, ValueError, TypeError, AttributeError) as refusal:
            first = (str(refusal).strip() or type(refusal).__name__).splitlines()[0]
            notes.append(f"Attention kernel {name} was not used with blocks of {block_size} tokens: {first}.")
            continue
        if error <= _TOLERANCE:
            return name, tuple(notes)
        notes.append(f"Attention kernel {name} was not used: it is off by {error:.2g}.")
    return PER_REQUEST, tuple(notes)


def _error(device: torch.device, block_size: int, backend: str) -> float:
    """Largest difference from attention as it is written down, on a small batch."""
    generator = torch.Generator().manual_seed(0)
    blocks = -(-max(_TOKENS) // block_size)
    cache = torch.rand(2, len(_TOKENS) * blocks, block_size, _KV_HEADS, _HEAD_DIM, generator=generator) * 2 - 1
    q = torch.rand(sum(_QUERIES), _HEADS, _HEAD_DIM, generator=generator) * 2 - 1
    tables = torch.randperm(len(_TOKENS) * blocks, generator=generator).to(torch.int32).view(len(_TOKENS), blocks)
    scale = _HEAD_DIM**-0.5
    right = naive_attention(q, cache[0], cache[1], tables, _QUERIES, _TOKENS, scale)
    low = cache.to(device, torch.bfloat16)
    with torch.inference_mode():
        got = attend(q.to(device, torch.bfloat16), low[0], low[1], tables.to(device), _QUERIES, _TOKENS, scale, backend)
    return float((got.float().cpu() - right).abs().max())


def naive_attention(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    block_tables: torch.Tensor,
    query_lens: list[int],
    kv_lens: list[int],
    scale: float,
) -> torch.Tensor:
    """Attention as it is written down: all scores, softmax, sum. Arguments as of ``attend``."""
    group, parts = q.shape[1] // k_cache.shape[2], []
    for part, table, length in zip(q.split(query_lens), block_tables.long(), kv_lens, strict=True):
        k, v = (cache[table].flatten(0, 1)[:length].repeat_interleave(group, dim=1) for cache in (k_cache, v_cache))
        scores = torch.einsum("qhd,khd->hqk", part, k) * scale
        position = torch.arange(length - len(part), length)
        scores.masked_fill_(torch.arange(length) > position[:, None], float("-inf"))
        parts.append(torch.einsum("hqk,khd->qhd", scores.softmax(-1), v))
    return torch.cat(parts)
