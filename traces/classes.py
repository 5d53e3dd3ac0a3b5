"""Request classes, drawn by their shares."""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from traces.errors import MAX_CLASS, TraceError, is_number, shown

_WANTED: Final = f"give 1 to {MAX_CLASS + 1} numbers above 0 that sum to 1"


def check_shares(shares: Sequence[float]) -> list[float]:
    """The shares of the classes 0, 1, ... as a list.

    Raises:
        TraceError: they are not 1 to 128 numbers above 0 that sum to 1 within 1e-9.
    """
    try:
        given = list(shares)
    except TypeError:
        raise TraceError("class_shares", shares, f"is {shown(shares)}", _WANTED) from None
    if not 1 <= len(given) <= MAX_CLASS + 1:
        raise TraceError("class_shares", shares, f"has {len(given)} elements", _WANTED)
    for index, share in enumerate(given):
        if not is_number(share) or not share > 0:
            raise TraceError("class_shares", share, f"is {shown(share)} at index {index}", _WANTED)
    total = math.fsum(given)
    if not abs(total - 1) <= 1e-9:
        raise TraceError("class_shares", shares, f"sums to {total:.12g}", _WANTED)
    return [float(share) for share in given]


def class_stream(seed: int) -> np.random.Generator:
    """The stream of classes: the third child of the seed, as arrivals and lengths have the first two."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(2,))))


def draw_classes(n: int, shares: list[float], seed: int) -> NDArray[np.int32]:
    """The first classes of a seed, shape (n,).

    Args:
        n: how many.
        shares: probability of each class, as from `check_shares`.
        seed: an integer of at least 0.
    """
    return next_classes(n, shares, class_stream(seed))


def next_classes(n: int, shares: list[float], stream: np.random.Generator) -> NDArray[np.int32]:
    """The next classes of a stream, shape (n,); the other arguments are those of `draw_classes`."""
    bounds = np.cumsum(shares)[:-1]  # without the last, which a rounding error may leave below a draw
    return np.searchsorted(bounds, stream.random(n), side="right").astype(np.int32)
