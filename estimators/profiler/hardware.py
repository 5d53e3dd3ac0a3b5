"""The device that is measured: which it is, what it can do, and how measuring it is described."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from estimators.devices import DeviceSpec
from estimators.errors import EstimatorError

if TYPE_CHECKING:
    import torch


class MemoryShortError(EstimatorError):
    """Operands that do not fit beside what is in memory now; later they may."""


@dataclass(frozen=True)
class Hardware:
    """A device at hand.

    Attributes:
        device: torch's.
        spec: what it can do; of a board that ``estimators.devices`` knows the data sheet's, else measured.
        known: whether the board is one of those.
        cache_bytes: last-level cache, which operands have to overflow to come from memory.
        types: what it multiplies in, the one that activations and caches have first.
        provenance: JSON-able: ``device``, ``driver``, ``libraries`` (versions by name), ``clocks``, ``threads``, and
            ``assumed``, the fields of ``spec`` that nothing here told.
    """

    device: torch.device
    spec: DeviceSpec
    known: bool
    cache_bytes: int
    types: tuple[str, ...]
    provenance: Mapping[str, Any]

    def dtypes(self) -> tuple[str, ...]:
        """Types of weights that can be measured here."""
        return self.types

    @property
    def is_cuda(self) -> bool:
        """Whether it runs kernels in a queue of its own, timed by its own clock."""
        return bool(self.device.type == "cuda")

    def synchronize(self) -> None:
        """Wait until everything asked of the device is done."""
        if self.is_cuda:
            import torch

            torch.cuda.synchronize(self.device)

    def free_bytes(self) -> int:
        """Memory that could be taken now."""
        if self.is_cuda:
            import torch

            free, _ = torch.cuda.mem_get_info(self.device)
            unused = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
            return int(free + unused)
        from estimators.profiler.host_machine import free_memory

        return free_memory()


def open_hardware(name: str = "auto") -> Hardware:
    """Find a device, and measure its peaks where no data sheet is known. Takes a second or two.

    On a CPU it also tells the C library to keep freed memory (``host_machine.keep_freed_memory``), for the process.

    Args:
        name: ``"auto"`` (CUDA if there is one, else the CPU), ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.

    Raises:
        EstimatorError: when torch is not installed, or there is no such device.
    """
    try:
        import torch
    except ImportError as error:
        mend = "run pip install 'fastsim-llm[profile]'"
        raise EstimatorError("device", name, "cannot be measured: torch is not installed", mend) from error
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and (kind == "cpu" or not number.isdecimal())):
        raise EstimatorError("device", name, "is none that can be measured", "give auto, cpu, cuda or cuda:1")
    if kind == "cpu":
        from estimators.profiler.host_machine import describe_cpu

        return Hardware(device=torch.device("cpu"), **describe_cpu())
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    index = int(number or 0)
    if index >= count:
        wrong = f"is not there: torch {torch.__version__} sees {count} CUDA devices"
        raise EstimatorError("device", name, wrong, "give auto or cpu, or install a driver and a torch for CUDA")
    from estimators.profiler.board import describe_board

    device = torch.device("cuda", index)
    torch.cuda.set_device(device)
    return Hardware(device=device, **describe_board(device))


def torch_type(dtype: str) -> torch.dtype:
    """Torch's type of one of ours.

    Raises:
        EstimatorError: for a type that nothing here measures.
    """
    import torch

    types = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp8": torch.float8_e4m3fn}
    if dtype not in types:
        raise EstimatorError("dtype", dtype, "is not measured", f"choose one of {', '.join(types)}")
    return types[dtype]
