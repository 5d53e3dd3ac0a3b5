"""Arrival processes that are a function of sums of independent steps: they can be drawn whole, or a part at a time."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from traces.arrivals import ArrivalProcess


class Summed:
    """What such processes share."""

    def steps(self, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """The next n steps, at least 0; drawing k and then m gives the same ones as drawing k + m at once."""
        raise NotImplementedError

    def at_s(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """The arrival time of each sum of the steps up to it [s]."""
        raise NotImplementedError

    def sample(self, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Arrival times in seconds, shape (n,)."""
        return self.at_s(np.cumsum(self.steps(n, rng)))


def in_parts(process: "ArrivalProcess", n: int, rng: np.random.Generator, part: int) -> Iterator[NDArray[np.float64]]:
    """What the process samples, to the last bit, some arrivals at a time.

    Args:
        process: one that is `Summed` is drawn part by part, another one whole.
        n: number of requests.
        rng: source of randomness.
        part: requests of each part but the last.

    Yields:
        Arrival times in seconds, each of shape (part,) or less.
    """
    if not isinstance(process, Summed):
        arrival_s = process.sample(n, rng)
        yield from (arrival_s[begin : begin + part] for begin in range(0, n, part))
        return
    total = 0.0
    for begin in range(0, n, part):
        steps = process.steps(min(part, n - begin), rng)
        steps[0] += total  # as the sum of all of them goes on
        sums = np.cumsum(steps)
        total = float(sums[-1])
        yield process.at_s(sums)
