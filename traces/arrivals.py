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
class Weibull:
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

    def sample(self, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Arrival times in seconds, shape (n,)."""
        shape = weibull_shape(self.cv)
        return np.cumsum(rng.weibull(shape, n)) / (math.gamma(1 + 1 / shape) * self.qps)


@dataclass(frozen=True)
class Static:
    """Every request at time 0: the offline case."""

    def sample(self, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Zeros, shape (n,); draws nothing."""
        return np.zeros(n)


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
