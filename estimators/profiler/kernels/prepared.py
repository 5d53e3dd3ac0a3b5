"""Operators made ready for timing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from estimators.errors import EstimatorError
from estimators.profiler.hardware import Hardware, MemoryShortError
from estimators.profiles import columns_of


@dataclass(frozen=True)
class Prepared:
    """One operator at one point, its operands in place.

    Attributes:
        run: takes the number of the set of operands, from 0 to below ``copies``, and runs the operator once.
        copies: sets of operands that calls go round, so that weights and caches come from memory (``operands``).
        kernel: name of what runs.
        graphable: whether a CUDA graph can hold it: it does not wait for the device.
        rows: tokens of the batch; what runs before it in an engine has as many.
        behind_product: whether a product is what runs before it, as before norms; else it is an element-wise operator.
    """

    run: Callable[[int], object]
    copies: int
    kernel: str
    graphable: bool = True
    rows: int = 1
    behind_product: bool = False


@dataclass(frozen=True)
class Request:
    """What to make ready: a point of an operator, and how an engine lays out its cache."""

    hardware: Hardware
    dtype: str
    columns: Mapping[str, int]
    block_size: int
    seed: int


Maker = Callable[[Request], Prepared]
_makers: dict[str, tuple[Maker, tuple[str, ...]]] = {}


def register(operator: str, dtypes: tuple[str, ...] = ("fp32", "bf16")) -> Callable[[Maker], Maker]:
    """Say which function makes an operator ready, and of which types there is a kernel."""

    def add(maker: Maker) -> Maker:
        _makers[operator] = maker, dtypes
        return maker

    return add


def operators() -> tuple[str, ...]:
    """Operators that can be measured, sorted."""
    return tuple(sorted(_makers))


def prepare(
    hardware: Hardware, operator: str, dtype: str, columns: Mapping[str, int], *, block_size: int, seed: int
) -> Prepared:
    """Put an operator's operands in place.

    Args:
        hardware: where.
        operator: one of ``operators()``.
        dtype: of weights or of the KV cache, one of ``hardware.dtypes()``.
        columns: the point, by the names of ``estimators.profiles.columns_of``.
        block_size: tokens per block of the KV cache.
        seed: of the operands and of where blocks lie.

    Raises:
        EstimatorError: for what cannot be measured here: no kernel, another type; a MemoryShortError where memory is
            too little.
    """
    if operator not in _makers:
        mend = f"choose one of {', '.join(operators())}"
        raise EstimatorError("operator", operator, "is not measured by the profiler", mend)
    maker, known = _makers[operator]
    if dtype not in hardware.dtypes():
        mend = f"choose one of {', '.join(hardware.dtypes())}"
        raise EstimatorError("dtype", dtype, f"is not computed by {hardware.spec.name}", mend)
    if dtype not in known:
        wrong = f"has no kernel of {operator} in the profiler"
        raise EstimatorError("dtype", dtype, wrong, f"choose one of {', '.join(known)}")
    for name, least in columns_of(operator).items():
        if columns.get(name, least - 1) < least:
            raise EstimatorError(name, columns.get(name), f"is no {name} of {operator}", f"give {least} or more")
    try:
        with torch.inference_mode():
            return maker(Request(hardware, dtype, columns, block_size, seed))
    except (torch.OutOfMemoryError, MemoryError) as error:
        shown = ", ".join(f"{name} {value}" for name, value in columns.items())
        raise MemoryShortError(operator, shown, "needs more memory than is free", "measure smaller points") from error
