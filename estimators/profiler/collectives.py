"""Times of collectives among the devices of this machine, and what is to be said where there is but one."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from estimators.profiler.collective_worker import Job, run_worker
from estimators.profiler.hardware import torch_type
from estimators.profiler.kernels.operands import release
from estimators.profiler.timing import median_and_spread
from estimators.profiles import COLLECTIVES

if TYPE_CHECKING:
    import polars

    from estimators.profiler.hardware import Hardware

ROUNDS = 9
#: Elements that are measured by default: of one token of a small model, to those of 8,192 tokens of a large one.
ELEMENTS = tuple(2**power for power in range(10, 28))


@dataclass(frozen=True)
class MeasuredCollectives:
    """What was measured, and what not.

    Attributes:
        frames: by operator: ``gpus``, ``elements``, ``seconds``, ``spread``, as ``estimators.profiles`` says; empty
            where there are too few devices.
        kernel: the library that sent.
        dtype: of the numbers.
        rounds: how often each was measured.
        note: one sentence for the report, empty where all that was asked for was measured.
    """

    frames: Mapping[str, polars.DataFrame]
    kernel: str
    dtype: str
    rounds: int
    note: str


def measure_collectives(
    hardware: Hardware,
    gpus: Sequence[int],
    elements: Sequence[int] = ELEMENTS,
    *,
    dtype: str = "bf16",
    operators: Sequence[str] = COLLECTIVES,
    rounds: int = ROUNDS,
) -> MeasuredCollectives:
    """Measure collectives among as many devices of this machine as are asked for and at hand, by NCCL.

    A process is started for each device, which imports the program's main module: a script needs the usual
    ``if __name__ == "__main__"``.

    Args:
        hardware: the device; all of its kind in this machine take part.
        gpus: how many share a collective; 1 is left out.
        elements: numbers per call, rounded up to a multiple of the devices.
        dtype: bf16 or fp32, of the numbers.
        operators: which.
        rounds: how often each is measured.

    Returns:
        Frames and a sentence. Too few devices or a failure are no error: a device has other operators.
    """
    several = sorted({count for count in gpus if count > 1})
    at_hand = torch.cuda.device_count() if hardware.device.type == "cuda" else 1
    measured = [count for count in several if count <= at_hand]
    note, rows = "", []
    if measured:  # what operators were timed with takes memory of the first device
        release()
        torch.cuda.empty_cache()
    try:
        for count in measured:
            rows += time_collectives("nccl", count, elements, dtype, operators, rounds)
    except RuntimeError as error:
        note = f"Collectives could not be measured ({_last_line(error)}): {_instead(hardware)}."
        measured = []
    missing = [count for count in several if count > at_hand]
    if missing:
        found = f"{at_hand} device{'s are' if at_hand > 1 else ' is'} at hand"
        note = note or f"Collectives of {_listed(missing)} devices were not measured, {found}: {_instead(hardware)}."
    return MeasuredCollectives(_frames(rows) if measured else {}, _library(), dtype, rounds, note)


def time_collectives(
    backend: str, gpus: int, elements: Sequence[int], dtype: str, operators: Sequence[str], rounds: int = ROUNDS
) -> list[tuple[str, int, int, float, float]]:
    """Time collectives among ``gpus`` new processes.

    Args:
        backend: ``"nccl"``, a device for each process; or ``"gloo"``, between processes on the CPU.
        gpus: processes.
        elements: numbers per call, rounded up to a multiple of ``gpus``.
        dtype: bf16 or fp32.
        operators: of ``estimators.profiles.COLLECTIVES``.
        rounds: how often each is measured, interleaved.

    Returns:
        (operator, gpus, elements, seconds, spread): the median and spread over rounds, of the slowest process.

    Raises:
        RuntimeError: as torch raises it when a process fails.
    """
    sizes = sorted({-(-number // gpus) * gpus for number in elements})
    jobs: list[Job] = [(operator, size) for operator in operators for size in sizes]
    with tempfile.TemporaryDirectory() as place:
        args = (gpus, backend, torch_type(dtype), jobs, rounds, place)
        torch.multiprocessing.spawn(run_worker, args=args, nprocs=gpus)
        by_round = json.loads((Path(place) / "times.json").read_text(encoding="utf-8"))
    by_job = zip(jobs, zip(*by_round, strict=True), strict=True)
    return [(operator, gpus, size, *median_and_spread(times)) for (operator, size), times in by_job]


def _frames(rows: Sequence[tuple[str, int, int, float, float]]) -> dict[str, polars.DataFrame]:
    import polars as pl

    frame = pl.DataFrame(rows, schema=["operator", "gpus", "elements", "seconds", "spread"], orient="row")
    return {
        operator: frame.filter(pl.col("operator") == operator).drop("operator").sort("gpus", "elements")
        for operator in frame["operator"].unique(maintain_order=True)
    }


def _instead(hardware: Hardware) -> str:
    if hardware.known:
        return f"those that the package has of {hardware.spec.name} are taken"
    return f"a model on several of {hardware.spec.name} (tp > 1) cannot be simulated"


def _library() -> str:
    if torch.cuda.is_available():
        return "nccl " + ".".join(str(part) for part in torch.cuda.nccl.version())
    return "gloo"


def _listed(numbers: Sequence[int]) -> str:
    *others, last = map(str, numbers)
    return f"{', '.join(others)} or {last}" if others else last


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1].strip()
