"""From measured points to a device: profiles in our schema, estimators trained on them, and ``device.json`` at last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from estimators.device_file import own_zoo
from estimators.devices import DeviceSpec
from estimators.features import OPERATORS
from estimators.host_times import host_path, write_host_times
from estimators.profiler.campaign import Campaign
from estimators.profiler.host import HostProfiled, measure_host
from estimators.profiler.points import Kind, Point
from estimators.profiler.refine import best_kind, frame_of
from estimators.profiler.report import OperatorReport
from estimators.profiler.timing import Timing
from estimators.profiles import Profiles, count_outliers
from estimators.sources.own import own_path, source_of, write_profiles
from estimators.train import train, training_set

if TYPE_CHECKING:
    import polars as pl

    from estimators.profiler.collectives import MeasuredCollectives

_LICENCE = "of whoever measured"
_HOST_REPEATS = 32  # steps of an engine at each number of requests


@dataclass(frozen=True)
class Finish:
    """Writes and trains what was measured.

    Attributes:
        directory: of the profile.
        spec: the device.
        provenance: of every file but for its ``repeats``.
        target: error of each operator that was to be reached.
        seed: of the regressors.
    """

    directory: Path
    spec: DeviceSpec
    provenance: Mapping[str, Any]
    target: float
    seed: int

    def operators(self, campaign: Campaign, grid: Mapping[Kind, Mapping[Point, float]]) -> list[OperatorReport]:
        """Finish every operator of a campaign; returns what each is worth."""
        reports = []
        for kind, points in grid.items():
            refused = sum(point in campaign.record.refused for point in points)
            if times := campaign.times(kind):
                kernels = {timing.kernel for timing in times.values()}
                repeats = int(np.median([timing.repeats for timing in times.values()]))
                reports.append(self._operator(kind, _frame(times), kernels, repeats, len(points), refused))
            else:
                reports.append(OperatorReport(*kind, 0, len(points), refused, 0.0, 0.0, None, False, "", ()))
        return reports

    def collectives(self, measured: MeasuredCollectives) -> list[OperatorReport]:
        """Finish what was measured among several devices, if anything was; all of what was asked for."""
        return [
            self._operator((operator, measured.dtype), frame, {measured.kernel}, measured.rounds, frame.height, 0)
            for operator, frame in measured.frames.items()
        ]

    def host_times(self, engine: HostProfiled, most: int) -> None:
        """Measure what an engine's CPU does at powers of two of requests, and at the most there are."""
        batches = {*(1 << power for power in range(most.bit_length())), most}
        frame = measure_host(engine, batches, _HOST_REPEATS)
        provenance = {**self.provenance, "repeats": _HOST_REPEATS}
        write_host_times(host_path(self.directory), frame, self.spec.name, type(engine).__name__, provenance)

    def _operator(
        self, kind: Kind, frame: pl.DataFrame, kernels: set[str], repeats: int, grid: int, refused: int
    ) -> OperatorReport:
        profiles = self._profiles(kind, frame, kernels)
        write_profiles(own_path(self.directory, *kind), profiles, {**self.provenance, "repeats": repeats})
        regressor, error = "", None
        if kind[0] in OPERATORS:
            regressor, error = best_kind(training_set(profiles, self.spec), self.seed)
            zoo = own_zoo(self.directory)
            train(self.spec, kind[1], zoo, self.seed, kind=regressor, profiles=[profiles])
        return OperatorReport(
            *kind,
            points=frame.height,
            grid=grid,
            refused=refused,
            seconds=float(frame["seconds"].sum()),
            spread=float(np.median(frame["spread"])),
            error=error,
            met=error is None or error <= self.target,
            kind=regressor,
            kernels=profiles.kernels,
        )

    def _profiles(self, kind: Kind, frame: pl.DataFrame, kernels: set[str]) -> Profiles:
        """What was measured of an operator and type, in our schema."""
        provenance = self.provenance
        return Profiles(
            system=self.spec.name,
            operator=kind[0],
            dtype=kind[1],
            frame=frame,
            source=source_of(provenance),
            engine=" ".join(f"{name} {version}" for name, version in provenance["libraries"].items()),
            licence=_LICENCE,
            kernels=tuple(sorted(kernels)),
            rows_read=frame.height,
            rows_dropped=0,
            rows_duplicate=0,
            outliers=count_outliers(kind[0], frame),
        )


def _frame(times: Mapping[Point, Timing]) -> pl.DataFrame:
    """Points and times as the schema has them."""
    import polars as pl

    frame = frame_of({point: timing.seconds for point, timing in times.items()})
    return frame.with_columns(spread=pl.Series([timing.spread for timing in times.values()], dtype=pl.Float64))
