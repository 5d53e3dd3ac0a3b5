"""From measured points to a device: profiles in our schema, estimators trained on them, and ``device.json`` at last."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from estimators.device_file import own_zoo
from estimators.devices import DeviceSpec
from estimators.features import OPERATORS
from estimators.profiler.campaign import Campaign
from estimators.profiler.points import Kind, Point
from estimators.profiler.refine import best_kind, held_out_error, one_thread
from estimators.profiler.report import OperatorReport
from estimators.profiler.timing import Timing
from estimators.profiles import Profiles, columns_of, count_outliers
from estimators.sources.own import own_path, write_profiles
from estimators.train import train

_LICENCE = "of whoever measured"


def write_operators(
    directory: Path,
    campaign: Campaign,
    grid: Mapping[Kind, Mapping[Point, float]],
    spec: DeviceSpec,
    provenance: Mapping[str, Any],
    target: float,
    seed: int,
) -> list[OperatorReport]:
    """Write and train every operator that was measured; returns what each is worth."""
    reports = []
    for kind, points in grid.items():
        times = campaign.times(kind)
        refused = sum(point in campaign.record.refused for point in points)
        if not times:
            reports.append(OperatorReport(*kind, 0, len(points), refused, 0.0, 0.0, None, False, "", ()))
            continue
        profiles = _profiles(kind, times, spec, provenance)
        repeats = int(np.median([timing.repeats for timing in times.values()]))
        write_profiles(own_path(directory, *kind), profiles, {**provenance, "repeats": repeats})
        regressor, error = "", None
        if kind[0] in OPERATORS:
            rows = campaign.rows(kind)
            regressor = best_kind(rows, seed)
            error = held_out_error(rows, regressor, seed)
            with one_thread():
                train(spec, kind[1], own_zoo(directory), seed, kind=regressor, profiles=[profiles])
        seconds = sum(timing.seconds for timing in times.values())
        spread = float(np.median([timing.spread for timing in times.values()]))
        met = error is None or error <= target
        kernels = profiles.kernels
        reports.append(
            OperatorReport(*kind, len(times), len(points), refused, seconds, spread, error, met, regressor, kernels)
        )
    return reports


def _profiles(kind: Kind, times: Mapping[Point, Timing], spec: DeviceSpec, provenance: Mapping[str, Any]) -> Profiles:
    """What was measured of an operator and type, in our schema."""
    operator, dtype = kind
    values = np.asarray([point.values for point in times], dtype=np.int64).T
    frame = pl.DataFrame(dict(zip(columns_of(operator), values, strict=True))).with_columns(
        seconds=pl.Series([timing.seconds for timing in times.values()], dtype=pl.Float64),
        spread=pl.Series([timing.spread for timing in times.values()], dtype=pl.Float64),
    )
    libraries = provenance["libraries"]
    return Profiles(
        system=spec.name,
        operator=operator,
        dtype=dtype,
        frame=frame,
        source=f"fastsim's profiler, {provenance['device']}, {provenance['date']}",
        engine=" ".join(["torch", libraries["torch"]]) if "torch" in libraries else "unknown",
        licence=_LICENCE,
        kernels=tuple(sorted({timing.kernel for timing in times.values()})),
        rows_read=frame.height,
        rows_dropped=0,
        rows_duplicate=0,
        outliers=count_outliers(operator, frame),
    )
