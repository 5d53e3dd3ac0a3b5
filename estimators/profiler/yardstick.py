"""The same work in every batch of points, by which is told how fast the device itself is at that time.

Clocks drift, and shared machines are shared: where this was written, one product took 3.8 to 7.7 ms within a minute in
which no other program ran. Points that are timed minutes apart compare only after each was divided by the yardstick of
its batch; and a run on the device compares with its profile only at the same speed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from estimators.profiler.hardware import Hardware
    from estimators.profiler.kernels import Prepared

# About as much time in products that the device's arithmetic bounds as in those that its memory does.
_ROWS, _FEW_ROWS, _FEW = 128, 4, 3
_WIDTH, _WIDTH_ON_CUDA = 1024, 8192


def yardstick(hardware: Hardware) -> Prepared:
    """A product of many rows, then some of few, all with weights from memory."""
    import torch

    from estimators.profiler.hardware import torch_type
    from estimators.profiler.kernels.functions import linear
    from estimators.profiler.kernels.operands import activations, copies_of, views
    from estimators.profiler.kernels.prepared import Prepared

    dtype = torch_type(hardware.dtypes()[0])
    width = _WIDTH_ON_CUDA if hardware.is_cuda else _WIDTH
    with torch.inference_mode():
        x, few = (activations(hardware, dtype, rows, width) for rows in (_ROWS, _FEW_ROWS))
        copies = max(1 + _FEW, copies_of(hardware, width * width * dtype.itemsize))
        weights = views(hardware, dtype, (width, width), copies, 0).unbind()

    def run(i: int) -> None:
        linear(x, weights[i])
        for more in range(1, _FEW + 1):
            linear(few, weights[i - more])

    return Prepared(run, copies, "yardstick", rows=_ROWS)
