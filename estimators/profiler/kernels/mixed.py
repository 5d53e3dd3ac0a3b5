"""Batches of chunks and decodes, and of decodes of unequal length, made ready for timing.

No estimator learns them: they show how far the rules hold by which tables put such batches together (``rules.py``).
"""

from __future__ import annotations

import torch

from estimators.errors import EstimatorError
from estimators.profiler.kernels.attention import PER_REQUEST, attend, attend_chunk, attend_decodes
from estimators.profiler.kernels.backends import choose_backend
from estimators.profiler.kernels.prepared import Prepared, Request, register
from estimators.profiler.kernels.sequences import operands


@register("mixed_attention")
def _mixed_attention(request: Request) -> Prepared:
    """One chunk and decodes of equal contexts: one launch, where the kernel takes batches."""
    chunk, history, decodes, kv = (request.columns[name] for name in ("chunk", "history", "decodes", "kv"))
    queries, lengths = [1] * decodes + [chunk], [kv] * decodes + [history + chunk]
    q, cache, tables, scale = operands(request, sum(queries), lengths)
    backend = choose_backend(request.hardware, request.block_size)
    decode_lens = torch.tensor(lengths[:-1], dtype=torch.int32, device=q.device)

    def one_after_the_other(i: int) -> None:
        attend_decodes(q[:decodes], cache[0], cache[1], tables[i][:-1], decode_lens, scale)
        attend_chunk(q[decodes:], cache[0], cache[1], tables[i][-1], history, scale)

    def at_once(i: int) -> torch.Tensor:
        return attend(q, cache[0], cache[1], tables[i], queries, lengths, scale, backend)

    if backend == PER_REQUEST:
        return Prepared(one_after_the_other, len(tables), backend, False, rows=sum(queries))
    return Prepared(at_once, len(tables), backend, rows=sum(queries))


@register("skewed_decode_attention")
def _skewed_decode_attention(request: Request) -> Prepared:
    """One decode of the longest context, all others of equal ones."""
    batch, kv, longest = (request.columns[name] for name in ("batch", "kv", "longest"))
    rest = batch * kv - longest
    if longest < kv or rest < batch - 1:
        wrong = f"is no longest of {batch} contexts of {kv} tokens on average"
        raise EstimatorError("longest", longest, wrong, f"give {kv} to {batch * kv - batch + 1}")
    each, more = divmod(rest, batch - 1)
    lengths = [longest, *[each + 1] * more, *[each] * (batch - 1 - more)]
    q, cache, tables, scale = operands(request, batch, lengths)
    lens = torch.tensor(lengths, dtype=torch.int32, device=q.device)
    backend = choose_backend(request.hardware, request.block_size)

    def run(i: int) -> torch.Tensor:
        return attend_decodes(q, cache[0], cache[1], tables[i], lens, scale, backend)

    return Prepared(run, len(tables), backend, backend != PER_REQUEST, rows=batch)
