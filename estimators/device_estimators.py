"""Which trained files are behind a device: its own, and of the package's those of operators that it lacks.

A known board that was profiled alone, for one, has no collectives of its own.
"""

from __future__ import annotations

import functools
from pathlib import Path

from estimators.device_file import own_zoo
from estimators.devices import DeviceSpec
from estimators.errors import EstimatorError
from estimators.estimator import ZOO, OperatorEstimators, entry_files, list_zoo


def device_files(device: DeviceSpec, dtype: str) -> dict[str, Path]:
    """Trained files of a device in a dtype, by operator."""
    files = entry_files(ZOO, device.name, dtype)
    if device.directory is not None:
        files |= entry_files(own_zoo(device.directory), device.name, dtype)
    return files


def estimators_of(device: DeviceSpec, dtype: str) -> OperatorEstimators:
    """The estimators of a device in a dtype.

    Raises:
        EstimatorError: when it has none; the sentence lists those there are.
    """
    files = device_files(device, dtype)
    if not files and device.directory is not None:
        zoo = own_zoo(device.directory)
        names = ", ".join(f"{name} {kind}" for name, kind in list_zoo(zoo)) or "nothing"
        mend = f"choose one of {names}, or profile it in {dtype}"
        raise EstimatorError("device", f"{device.name} {dtype}", f"has no estimators in {zoo}", mend)
    if not files:
        return OperatorEstimators.load(device.name, dtype)
    stamps = tuple((operator, path, path.stat().st_mtime_ns, path.stat().st_size) for operator, path in files.items())
    return _read(stamps)


@functools.lru_cache(maxsize=8)
def _read(stamps: tuple[tuple[str, Path, int, int], ...]) -> OperatorEstimators:
    """Kept, as the tables of stages and of members follow one another; read again when a file has changed."""
    return OperatorEstimators.read({operator: path for operator, path, _, _ in stamps})
