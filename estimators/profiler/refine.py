"""How good what was measured is, and what to measure next: where the members of the estimator disagree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from estimators.devices import DeviceSpec
from estimators.features import Floats, features_and_roofline
from estimators.held_out import fold_errors
from estimators.profiler.design import chosen_apart, places
from estimators.profiler.points import Point
from estimators.profiles import Profiles, columns_of
from estimators.regressors import fit
from estimators.train import training_set
from estimators.training import TrainingSet

if TYPE_CHECKING:
    import polars as pl

FOLDS = 5
#: Kinds of regressors that training chooses from. Boosted trees take fifty times as long as a forest.
KINDS = ("forest", "polynomial", "linear")
_NEAR = 1.0  # octaves from a measured point within which disagreement counts for less


def rows_of(times: Mapping[Point, float], kernels: Sequence[str], device: DeviceSpec) -> TrainingSet:
    """What was measured of one operator and type, ready to learn from, in the order of ``times``."""
    first = next(iter(times))
    told = Profiles(device.name, first.operator, first.dtype, frame_of(times), "", "", "", tuple(kernels), 0, 0, 0, 0)
    return training_set(told, device)


def frame_of(times: Mapping[Point, float]) -> pl.DataFrame:
    """Points of one operator and their seconds, by the columns of ``profiles``, in the order of ``times``."""
    import polars as pl

    columns = np.asarray([point.values for point in times], dtype=np.int64).T
    frame = pl.DataFrame(dict(zip(columns_of(next(iter(times)).operator), columns, strict=True)))
    return frame.with_columns(seconds=pl.Series(list(times.values()), dtype=pl.Float64))


def held_out_errors(rows: TrainingSet, kind: str, seed: int) -> Floats:
    """|predicted / measured - 1| of each point by a fit that it had no part in: a fifth at a time, of known shapes.

    Every shape that a model has is measured, so that what a simulation asks for lies between points of its own shape.
    There are as many points as folds at least.
    """
    fold = np.random.default_rng(seed).permutation(len(rows.seconds)) % FOLDS
    return fold_errors(rows, fold, kind, seed)


def best_kind(rows: TrainingSet, seed: int) -> tuple[str, float | None]:
    """The kind of regressor that errs least, and its mean held-out error; None with too few points to hold any out."""
    if len(rows.seconds) < FOLDS:
        return KINDS[0], None
    errors = {kind: float(held_out_errors(rows, kind, seed).mean()) for kind in KINDS}
    best = min(KINDS, key=errors.__getitem__)
    return best, errors[best]


def refine(
    rows: TrainingSet, measured: Sequence[Point], waiting: Sequence[Point], number: int, seed: int
) -> list[Point]:
    """Choose what to measure next.

    Each time the point where the members of a forest lie farthest apart; near points that are measured, or chosen
    already, they are believed more.

    Args:
        rows: what was measured of an operator and type.
        measured: its points.
        waiting: the points to choose from.
        number: how many, at most.
        seed: of the forest.
    """
    waiting = sorted(waiting)
    if not waiting:
        return []
    columns = np.asarray([point.values for point in waiting], dtype=np.float64).T
    named = dict(zip(columns_of(rows.operator), columns, strict=True))
    features, _ = features_and_roofline(rows.operator, named, rows.roofline)
    apart = fit("forest", rows.features, rows.target, seed).predict(features).std(axis=1)
    return [waiting[i] for i in chosen_apart(apart + 1e-9, places(waiting), places(measured), number, _NEAR)]
