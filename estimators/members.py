"""Members of an estimator as equally likely alternatives: as far from their mean as held-out errors are.

Trees of one forest agree better with each other than with what was measured. So their distances from the mean are
multiplied by a factor, and to each a share is added that is the same at all shapes, since what the trees do not know of
one shape they often do not know of its neighbours either. Both numbers come from cross-validation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from estimators.features import Floats

#: Part of the truth within DEVIATIONS standard deviations of the members on either side of the estimate: what members
#: are moved apart for, and what intervals claim.
COVERAGE, DEVIATIONS = 0.9, 1.645


@dataclass(frozen=True)
class Calibration:
    """How to move the members of an estimator apart.

    Attributes:
        inflation: factor on their distances from their mean.
        shared: standard deviation of the part that all shapes share, of log time, before inflation.
        claimed: part of the measured times that mean +- 1.645 standard deviations should cover.
        covered: what they cover of the shapes, or what else was held out, that had no part in the calibration; None
            where nothing could be held out.
    """

    inflation: float
    shared: float
    claimed: float
    covered: float | None

    def apart(self, operator: str, members: Floats) -> Floats:
        """Move members apart.

        Args:
            operator: whose members they are. In which order they share the common part differs between operators, so
                that no member is slow in everything.
            members: log(time / roofline), of shape (rows, members).

        Returns:
            The same with the same mean and calibrated distances from it.
        """
        mean = members.mean(axis=1, keepdims=True)
        return np.asarray(mean + self.inflation * (members - mean + self.shared * _scores(operator, members.shape[1])))


def _scores(operator: str, members: int) -> Floats:
    """Equally spaced numbers, of mean 0 and standard deviation 1, in an order drawn for the operator."""
    scores = np.arange(members) - (members - 1) / 2
    order = np.random.default_rng(list(operator.encode()))
    return np.asarray(order.permutation(scores / scores.std(ddof=1)))
