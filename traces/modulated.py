"""Arrivals whose rate changes with time: Poisson arrivals at a rate that is constant on each piece of the time axis.

The rates scale with ``qps``, the times do not: another ``qps`` gives more or fewer requests in periods of the same
length, unlike `Workload.scaled`, which stretches the periods too. The path of the rate has a stream of its own.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from traces.errors import MAX_QPS, MIN_QPS, TraceError, is_number, real_number, shown
from traces.summed import Summed

_STEPS: Final = 1024
_FIRST_CHUNK: Final = 4096
_MOST_PIECES: Final = 2**27


@dataclass(frozen=True)
class Diurnal(Summed):
    """A rate that rises and falls as a sine, in 1024 steps of constant rate a period, each with the mean of the sine.

    Attributes:
        qps: mean rate over a period, requests per second, 1e-9 to 1e9.
        amplitude: how far the rate goes above and below the mean, as a part of it, 0 to 1.
        period_s: length of a period [s].
        phase: where in a period the first request is, 0 to 1: 0 is at the mean and rising, 0.25 at the peak.
    """

    qps: float
    amplitude: float = 0.5
    period_s: float = 86400.0
    phase: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "qps", real_number("qps", self.qps, MIN_QPS, MAX_QPS))
        for name, low, high in (("amplitude", 0.0, 1.0), ("period_s", 1e-3, 1e9), ("phase", 0.0, 1.0)):
            object.__setattr__(self, name, real_number(name, getattr(self, name), low, high))

    def steps(self, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Intervals at rate 1, shape (n,)."""
        return rng.standard_exponential(n)

    def at_s(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Arrival times [s]."""
        time = np.arange(_STEPS + 1) / _STEPS
        turn = 2 * math.pi
        swing = np.cos(turn * self.phase) - np.cos(turn * (time + self.phase))
        expected = time + self.amplitude * swing / turn  # of a period whose mean rate is 1
        expected[-1] = 1.0
        periods, within = np.divmod(sums, self.qps * self.period_s)
        within /= self.qps * self.period_s
        return np.asarray((periods + np.interp(within, expected, time)) * self.period_s)


@dataclass(frozen=True)
class Mmpp:
    """A Markov-modulated Poisson process: states with rates, each left after an exponential time for any of the others.

    Attributes:
        qps: mean rate over all time, requests per second, 1e-9 to 1e9.
        rates: rates of the 2 to 100 states relative to each other, at least 0 and not all 0.
        dwell_s: mean time in each state [s].
    """

    qps: float
    rates: tuple[float, ...]
    dwell_s: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "qps", real_number("qps", self.qps, MIN_QPS, MAX_QPS))
        object.__setattr__(self, "rates", _numbers("rates", self.rates, 0.0))
        object.__setattr__(self, "dwell_s", _numbers("dwell_s", self.dwell_s, 1e-6))
        if len(self.rates) != len(self.dwell_s):
            problem = f"has {len(self.dwell_s)} elements where rates has {len(self.rates)}"
            raise TraceError("dwell_s", self.dwell_s, problem, "give one number for each state")
        if not any(self.rates):
            raise TraceError("rates", self.rates, "are all 0", "give one above 0")

    def sample(self, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Arrival times in seconds, shape (n,)."""
        arrival_stream, state_stream = rng.spawn(2)
        expected = np.cumsum(arrival_stream.standard_exponential(n))
        times, sums = [np.zeros(1)], [np.zeros(1)]
        for dwell_s, rate in self._pieces(state_stream):
            times.append(times[-1][-1] + np.cumsum(dwell_s))
            sums.append(sums[-1][-1] + np.cumsum(dwell_s * rate))
            if sums[-1][-1] >= expected[-1]:
                break
        return np.interp(expected, np.concatenate(sums), np.concatenate(times))

    def _pieces(self, rng: np.random.Generator) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Chunks of the path, each longer than the one before: how long a rate holds, and the rate."""
        dwell_s, rates = np.array(self.dwell_s), np.array(self.rates)
        share = dwell_s / dwell_s.sum()
        rates *= self.qps / float(share @ rates)
        state = int(np.searchsorted(np.cumsum(share)[:-1], rng.random(), side="right"))
        for chunk in itertools.count():
            size = _FIRST_CHUNK << chunk
            if size > _MOST_PIECES:
                problem = f"is {shown(self.dwell_s)}, so short that the rate changes more than {_MOST_PIECES} times"
                raise TraceError("dwell_s", self.dwell_s, problem, "give longer times, or ask for fewer requests")
            jumps = rng.integers(1, len(rates), size) if len(rates) > 2 else np.ones(size, np.int64)
            states = (state + np.cumsum(jumps) - jumps[0]) % len(rates)
            yield rng.standard_exponential(size) * dwell_s[states], rates[states]
            state = int(states[-1] + jumps[0]) % len(rates)


@dataclass(frozen=True)
class OnOff:
    """Bursts: a process with two states, of which one has few requests or none.

    Attributes:
        qps: mean rate over all time, requests per second, 1e-9 to 1e9.
        on_s: mean length of a burst [s].
        off_s: mean time between bursts [s].
        off_rate: rate between bursts, as a part of the rate in them, 0 to 1.
    """

    qps: float
    on_s: float
    off_s: float
    off_rate: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "qps", real_number("qps", self.qps, MIN_QPS, MAX_QPS))
        for name, low, high in (("on_s", 1e-6, 1e9), ("off_s", 1e-6, 1e9), ("off_rate", 0.0, 1.0)):
            object.__setattr__(self, name, real_number(name, getattr(self, name), low, high))

    def sample(self, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Arrival times in seconds, shape (n,)."""
        return Mmpp(self.qps, (1.0, self.off_rate), (self.on_s, self.off_s)).sample(n, rng)


def _numbers(field: str, given: Sequence[float], low: float) -> tuple[float, ...]:
    """2 to 100 numbers of at least ``low`` and at most 1e9."""
    wanted = f"give 2 to 100 numbers from {low:g} to 1e+09"
    if not isinstance(given, list | tuple) or not 2 <= len(given) <= 100:
        raise TraceError(field, given, f"is {shown(given)}", wanted)
    for index, value in enumerate(given):
        if not is_number(value) or not low <= value <= 1e9:
            raise TraceError(field, value, f"is {shown(value)} at index {index}", wanted)
    return tuple(float(value) for value in given)
