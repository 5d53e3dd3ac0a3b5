"""Rows of one operator, ready to learn from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from estimators.features import OPERATORS, Floats, Roofline, features_and_roofline

_FEW = 64  # values of a column that are kept one by one


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
    def of(cls, operator: str, columns: Mapping[str, Floats], seconds: Floats, roofline: Roofline) -> TrainingSet:
        """Compute the features and the roofline of the rows."""
        features, bound_s = features_and_roofline(operator, columns, roofline)
        return cls(operator, columns, seconds, roofline, features, bound_s)

    @property
    def target(self) -> Floats:
        """What the regressors learn: log(time / roofline)."""
        return np.asarray(np.log(self.seconds / self.bound_s))

    @property
    def profiled(self) -> dict[str, list[float]]:
        """Lowest and highest measured value of each column."""
        return {
            name: [float(self.columns[name].min()), float(self.columns[name].max())]
            for name in OPERATORS[self.operator].columns
        }

    @property
    def measured_values(self) -> dict[str, list[float]]:
        """All measured values of each column that has few, such as the head sizes."""
        values = {name: np.unique(self.columns[name]).tolist() for name in OPERATORS[self.operator].columns}
        return {name: each for name, each in values.items() if len(each) <= _FEW}
