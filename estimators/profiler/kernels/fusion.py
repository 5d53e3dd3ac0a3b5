"""One kernel of several element-wise operations, where a compiler for the device is at hand."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch

Function = TypeVar("Function", bound=Callable[..., Any])


def fused_on_cuda(function: Function) -> Function:
    """Let a function's operations run as one kernel on CUDA, and one by one elsewhere.

    ``torch.compile`` does it, as in vLLM, whose norms, rotations and activations are compiled likewise; once for all
    sizes. On a CPU operations one by one are what an engine without a compiler of its own runs.

    Args:
        function: takes tensors; the device of the first one decides.
    """
    compiled: list[Callable[..., Any]] = []

    @functools.wraps(function)
    def chosen(first: torch.Tensor, *others: Any) -> Any:
        if not first.is_cuda:
            return function(first, *others)
        if not compiled:
            compiled.append(torch.compile(function, dynamic=True))
        return compiled[0](first, *others)

    return chosen  # type: ignore[return-value]
