"""Trains the trees of one operator and measures them on what they have not seen.

The forest is one of extremely randomised trees (Geurts et al., 2006): like a random forest, but each split is drawn at
random between two measured values instead of lying in their middle. On unseen shapes both err alike; between the steps
of the measured grid, where a table is asked most often, drawn splits average to a slope where a random forest jumps
(H100 decode attention at unseen contexts: 3 % mean error against 6 %), and they are drawn in a fraction of the time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from estimators.features import ACTIVATION_BYTES, OPERATORS, Floats, Roofline, features_and_roofline

if TYPE_CHECKING:
    from sklearn.ensemble import ExtraTreesRegressor

TREES = 20
LEAVES = 2000  # at most, in each tree
FOLDS = 5

# What a split keeps together: rows that agree in these columns are all trained on or all held out. "shapes" asks for
# models never measured; "between" for lengths that the grid steps over, a quarter of an octave at a time; "rows" for
# nothing but the repeatability of the measurement.
_SPLITS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "gemm": {"shapes": ("n", "k"), "between": ("m",), "rows": ()},
    "prefill_attention": {"shapes": ("q_heads", "kv_heads", "head_dim"), "between": ("chunk",), "rows": ()},
    "decode_attention": {"shapes": ("q_heads", "kv_heads", "head_dim"), "between": ("kv",), "rows": ()},
    "all_reduce": {"shapes": ("elements",), "rows": ()},
}
_SMALLEST_REGION = 0.02  # of the rows; a smaller region says little about its error


@dataclass(frozen=True)
class TrainingSet:
    """Rows of one operator, ready to learn from.

    Attributes:
        operator: a key of ``OPERATORS``.
        columns: the operator's columns, float64 of shape (n,).
        seconds: measured times, float64 of shape (n,).
        roofline: constants of the roofline; its floor is the smallest measured time.
        features: float32 of shape (n, features).
        bound_s: the roofline of each row, seconds, float64 of shape (n,).
    """

    operator: str
    columns: Mapping[str, Floats]
    seconds: Floats
    roofline: Roofline
    features: NDArray[np.float32]
    bound_s: Floats

    @classmethod
    def of(
        cls,
        operator: str,
        columns: Mapping[str, Floats],
        seconds: Floats,
        roofline: Roofline,
        element_bytes: int = ACTIVATION_BYTES,
    ) -> TrainingSet:
        """Compute the features and the roofline of the rows; ``element_bytes`` as ``features_and_roofline`` has it."""
        features, bound_s = features_and_roofline(operator, columns, roofline, element_bytes)
        return cls(operator, columns, seconds, roofline, features, bound_s)

    @property
    def target(self) -> Floats:
        """What the trees learn: log(time / roofline)."""
        return np.asarray(np.log(self.seconds / self.bound_s))


def fit(features: NDArray[np.float32], target: Floats, seed: int) -> ExtraTreesRegressor:
    """Train a forest; the same rows and seed give the same forest on any number of threads."""
    from sklearn.ensemble import ExtraTreesRegressor

    forest = ExtraTreesRegressor(n_estimators=TREES, max_leaf_nodes=LEAVES, random_state=seed, n_jobs=-1)
    return forest.fit(features, target)


def held_out_errors(rows: TrainingSet, seed: int) -> dict[str, dict[str, object]]:
    """Cross-validate: every row is predicted by a forest that has not seen its group.

    Returns:
        For each split the median, mean and 95th percentile of |predicted / measured - 1|, the bias (mean of
        log(predicted / measured)) and the worst region: the octave of one column with the largest mean error.
    """
    errors = {}
    for split, together in _SPLITS[rows.operator].items():
        predicted = _cross_predict(rows, _folds(rows, together, seed), seed)
        error = np.abs(predicted / rows.seconds - 1)
        errors[split] = {
            "median": _rounded(np.median(error)),
            "mean": _rounded(error.mean()),
            "p95": _rounded(np.percentile(error, 95)),
            "bias": _rounded(np.log(predicted / rows.seconds).mean()),
            "worst": _worst_region(rows.columns, error),
        }
    return errors


def _folds(rows: TrainingSet, together: tuple[str, ...], seed: int) -> NDArray[np.int64]:
    if not together:
        groups = np.arange(len(rows.seconds))
    elif len(together) == 1:
        groups = np.floor(4 * np.log2(rows.columns[together[0]])).astype(np.int64)
    else:
        shapes = np.stack([rows.columns[name] for name in together], axis=1)
        groups = np.unique(shapes, axis=0, return_inverse=True)[1].ravel()
    known, index = np.unique(groups, return_inverse=True)
    fold: NDArray[np.int64] = np.random.default_rng(seed).permutation(known.size)[index] % FOLDS
    return fold


def _cross_predict(rows: TrainingSet, fold: NDArray[np.int64], seed: int) -> Floats:
    predicted = np.empty_like(rows.seconds)
    for number in range(FOLDS):
        out = fold == number
        forest = fit(rows.features[~out], rows.target[~out], seed)
        predicted[out] = np.exp(forest.predict(rows.features[out])) * rows.bound_s[out]
    return predicted


def _worst_region(columns: Mapping[str, Floats], error: Floats) -> dict[str, object]:
    worst: dict[str, object] = {"mean": -1.0}
    for name, values in columns.items():
        octave = np.floor(np.log2(np.maximum(values, 1)))
        for number in np.unique(octave):
            inside = octave == number
            mean = _rounded(error[inside].mean())
            if inside.mean() >= _SMALLEST_REGION and mean > float(str(worst["mean"])):
                span = [int(values[inside].min()), int(values[inside].max())]
                worst = {"column": name, "range": span, "rows": int(inside.sum()), "mean": mean}
    return worst


def _rounded(value: float) -> float:
    return round(float(value), 4)


def profiled_ranges(rows: TrainingSet) -> dict[str, list[float]]:
    """Lowest and highest measured value of each column."""
    return {
        name: [float(rows.columns[name].min()), float(rows.columns[name].max())]
        for name in OPERATORS[rows.operator].columns
    }
