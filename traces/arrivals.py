"""Arrival processes: when requests come.

Every choice draws the interval before each request; the first request arrives after the first interval, as in Vidur,
and not at 0. Vidur caps its exponential intervals at 3/qps, which raises its rate by 5.2 %; here nothing is capped.
Arrivals at another ``qps`` from the same generator state are the same arrivals on a stretched time axis.
"""

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from traces.errors import real_number
from traces.trace_columns import TraceArrivals

MIN_QPS: Final = 1e-9
MAX_QPS: Final = 1e9


class ArrivalProcess(Protocol):
    """What every choice offers."""

    def sample(self, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Draw arrivals.

        The first k of n arrivals do not depend on n.

        Args:
            n: number of requests.
            rng: source of randomness.

        Returns:
            Arrival times in seconds, shape (n,), nondecreasing.
        """


@dataclass(frozen=True)
class Poisson:
    """Exponential intervals.

    Attributes:
        qps: mean rate, requests per second, 1e-9 to 1e9.
    """

    qps: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "qps", real_number("qps", self.qps, MIN_QPS, MAX_QPS))

    def sample(self, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Arrival times in seconds, shape (n,)."""
        return np.cumsum(rng.standard_exponential(n)) / self.qps


@dataclass(frozen=True)
class Gamma:
    """Gamma-distributed intervals: burstier than Poisson for cv > 1, more regular for cv < 1, the same for cv = 1.

    Attributes:
        qps: mean rate, requests per second, 1e-9 to 1e9.
        cv: coefficient of variation of the intervals (standard deviation / mean), 0.001 to 100.
    """

    qps: float
    cv: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "qps", real_number("qps", self.qps, MIN_QPS, MAX_QPS))
        object.__setattr__(self, "cv", real_number("cv", self.cv, 1e-3, 1e2))

    def sample(self, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Arrival times in seconds, shape (n,)."""
        shape = self.cv**-2
        return np.cumsum(rng.standard_gamma(shape, n)) / (shape * self.qps)


@dataclass(frozen=True)
class Static:
    """Every request at time 0: the offline case."""

    def sample(self, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Zeros, shape (n,); draws nothing."""
        return np.zeros(n)


ARRIVALS: Final[dict[str, type[ArrivalProcess]]] = {
    "gamma": Gamma,
    "poisson": Poisson,
    "static": Static,
    "trace": TraceArrivals,
}
