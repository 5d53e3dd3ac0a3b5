"""What the CPU of an engine does in an iteration, by the number of requests in it: a table, and a line through it.

A row has ``batch`` and, in seconds, what comes before the device starts (``schedule``, ``prepare_inputs``, ``launch``)
and what comes after it is done (``sampling``, ``process_outputs``, ``detokenize``); null where a source has no such
column.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from estimators.features import Floats
from estimators.sources.own import read_about, write_measured
from estimators.sources.rows import ROW, floats, numbers, read_table, refuse_rows, require_columns

if TYPE_CHECKING:
    import polars

BEFORE, AFTER = ("schedule", "prepare_inputs", "launch"), ("sampling", "process_outputs", "detokenize")
HOST_COLUMNS = ("batch", *BEFORE, *AFTER)
_FILE = "host.parquet"
_SAID = ("system", "engine")
# Residuals of this part of the median time count in full; of larger ones, which others on the machine cause, less.
_USUAL, _ROUNDS = 0.05, 20


@dataclass(frozen=True)
class HostTimes:
    """CPU time around an iteration; the names are those of fastsim's engine options.

    Attributes:
        launch_s: before the device starts, seconds.
        launch_s_per_request: the same per request of the batch.
        process_s: after the device is done, seconds.
        process_s_per_request: the same per request of the batch.
    """

    launch_s: float
    launch_s_per_request: float
    process_s: float
    process_s_per_request: float


def host_path(directory: str | os.PathLike[str]) -> Path:
    """Where the host's times are in the directory of a profile."""
    return Path(directory) / _FILE


def write_host_times(
    path: str | os.PathLike[str], frame: polars.DataFrame, system: str, engine: str, provenance: Mapping[str, Any]
) -> None:
    """Write the host's times, in one step.

    Args:
        path: the file, such as ``host_path`` tells.
        frame: ``HOST_COLUMNS``.
        system: name of the device behind the engine.
        engine: which, with its version.
        provenance: as ``estimators.sources.own.write_profiles`` takes it.

    Raises:
        EstimatorError: for a provenance that says too little, or a frame that could not be read back.
    """
    write_measured(path, _checked(str(path), frame), {"system": system, "engine": engine}, provenance)


def read_host_times(path: str | os.PathLike[str]) -> polars.DataFrame:
    """Read what ``write_host_times`` wrote: ``HOST_COLUMNS``, sorted by batch.

    Args:
        path: the file, or the directory of the profile that has it.

    Raises:
        EstimatorError: when it cannot be read, was not written by fastsim, or a row is wrong, naming row and column.
    """
    place = host_path(path) if Path(path).is_dir() else Path(path)
    read_about(place, _SAID)
    return _checked(str(place), read_table(place, str(place))[0])


def fit_host_times(frame: polars.DataFrame) -> HostTimes:
    """Draw a line through the times before and one through those after, over the batch size.

    Neither constant nor slope is below 0, and rows far off count less. Where all rows have one batch size, all is
    constant.

    Args:
        frame: ``HOST_COLUMNS``; of one model and deployment.

    Raises:
        EstimatorError: for a frame that is not of host times.
    """
    rows = _checked("host times", frame)
    batch = rows["batch"].to_numpy().astype(np.float64)
    parts = (rows.select(*columns).fill_null(0.0).sum_horizontal().to_numpy() for columns in (BEFORE, AFTER))
    return HostTimes(*(number for seconds in parts for number in _line(batch, seconds)))


def _line(batch: Floats, seconds: Floats) -> tuple[float, float]:
    """Constant and slope."""
    usual = float(np.median(seconds))
    if usual == 0 or np.ptp(batch) == 0:
        return usual, 0.0
    largest = float(batch.max())
    columns, scaled = np.stack([np.ones_like(batch), batch / largest], axis=1), seconds / usual
    weights = np.ones_like(batch)
    for _ in range(_ROUNDS):
        root = np.sqrt(weights)
        constant, slope = _least_squares(columns * root[:, None], scaled * root)
        weights = _USUAL / np.maximum(np.abs(columns @ (constant, slope) - scaled), _USUAL)  # Huber's
    return constant * usual, slope * usual / largest


def _least_squares(columns: Floats, wanted: Floats) -> tuple[float, float]:
    """Factors of two columns, none below 0: of both, or of the better one alone."""
    both = np.linalg.lstsq(columns, wanted)[0]
    if (both >= 0).all():
        return float(both[0]), float(both[1])
    alone = np.diag(np.maximum(columns.T @ wanted / (columns**2).sum(axis=0), 0.0))
    best = min(alone, key=lambda factors: float(((columns @ factors - wanted) ** 2).sum()))
    return float(best[0]), float(best[1])


def _checked(place: str, raw: polars.DataFrame) -> polars.DataFrame:
    """The columns, all of them numbers or null, sorted."""
    import polars as pl

    require_columns(place, raw, HOST_COLUMNS)
    counted = raw.with_row_index(ROW, offset=1)
    columns = [numbers(place, counted, "batch", 1)]
    for name in HOST_COLUMNS[1:]:
        seconds = floats(place, raw, name)
        right = raw[name].is_null() | (seconds.is_finite() & (seconds >= 0)).fill_null(False)
        refuse_rows(place, counted, name, ~right, "is not a number from 0 on")
        columns.append(seconds)
    return pl.DataFrame(columns).sort("batch")
