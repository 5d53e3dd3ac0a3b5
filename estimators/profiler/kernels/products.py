"""Products of activations and weights, made ready for timing."""

from __future__ import annotations

import torch

from estimators.errors import EstimatorError
from estimators.profiler.hardware import torch_type
from estimators.profiler.kernels.functions import linear, linear_fp8
from estimators.profiler.kernels.operands import activations, copies_of, views
from estimators.profiler.kernels.prepared import Prepared, Request, register

_FP8_MULTIPLE = 16  # of n and k: torch._scaled_mm


@register("gemm", ("fp32", "bf16", "fp8"))
def _gemm(request: Request) -> Prepared:
    """Weights go round, activations stay."""
    hardware, dtype = request.hardware, torch_type(request.dtype)
    m, n, k = (request.columns[name] for name in ("m", "n", "k"))
    copies = copies_of(hardware, n * k * dtype.itemsize)
    weights = views(hardware, dtype, (n, k), copies, request.seed).unbind()
    if request.dtype != "fp8":
        x = activations(hardware, dtype, m, k)
        return Prepared(lambda i: linear(x, weights[i]), copies, "torch_linear", rows=m)
    if n % _FP8_MULTIPLE or k % _FP8_MULTIPLE:
        mend = f"give multiples of {_FP8_MULTIPLE}"
        raise EstimatorError("n, k", (n, k), "are no widths that torch multiplies in fp8", mend)
    x = activations(hardware, torch.bfloat16, m, k)
    one = torch.ones((), dtype=torch.float32, device=hardware.device)
    return Prepared(lambda i: linear_fp8(x, weights[i], one, one), copies, "torch_scaled_mm", rows=m)
