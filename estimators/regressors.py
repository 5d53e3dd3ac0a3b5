"""The kinds of regressors that can learn log(time / roofline), behind one function: ``fit``.

Whatever the kind, ``MEMBERS`` of them are fitted side by side, each with draws of its own. Their mean is the estimate,
and how far they lie apart says how much it is worth.

* ``forest``: extremely randomised trees (Geurts et al., 2006): like a random forest, but each split is drawn at random
  between two measured values instead of lying in their middle. On unseen shapes both err alike; between the steps of
  the measured grid, where a table is asked most often, drawn splits average to a slope where a random forest jumps
  (H100 decode attention at unseen contexts: 3 % mean error against 6 %), and they are drawn in a fraction of the time.
* ``boosted``: gradient-boosted trees on halves of the rows.
* ``linear``, ``polynomial``: ridge regression on the features or their products, on rows drawn with replacement.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from estimators.errors import EstimatorError
from estimators.features import Floats

if TYPE_CHECKING:
    from sklearn.base import RegressorMixin
    from sklearn.multioutput import MultiOutputRegressor

Features = NDArray[np.float32]

MEMBERS = 5
TREES = 3  # of a member's forest
LEAVES = 2600  # of a tree at most
# Rows in a leaf at least, where there are many: single spikes of a measurement are not learnt then (H100 decode
# attention on unseen shapes: 4.0 % mean error against 5.1 %). Where there are few, each is needed.
_LEAST_ROWS, _MANY = 3, 10_000
_THREADED = 5_000  # rows that take longer to learn than threads to start
_HALVED = 8  # rows of which halves are enough to boost with
# Thresholds are kept to a 1024th, of a logarithm a tenth of a percent, and each tree's part of the mean likewise. What
# the zoo saves by it is a quarter of its size; what it costs is a hundredth of the error.
_STEPS = 1024.0
# With few features products of a higher degree are few enough.
_DEGREE, _DEGREE_OF_FEW, _FEW = 2, 5, 3


def fit(kind: str, features: Features, target: Floats, seed: int) -> MultiOutputRegressor:
    """Fit the members of one estimator.

    Args:
        kind: a key of ``KINDS``.
        features: of the rows, float32 of shape (rows, features).
        target: log(time / roofline), float64 of shape (rows,).
        seed: the same seed, the same members on any number of threads.

    Returns:
        A scikit-learn regressor that predicts shape (rows, MEMBERS).

    Raises:
        EstimatorError: for an unknown kind.
    """
    from sklearn.multioutput import MultiOutputRegressor

    if kind not in KINDS:
        raise EstimatorError("kind", kind, "is not a kind of regressor", f"choose one of {', '.join(KINDS)}")
    members = [KINDS[kind](features, target, MEMBERS * seed + member) for member in range(MEMBERS)]
    together = MultiOutputRegressor(members[0])
    together.estimators_ = members  # fitted on draws of their own, not on a column of targets each
    return together


def _forest(features: Features, target: Floats, seed: int) -> RegressorMixin:
    from sklearn.ensemble import ExtraTreesRegressor

    least = _LEAST_ROWS if len(target) >= _MANY else 1
    forest = ExtraTreesRegressor(
        n_estimators=TREES,
        max_leaf_nodes=LEAVES,
        min_samples_leaf=least,
        random_state=seed,
        n_jobs=-1 if len(target) >= _THREADED else 1,
    )
    forest.fit(features, target)
    for tree in forest.estimators_:
        _round(tree.tree_.threshold, 1 / _STEPS)
        _round(tree.tree_.value, TREES / _STEPS)
    return forest


def _round(numbers: Floats, step: float) -> None:
    numbers[...] = np.round(numbers / step) * step


def _boosted(features: Features, target: Floats, seed: int) -> RegressorMixin:
    from sklearn.ensemble import GradientBoostingRegressor

    part = 0.5 if len(target) >= _HALVED else 1.0
    boosted = GradientBoostingRegressor(
        n_estimators=150, max_leaf_nodes=32, max_depth=None, subsample=part, max_features=0.5, random_state=seed
    )
    return boosted.fit(features, target)


def _ridge(degree: Callable[[int], int], features: Features, target: Floats, seed: int) -> RegressorMixin:
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler, PolynomialFeatures, StandardScaler

    chosen = np.random.default_rng(seed).integers(0, len(target), size=len(target))
    within = MinMaxScaler(clip=True)  # beyond what was measured, the roofline grows and this does not
    products = PolynomialFeatures(degree(features.shape[1]), include_bias=False)
    return make_pipeline(within, StandardScaler(), products, Ridge()).fit(features[chosen], target[chosen])


def _linear(features: Features, target: Floats, seed: int) -> RegressorMixin:
    return _ridge(lambda _: 1, features, target, seed)


def _polynomial(features: Features, target: Floats, seed: int) -> RegressorMixin:
    return _ridge(lambda width: _DEGREE_OF_FEW if width <= _FEW else _DEGREE, features, target, seed)


KINDS: Mapping[str, Callable[[Features, Floats, int], RegressorMixin]] = {
    "forest": _forest,
    "boosted": _boosted,
    "linear": _linear,
    "polynomial": _polynomial,
}
