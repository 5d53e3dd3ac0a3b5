"""Arrival processes: when requests come.

Every choice draws the interval before each request; the first request arrives after the first interval, as in Vidur,
and not at 0. Vidur caps its exponential intervals at 3/qps, which raises its rate by 5.2 %; here nothing is capped.
Arrivals at another ``qps`` from the same generator state are the same arrivals on a stretched time axis, except where
the rate changes with time: see `traces.modulated`.
"""

import math
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from traces.errors import MAX_QPS, MIN_QPS, real_number
from traces.modulated import Diurnal, Mmpp, OnOff
from traces.replay import Replay
from traces.summed import Summed
from traces.trace_columns import TraceArrivals


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
class Poisson(Summed):
    """Exponential intervals.

    Attributes:
        qps: mean rate, requests per second, 1e-9 to 1e9.
    """

    qps: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "qps", real_number("qps", self.qps, MIN_QPS, MAX_QPS))

    def steps(self, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Intervals at rate 1, shape (n,)."""
        return rng.standard_exponential(n)

    def at_s(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Arrival times [s]."""
        return sums / self.qps


@dataclass(frozen=True)
class Gamma(Summed):
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

    def steps(self, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Intervals whose mean is the shape of their distribution, shape (n,)."""
        return rng.standard_gamma(self.cv**-2, n)

    def at_s(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Arrival times [s]."""
        return sums / (self.cv**-2 * self.qps)


@dataclass(frozen=True)
class Weibull(Summed):
    """Weibull-distributed intervals: as gamma ones, but with a heavier tail for cv > 1.

    Attributes:
        qps: mean rate, requests per second, 1e-9 to 1e9.
        cv: coefficient of variation of the intervals (standard deviation / mean), 0.001 to 100.
    """

    qps: float
    cv: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "qps", real_number("qps", self.qps, MIN_QPS, MAX_QPS))
        object.__setattr__(self, "cv", real_number("cv", self.cv, 1e-3, 1e2))

    def steps(self, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Intervals of scale 1, shape (n,)."""
        return rng.weibull(weibull_shape(self.cv), n)

    def at_s(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Arrival times [s]."""
        return sums / (math.gamma(1 + 1 / weibull_shape(self.cv)) * self.qps)


@dataclass(frozen=True)
class Static(Summed):
    """Every request at time 0: the offline case."""

    def steps(self, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Zeros, shape (n,); draws nothing."""
        return np.zeros(n)

    def at_s(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """The sums themselves."""
        return sums


ARRIVALS: Final[dict[str, type[ArrivalProcess]]] = {
    "diurnal": Diurnal,
    "gamma": Gamma,
    "mmpp": Mmpp,
    "on_off": OnOff,
    "poisson": Poisson,
    "replay": Replay,
    "static": Static,
    "trace": TraceArrivals,
    "weibull": Weibull,
}


def weibull_shape(cv: float) -> float:
    """The shape of the Weibull distribution with a coefficient of variation, by bisection."""
    low, high = 0.05, 2000.0  # their coefficients of variation are beyond 0.001 and 100
    while high / low > 1 + 1e-14:
        middle = math.sqrt(low * high)
        variation = math.expm1(math.lgamma(1 + 2 / middle) - 2 * math.lgamma(1 + 1 / middle))
        low, high = (middle, high) if variation > cv * cv else (low, middle)
    return low
