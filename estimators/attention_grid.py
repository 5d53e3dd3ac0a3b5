"""Attention times measured on a grid with holes, brought onto the axes of iteration tables.

Everything is linear between neighbours: attention is close to affine in the history, in the context and in the number
of decodes, and at steps of a factor of two nothing does better on cells held out (docs/accuracy.md).
"""

from __future__ import annotations

import numpy as np

from estimators.errors import EstimatorError
from estimators.layout import FloatArray, IntArray


def grid_of(keys: IntArray, seconds: FloatArray) -> tuple[tuple[IntArray, ...], FloatArray]:
    """Lay measurements out on the grid of all their values.

    Args:
        keys: shape (rows, axes).
        seconds: shape (rows,).

    Returns:
        The values of each axis, sorted, and the seconds on their grid, NaN where there is no measurement.
    """
    axes = tuple(np.unique(column) for column in keys.T)
    grid = np.full([axis.size for axis in axes], np.nan)
    grid[tuple(np.searchsorted(axis, column) for axis, column in zip(axes, keys.T, strict=True))] = seconds
    return axes, grid


def fill_holes(axes: tuple[IntArray, ...], grid: FloatArray) -> FloatArray:
    """Fill the cells that were not measured.

    A hole takes the line between the two measured neighbours along the axis on which they are nearest to each other, by
    their ratio; that is repeated with what was filled, as grids of several densities leave holes beside holes. What has
    neighbours on one side only continues the line through the last two, without falling.

    Raises:
        EstimatorError: when there is nothing to continue.
    """
    filled = grid.copy()
    while (holes := np.isnan(filled)).any():
        best = np.full(grid.shape, np.inf)
        values = filled.copy()
        for number, axis in enumerate(axes):
            between, ratio = _between(np.moveaxis(filled, number, -1), axis)
            between, ratio = np.moveaxis(between, -1, number), np.moveaxis(ratio, -1, number)
            closer = holes & (ratio < best)
            values[closer], best[closer] = between[closer], ratio[closer]
        if np.isfinite(best[holes]).any():
            filled = values
            continue
        for number in reversed(range(len(axes))):
            values = np.moveaxis(_beyond(np.moveaxis(filled, number, -1), axes[number]), -1, number)
            if np.isnan(values).sum() < holes.sum():
                break
        else:
            raise EstimatorError("profile", int(holes.sum()), "cells cannot be told from others", "measure more")
        filled = values
    return filled


def resample(grid: FloatArray, axis: IntArray, points: FloatArray | IntArray, number: int) -> FloatArray:
    """Interpolate along one axis of a grid without holes.

    Below the first value it is taken as it is; beyond the last, the line through the last two goes on without falling.
    """
    table = np.moveaxis(grid, number, -1)
    if axis.size == 1:
        return np.moveaxis(np.broadcast_to(table, (*table.shape[:-1], points.size)), -1, number)
    low = np.clip(np.searchsorted(axis, points, side="right") - 1, 0, axis.size - 2)
    weight = np.maximum(0.0, (points - axis[low]) / (axis[low + 1] - axis[low]))
    step = table[..., low + 1] - table[..., low]
    result = table[..., low] + step * weight
    beyond = points > axis[-1]
    result[..., beyond] = np.maximum(result[..., beyond], table[..., -1:])
    return np.moveaxis(result, -1, number)


def _between(table: FloatArray, axis: IntArray) -> tuple[FloatArray, FloatArray]:
    """For each cell the line between the nearest known cells along the last axis, and the ratio of their values."""
    known = ~np.isnan(table)
    place = np.arange(axis.size)
    before = np.maximum.accumulate(np.where(known, place, -1), axis=-1)
    after = np.flip(np.minimum.accumulate(np.flip(np.where(known, place, axis.size), -1), axis=-1), -1)
    inside = (before >= 0) & (after < axis.size) & (before < after)
    low, high = np.where(inside, before, 0), np.where(inside, after, 0)
    span = np.where(inside, axis[high] - axis[low], 1)
    first, last = np.take_along_axis(table, low, -1), np.take_along_axis(table, high, -1)
    line = first + (last - first) * ((axis - axis[low]) / span)
    # One more than the value, as histories begin with 0.
    return np.where(inside, line, np.nan), np.where(inside, (axis[high] + 1) / (axis[low] + 1), np.inf)


def _beyond(table: FloatArray, axis: IntArray) -> FloatArray:
    """Continue the last axis over the holes behind, or before, two known cells."""
    result = table.copy()
    for k in range(2, axis.size):
        step = np.maximum(0.0, result[..., k - 1] - result[..., k - 2]) / (axis[k - 1] - axis[k - 2])
        here = result[..., k - 1] + step * (axis[k] - axis[k - 1])
        result[..., k] = np.where(np.isnan(result[..., k]), here, result[..., k])
    for k in range(axis.size - 2, -1, -1):
        result[..., k] = np.where(np.isnan(result[..., k]), result[..., k + 1], result[..., k])
    return result
