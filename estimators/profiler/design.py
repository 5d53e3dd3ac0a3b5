"""Which points are measured first: the corners of every shape, then points that lie far from each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from estimators.profiler.points import Point

Places = NDArray[np.float64]


def places(points: Sequence[Point]) -> Places:
    """Where points lie: octaves along each column, float64 of shape (points, columns)."""
    return np.log2(np.asarray([point.values for point in points], dtype=np.float64) + 1)


def corners(points: Sequence[Point]) -> list[Point]:
    """The smallest and largest sizes of every shape, without which nothing between could be told."""
    shapes: dict[tuple[int, ...], list[Point]] = {}
    for point in points:
        shapes.setdefault(point.shape, []).append(point)
    found: dict[Point, None] = {}
    for same in shapes.values():
        sizes = np.log2(np.asarray([point.size for point in same], dtype=np.float64) + 1)
        for signs in product((-1, 1), repeat=sizes.shape[1]):
            found[same[int((sizes @ np.asarray(signs)).argmax())]] = None
    return list(found)


def initial(points: Sequence[Point], number: int, seed: int) -> list[Point]:
    """Choose the points to begin with.

    The corners; then, up to half the number, sizes that are powers of two, each the farthest from all before it; then
    any others by the same rule.

    Args:
        points: of one operator and type.
        number: how many; more where there are more corners, fewer where there are fewer points.
        seed: decides between points that lie equally far.
    """
    chosen = corners(points)
    round_ones = [point for point in points if all(value & (value - 1) == 0 for value in point.size)]
    for choice, until in ((round_ones, number // 2), (points, number)):
        chosen += farthest(choice, chosen, max(0, until - len(chosen)), seed)
    return chosen


def farthest(points: Sequence[Point], known: Sequence[Point], number: int, seed: int) -> list[Point]:
    """Up to ``number`` of ``points``, each the farthest from those before it and from the ``known`` ones."""
    waiting = sorted(set(points) - set(known))
    if not waiting or number < 1:
        return []
    weights = np.random.default_rng(seed).uniform(0.9, 1.0, len(waiting))
    return [waiting[i] for i in chosen_apart(weights, places(waiting), places(known), number)]


def chosen_apart(weights: Places, waiting: Places, known: Places, number: int, enough: float = np.inf) -> Iterator[int]:
    """Choose up to ``number`` places, each time the one with the largest weight x distance from all before it.

    Args:
        weights: above 0, shape (waiting,).
        waiting: the places to choose from.
        known: those before.
        number: how many, at most.
        enough: octaves beyond which a distance counts for no more.

    Yields:
        Indices of ``waiting``.
    """
    distance = _distances(waiting, known)
    for _ in range(min(number, len(waiting))):
        best = int((weights * np.minimum(distance, enough)).argmax())
        yield best
        distance = np.minimum(distance, np.linalg.norm(waiting - waiting[best], axis=1))
        distance[best] = -1.0


def _distances(waiting: Places, known: Places) -> Places:
    """Octaves from each waiting point to the nearest known one, shape (waiting,)."""
    distance = np.full(len(waiting), np.inf)
    for place in known:
        distance = np.minimum(distance, np.linalg.norm(waiting - place, axis=1))
    return distance
