"""How few measured points an estimator needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from estimators.errors import EstimatorError
from estimators.features import Floats
from estimators.held_out import shape_folds
from estimators.regressors import fit
from estimators.training import TrainingSet


@dataclass(frozen=True)
class LearningCurve:
    """Mean |predicted / measured - 1| on shapes not trained on, by the number of points trained on.

    Attributes:
        points: numbers of training points.
        random: errors after training on points drawn at random.
        chosen: errors after training on points that lie far apart in the estimator's features, each the farthest from
            those before: what a profiler would measure that must make do with few.
    """

    points: tuple[int, ...]
    random: tuple[float, ...]
    chosen: tuple[float, ...]


def learning_curve(rows: TrainingSet, points: Sequence[int], seed: int, kind: str = "forest") -> LearningCurve:
    """Train on few of the measured points and test on a fifth of the shapes, none of which were trained on.

    Args:
        rows: of one operator.
        points: numbers of training points, in any order.
        seed: of the split, the draws and the regressors.
        kind: of regressor.

    Raises:
        EstimatorError: for fewer than 2 points, or more than there are outside the tested shapes.
    """
    tested = shape_folds(rows, seed) == 0
    known = np.flatnonzero(~tested)
    if not points or min(points) < 2 or max(points) > known.size:
        wrong = "are not numbers of points to train on"
        raise EstimatorError("points", list(points), wrong, f"give 2 to {known.size}")
    drawn = np.random.default_rng(seed).permutation(known)
    apart = known[_far_apart(rows.features[known], max(points), seed)]

    def error(chosen: NDArray[np.int64]) -> float:
        regressor = fit(kind, rows.features[chosen], rows.target[chosen], seed)
        deviation = regressor.predict(rows.features[tested]).mean(axis=1) - rows.target[tested]
        return float(np.abs(np.expm1(deviation)).mean())

    return LearningCurve(
        tuple(points),
        tuple(error(drawn[:number]) for number in points),
        tuple(error(apart[:number]) for number in points),
    )


def _far_apart(features: NDArray[np.float32], number: int, seed: int) -> NDArray[np.int64]:
    """Indices of points, each the farthest from all before it, of features scaled to their standard deviation."""
    spread = features.std(axis=0)
    scaled: Floats = ((features - features.mean(axis=0)) / np.where(spread > 0, spread, 1)).astype(np.float64)
    chosen = [int(np.random.default_rng(seed).integers(len(scaled)))]
    distance = np.full(len(scaled), np.inf)
    while len(chosen) < number:
        distance = np.minimum(distance, ((scaled - scaled[chosen[-1]]) ** 2).sum(axis=1))
        chosen.append(int(distance.argmax()))
    return np.asarray(chosen)
