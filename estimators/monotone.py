"""Isotonic regression: the closest row that never falls.

Forests err by some percent from leaf to leaf, which makes their times fall here and there along an axis on which more
work is done. The non-decreasing row nearest in log time removes that; docs/accuracy.md says what it does to the error.
"""

from __future__ import annotations

import numpy as np

from estimators.layout import FloatArray


def smooth_rows(seconds: FloatArray) -> FloatArray:
    """Return positive ``seconds`` of shape (rows, steps), no row of which falls from one step to the next.

    Each row is the one that is nearest by the squares of log time, all steps weighing the same (pool adjacent
    violators, Ayer et al., 1955). Rows that do not fall are returned as they are. Columns that did not fall still do
    not, if all rows have the same steps.
    """
    smooth = seconds.copy()
    for row in np.flatnonzero((np.diff(seconds, axis=1) < 0).any(axis=1)):
        smooth[row] = np.exp(_pool(np.log(seconds[row]).tolist()))
    return smooth


def _pool(values: list[float]) -> FloatArray:
    means: list[float] = []
    counts: list[int] = []
    for value in values:
        mean, count = value, 1
        while means and means[-1] > mean:
            before = counts.pop()
            mean = (means.pop() * before + mean * count) / (before + count)
            count += before
        means.append(mean)
        counts.append(count)
    return np.repeat(means, counts)
