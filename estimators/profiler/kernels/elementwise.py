"""Operators that work on each number by itself or on rows of them, made ready for timing."""

from __future__ import annotations

from collections.abc import Callable

import torch

from estimators.profiler.hardware import torch_type
from estimators.profiler.kernels import functions
from estimators.profiler.kernels.operands import activations, copies_of, views
from estimators.profiler.kernels.prepared import Prepared, Request, register

_EPS = 1e-5
_TOPK = 8  # of the experts; the models of the catalogue choose 1 to 10
_SMALL_HEAD, _HEAD, _WIDE = 64, 128, 2048  # the usual sizes of heads, and from which width on the larger one
_ROWS_AT_LEAST = 1024  # of an embedding
#: What a function takes beside its point: the request, the type, tokens and width.
Build = Callable[[Request, torch.dtype, int, int], Callable[[], object]]


def _warm(operator: str) -> Callable[[Build], Build]:
    """Register an operator all of whose operands are activations, which the operator before has just written."""

    def add(build: Build) -> Build:
        @register(operator)
        def _make(request: Request) -> Prepared:
            dtype, tokens, width = _point(request)
            call = build(request, dtype, tokens, width)
            return Prepared(lambda i: call(), 1, _kernel(request), rows=tokens, behind_product=operator != "sampling")

        return build

    return add


def _point(request: Request) -> tuple[torch.dtype, int, int]:
    return torch_type(request.dtype), request.columns["tokens"], request.columns["width"]


def _kernel(request: Request) -> str:
    return "torch_compile" if request.hardware.is_cuda else "torch"


@_warm("norm")
def _norm(request: Request, dtype: torch.dtype, tokens: int, width: int) -> Callable[[], object]:
    x, residual = (activations(request.hardware, dtype, tokens, width) for _ in range(2))
    weight = activations(request.hardware, dtype, width)
    return lambda: functions.add_rms_norm(x, residual, weight, _EPS)


@_warm("plain_norm")
def _plain_norm(request: Request, dtype: torch.dtype, tokens: int, width: int) -> Callable[[], object]:
    """One row per token; the norms of heads, of as many numbers together, have shorter rows."""
    x, weight = activations(request.hardware, dtype, tokens, width), activations(request.hardware, dtype, width)
    return lambda: functions.rms_norm(x, weight, _EPS)


@_warm("rope")
def _rope(request: Request, dtype: torch.dtype, tokens: int, width: int) -> Callable[[], object]:
    """Queries and keys are cut out of the product that made them; a width that no usual head divides is one head."""
    usual = _HEAD if width >= _WIDE else _SMALL_HEAD
    size = usual if width % usual == 0 and width > usual else max(2, width // 2 * 2)
    heads = max(1, width // size)
    kv_heads = heads // 4
    parts = ((heads - kv_heads) * size, kv_heads * size, kv_heads * size)
    qkv = activations(request.hardware, dtype, tokens, sum(parts))
    cos, sin = (activations(request.hardware, dtype, tokens, size // 2) for _ in range(2))

    def call() -> object:
        q, k, _ = qkv.split(parts, dim=-1)
        return functions.rotate(q.view(tokens, -1, size), k.view(tokens, kv_heads, size), cos, sin)

    return call


@_warm("activation")
def _activation(request: Request, dtype: torch.dtype, tokens: int, width: int) -> Callable[[], object]:
    gate_up = activations(request.hardware, dtype, tokens, 2 * width)
    return lambda: functions.gate_activation(gate_up)


@_warm("plain_activation")
def _plain_activation(request: Request, dtype: torch.dtype, tokens: int, width: int) -> Callable[[], object]:
    x = activations(request.hardware, dtype, tokens, width)
    return lambda: functions.plain_activation(x)


@_warm("add")
def _add(request: Request, dtype: torch.dtype, tokens: int, width: int) -> Callable[[], object]:
    x, y = (activations(request.hardware, dtype, tokens, width) for _ in range(2))
    return lambda: functions.add(x, y)


@_warm("gating")
def _gating(request: Request, dtype: torch.dtype, tokens: int, width: int) -> Callable[[], object]:
    logits, topk = activations(request.hardware, dtype, tokens, width), min(_TOPK, width)
    return lambda: functions.choose_experts(logits, topk)


@_warm("logits_cast")
def _logits_cast(request: Request, dtype: torch.dtype, tokens: int, width: int) -> Callable[[], object]:
    logits = activations(request.hardware, dtype, tokens, width)
    return lambda: functions.to_float(logits)


@_warm("sampling")
def _sampling(request: Request, dtype: torch.dtype, tokens: int, width: int) -> Callable[[], object]:
    """Over float32 logits, whatever the type of the activations."""
    logits = activations(request.hardware, torch.float32, tokens, width)
    return lambda: functions.greedy(logits)


@register("kv_write")
def _kv_write(request: Request) -> Prepared:
    """Slots go round: the blocks of new tokens were not touched for long."""
    dtype, tokens, width = _point(request)
    hardware, size, half = request.hardware, request.block_size, max(1, width // 2)
    copies = copies_of(hardware, tokens * width * dtype.itemsize)
    blocks = -(-copies * tokens // size)
    k_cache, v_cache = views(hardware, dtype, (blocks, size, 1, half), 2, request.seed).unbind()
    k, v = (activations(hardware, dtype, tokens, 1, half) for _ in range(2))
    slots = torch.arange(copies * tokens, device=hardware.device).view(copies, tokens).unbind()
    return Prepared(
        lambda i: functions.write_kv(k, v, k_cache, v_cache, slots[i]), copies, "torch_index_copy", rows=tokens
    )


@register("embedding")
def _embedding(request: Request) -> Prepared:
    """Tokens go round: their rows of the table come from memory."""
    dtype, tokens, width = _point(request)
    hardware = request.hardware
    row = width * dtype.itemsize
    rows = max(_ROWS_AT_LEAST, copies_of(hardware, row))
    copies = copies_of(hardware, tokens * row)
    table = views(hardware, dtype, (rows, width), 1, request.seed)[0]
    generator = torch.Generator().manual_seed(request.seed)
    ids = torch.randint(rows, (copies, tokens), generator=generator).to(hardware.device).unbind()
    return Prepared(lambda i: functions.embed(ids[i], table), copies, "torch_embedding", rows=tokens)
