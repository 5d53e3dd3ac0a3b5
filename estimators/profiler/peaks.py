"""Peak rates of a device, measured: products, and bytes from its memory and from its cache."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

import torch

_LEAST_TRIES = 5
_TRY_FOR_S = 0.25  # the best of so long: other programs may hold the cores for a while


def matrix_rate(device: torch.device, dtype: torch.dtype, size: int) -> float:
    """Best rate of a square product, floating-point operations per second.

    Args:
        device: where.
        dtype: of the operands; fp8 (e4m3) on CUDA.
        size: rows and columns.
    """
    a = torch.rand(size, size, device=device)
    if dtype == torch.float8_e4m3fn:
        low, one = a.to(dtype), torch.ones((), device=device)
        seconds = best_seconds(
            device, lambda: torch._scaled_mm(low, low.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16)
        )
    else:
        a = a.to(dtype)
        seconds = best_seconds(device, lambda: a @ a)
    return 2.0 * size**3 / seconds


def copy_bandwidth(device: torch.device, num_bytes: int) -> float:
    """Bytes read and written per second by a copy of ``num_bytes``."""
    source = torch.zeros(num_bytes // 4, device=device)
    target = torch.zeros_like(source)  # written before: its pages are there
    return 8.0 * (num_bytes // 4) / best_seconds(device, lambda: target.copy_(source))


def read_bandwidth(device: torch.device, num_bytes: int) -> float:
    """Bytes read per second by a product of a matrix of ``num_bytes`` with a vector."""
    rows, width = num_bytes // 4 // 1024, 1024
    matrix = torch.ones(rows, width, device=device)
    vector = torch.ones(width, device=device)
    return 4.0 * rows * width / best_seconds(device, lambda: matrix @ vector)


def best_seconds(device: torch.device, call: Callable[[], object]) -> float:
    """Least time of many calls, seconds."""
    with torch.inference_mode():
        call()
        tried = [_seconds(device, call)]
        while len(tried) < _LEAST_TRIES or sum(tried) < _TRY_FOR_S:
            tried.append(_seconds(device, call))
        return min(tried)


def _seconds(device: torch.device, call: Callable[[], object]) -> float:
    if device.type == "cuda":
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        call()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) * 1e-3
    begin = perf_counter()
    call()
    return perf_counter() - begin
