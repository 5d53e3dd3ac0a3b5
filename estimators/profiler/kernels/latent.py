"""Multi-head latent attention in the sizes of DeepSeek-V2 and -V3, as ``estimators/operators/latent.py`` lists it."""

from __future__ import annotations

import torch
from torch.nn import functional
from torch.nn.attention.bias import causal_lower_right

from estimators.errors import EstimatorError
from estimators.profiler.hardware import torch_type
from estimators.profiler.kernels.operands import activations, block_tables, copies_of, views
from estimators.profiler.kernels.prepared import Prepared, Request, register

KEY_DIM, VALUE_DIM = 192, 128  # of a head, of a prompt
LATENT_KEY_DIM, LATENT_VALUE_DIM = 576, 512


def attend_expanded(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, history: int, scale: float) -> torch.Tensor:
    """Chunks of prompts, all as long, over keys and values that were expanded to heads: ``latent_prefill``.

    Args:
        q: (batch, heads, chunk, key width).
        k: (batch, heads, history + chunk, key width).
        v: (batch, heads, history + chunk, value width), which may be less than that of the keys.
        history: tokens before the chunk, which every query sees.
        scale: of the scores.

    Returns:
        (batch, heads, chunk, value width).
    """
    chunk, width = q.shape[2], v.shape[3]
    # Kernels of one width for keys and values are twice as fast, padding included, as what torch does without them.
    v = functional.pad(v, (0, q.shape[3] - width))
    causal = causal_lower_right(chunk, history + chunk)
    attended = functional.scaled_dot_product_attention(q, k, v, attn_mask=causal, scale=scale)
    return attended[..., :width]


def attend_latent(
    q: torch.Tensor, cache: torch.Tensor, block_tables: torch.Tensor, kv_lens: torch.Tensor, value: int, scale: float
) -> torch.Tensor:
    """One query of each request over the compressed cache, whose first numbers are the values: ``latent_decode``.

    Args:
        q: (requests, heads, key width), absorbed into the latent space.
        cache: (num_blocks, block_size, key width).
        block_tables: int32 (requests, blocks of the longest).
        kv_lens: int32 (requests,), 1 or more.
        value: width of the values.
        scale: of the scores.

    Returns:
        (requests, heads, value).
    """
    out = q.new_empty(*q.shape[:2], value)
    for i, length in enumerate(kv_lens.tolist()):
        blocks = block_tables[i, : -(-length // cache.shape[1])]
        keys = cache.index_select(0, blocks).view(-1, cache.shape[2])[:length]
        scores = torch.softmax((q[i] @ keys.t()).mul_(scale), dim=-1)
        torch.mm(scores, keys[:, :value], out=out[i])
    return out


def multiply_heads(x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The product of each head with its own matrix: ``latent_bmm``.

    Args:
        x: (tokens, heads, k), as queries and what attention returns are laid out.
        weights: (heads, k, n).

    Returns:
        (tokens, heads, n).
    """
    return torch.bmm(x.transpose(0, 1), weights).transpose(0, 1)


@register("latent_prefill")
def _latent_prefill(request: Request) -> Prepared:
    """Keys and values stay: the product before has just expanded them."""
    batch, chunk, history, heads = (request.columns[name] for name in ("batch", "chunk", "history", "heads"))
    hardware, dtype = request.hardware, torch_type(request.dtype)
    q = activations(hardware, dtype, batch, heads, chunk, KEY_DIM)
    k = activations(hardware, dtype, batch, heads, history + chunk, KEY_DIM)
    v = activations(hardware, dtype, batch, heads, history + chunk, VALUE_DIM)
    return Prepared(lambda i: attend_expanded(q, k, v, history, KEY_DIM**-0.5), 1, "torch_sdpa", rows=batch * chunk)


@register("latent_decode")
def _latent_decode(request: Request) -> Prepared:
    """The cache goes round."""
    hardware, dtype, size = request.hardware, torch_type(request.dtype), request.block_size
    if hardware.is_cuda:
        wrong = "has no kernel in torch, and one request after the other is no measure of those that engines use"
        raise EstimatorError("latent_decode", None, wrong, "take a catalogue's estimators")
    batch, kv, heads = (request.columns[name] for name in ("batch", "kv", "heads"))
    copies = copies_of(hardware, batch * kv * LATENT_KEY_DIM * dtype.itemsize)
    blocks = [-(-kv // size)] * batch
    cache = views(hardware, dtype, (copies * sum(blocks), size, LATENT_KEY_DIM), 1, request.seed)[0]
    tables = block_tables(hardware, blocks, copies, request.seed)
    lens = torch.full((batch,), kv, dtype=torch.int32, device=hardware.device)
    q = activations(hardware, dtype, batch, heads, LATENT_KEY_DIM)

    def run(i: int) -> torch.Tensor:
        return attend_latent(q, cache, tables[i], lens, LATENT_VALUE_DIM, KEY_DIM**-0.5)

    return Prepared(run, copies, "torch_matmul_per_request", graphable=False, rows=batch)


@register("latent_bmm")
def _latent_bmm(request: Request) -> Prepared:
    """Weights go round."""
    hardware, dtype = request.hardware, torch_type(request.dtype)
    tokens, heads, n, k = (request.columns[name] for name in ("tokens", "heads", "n", "k"))
    copies = copies_of(hardware, heads * n * k * dtype.itemsize)
    weights = views(hardware, dtype, (heads, k, n), copies, request.seed).unbind()
    x = activations(hardware, dtype, tokens, heads, k)
    return Prepared(lambda i: multiply_heads(x, weights[i]), copies, "torch_bmm", rows=tokens)
