"""Times of communication in a system from a directory of aiconfigurator's tables, in either of their layouts.

Below ``SYSTEM/`` these are ``vllm-VERSION/custom_allreduce_perf.parquet`` and ``nccl-VERSION/nccl_perf.parquet``, or as
in the package ``aiconfigurator-core`` ``comm/vllm/VERSION/...`` and ``comm/nccl/VERSION/...``. ``latency`` is in
milliseconds and ``message_size`` counts elements: of an all-gather and a reduce-scatter those of all GPUs together.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from estimators.errors import EstimatorError
from estimators.layout import FloatArray, IntArray
from estimators.profiles import merge_points
from estimators.sources.aiconfigurator_tables import KINDS, Kind, counted_rows, nccl_kind
from estimators.sources.aiconfigurator_tree import version_key
from estimators.sources.rows import read_table

#: vLLM's own all-reduce, as CUDA graphs replay it; where so many GPUs were not measured with it, that of NCCL.
_LIBRARIES: tuple[tuple[str, Kind], ...] = (("vllm", KINDS["all_reduce"]), ("nccl", nccl_kind("all_reduce")))
#: Systems whose name does not follow from that of the hardware.
_SYSTEMS = {"rtxpro6000": "rtx_pro_6000_server"}


@dataclass(frozen=True)
class MessageTimes:
    """Measured times of messages of 16-bit numbers.

    Attributes:
        gpus: how many GPUs.
        elements: numbers in a message, sorted.
        seconds: of each.
        source: system and library with its version.
    """

    gpus: int
    elements: IntArray
    seconds: FloatArray
    source: str

    def at(self, elements: ArrayLike) -> FloatArray:
        """Seconds of messages of any size: linear between the measured ones and beyond the largest."""
        given = np.asarray(elements, dtype=np.float64)
        slope = (self.seconds[-1] - self.seconds[-2]) / (self.elements[-1] - self.elements[-2])
        beyond = np.maximum(0.0, given - self.elements[-1]) * slope
        return np.asarray(np.interp(given, self.elements, self.seconds) + beyond)


class AllReduce(MessageTimes):
    """Times of summing over GPUs."""


class Exchange(MessageTimes):
    """Times of what engines that share experts do around them: an all-gather before, a reduce-scatter behind."""


def read_all_reduce(root: str | os.PathLike[str], hardware: str, gpus: int, version: str = "") -> AllReduce:
    """Read the all-reduce of a system.

    Args:
        root: the directory of systems, or one that holds it.
        hardware: a system such as ``"h100_sxm"``, or a name of hardware such as ``"H100"`` or ``"RTXPRO6000"``.
        gpus: how many take part.
        version: of vLLM; the newest measured version up to it is taken, or the oldest; the newest of all if empty.

    Raises:
        EstimatorError: when there is no such system, or so many of its GPUs were not measured.
    """
    system = find_system(Path(root), hardware)
    for library, kind in _LIBRARIES:
        for found, path in _versions(system, library, kind.file, version if library == "vllm" else ""):
            elements, seconds = _read_times(path, "all_reduce", kind, gpus)
            if elements.size > 1:
                return AllReduce(gpus, elements, seconds, f"{system.name} {library} {found}")
    raise EstimatorError("tp", gpus, f"has no all-reduce of so many GPUs in {system}", "give profiles that hold one")


def read_exchange(root: str | os.PathLike[str], hardware: str, gpus: int) -> Exchange:
    """Read what engines that share experts need, from the newest tables of NCCL.

    Args:
        root: the directory of systems, or one that holds it.
        hardware: as in `read_all_reduce`.
        gpus: how many take part: all GPUs of all engines of a replica.

    Raises:
        EstimatorError: when there is no such system, or so many of its GPUs were not measured.
    """
    system = find_system(Path(root), hardware)
    for found, path in _versions(system, "nccl", "nccl_perf.parquet", ""):
        gather, scatter = (
            MessageTimes(gpus, *_read_times(path, name, KINDS[name], gpus), found)
            for name in ("all_gather", "reduce_scatter")
        )
        if min(gather.elements.size, scatter.elements.size) > 1:
            elements = np.union1d(gather.elements, scatter.elements)
            return Exchange(gpus, elements, gather.at(elements) + scatter.at(elements), f"{system.name} nccl {found}")
    wrong = f"GPUs have no all-gather and reduce-scatter in {system}"
    raise EstimatorError("data_parallel", gpus, wrong, "give profiles that hold them")


def _read_times(path: Path, operator: str, kind: Kind, gpus: int) -> tuple[IntArray, FloatArray]:
    """Elements, sorted, and seconds of the messages of a table between so many GPUs."""
    import polars as pl

    rows = counted_rows(str(path), read_table(path, str(path))[0], operator, "bf16", kind, "")
    table = merge_points(operator, rows.filter(pl.col("gpus") == gpus))
    return table["elements"].to_numpy(), table["seconds"].to_numpy()


def find_system(root: Path, hardware: str) -> Path:
    """The folder of a system's tables, at most two folders below ``root``.

    Raises:
        EstimatorError: when there is none.
    """
    plain = hardware.lower().replace("-", "").replace(" ", "")
    for name in (hardware, _SYSTEMS.get(plain, plain), f"{plain}_sxm"):
        for pattern in (name, f"*/{name}", f"*/*/{name}"):
            if found := sorted(path for path in root.glob(pattern) if path.is_dir() and _has_tables(path)):
                return found[0]
    raise EstimatorError("profiles", str(root), f"hold no all-reduce of {hardware}", "give aiconfigurator's tables")


def _has_tables(system: Path) -> bool:
    return any(_versions(system, library, kind.file, "") for library, kind in _LIBRARIES)


def _versions(system: Path, library: str, file: str, version: str) -> list[tuple[str, Path]]:
    """The tables of a library with their versions, those to take first, first."""
    paths = [*system.glob(f"{library}-*/{file}"), *system.glob(f"comm/{library}/*/{file}")]
    found = sorted(
        ((path.parent.name.removeprefix(f"{library}-"), path) for path in paths), key=lambda one: version_key(one[0])
    )
    upto = [one for one in found if not version or version_key(one[0]) <= version_key(version)]
    return upto[::-1] + found[len(upto) :]
