"""The arrivals of a trace, again: faster or slower, more or fewer of them, and again from the start when it ends."""

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from traces.errors import TraceError, real_number, shown
from traces.trace_columns import path_text, version_of


@dataclass(frozen=True)
class Replay:
    """Arrivals of a trace file in any format that `traces.read` knows, the first one at 0.

    A trace lasts from its first arrival to one mean gap behind its last, where it begins anew. More requests come from
    copies of it, the first in place and each of the others from a random place on, going round; fewer from leaving each
    request out with the same probability. So patterns in time stay what they are, unlike with ``time_scale``.

    Attributes:
        path: the file.
        time_scale: what times are multiplied with, 1e-9 to 1e9.
        rate_scale: how many requests there are for each of the trace in the same time, 0.001 to 1000.
        loop: whether the trace begins anew when it ends; otherwise asking for more requests is an error.
    """

    path: str
    time_scale: float = 1.0
    rate_scale: float = 1.0
    loop: bool = True

    def __post_init__(self) -> None:
        """Read the file once to check it; raises TraceError."""
        object.__setattr__(self, "path", path_text(self.path))
        object.__setattr__(self, "time_scale", real_number("time_scale", self.time_scale, 1e-9, 1e9))
        object.__setattr__(self, "rate_scale", real_number("rate_scale", self.rate_scale, 1e-3, 1e3))
        if not isinstance(self.loop, bool):
            raise TraceError("loop", self.loop, f"is {shown(self.loop)}", "give true or false")
        _arrivals(self.path, version_of(self.path))

    def sample(self, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Arrival times in seconds, shape (n,).

        Raises:
            TraceError: the trace has fewer and is not looped.
        """
        times_s, period_s = _arrivals(self.path, version_of(self.path))
        copies = [
            _Copy(times_s, period_s, min(1.0, self.rate_scale - index), rotated=index > 0, rng=stream)
            for index, stream in enumerate(rng.spawn(math.ceil(self.rate_scale)))
        ]
        while sum(copy.count for copy in copies) < n:
            if copies[0].rounds and not self.loop:
                count = sum(copy.count for copy in copies)
                problem = f"is {self.path!r}, which gives {count} arrivals where {n} are asked for"
                raise TraceError("path", self.path, problem, f"ask for at most {count} requests, or loop it")
            for copy in copies:
                copy.play()
        return np.sort(np.concatenate([part for copy in copies for part in copy.parts]))[:n] * self.time_scale


class _Copy:
    """One copy of the arrivals, played round by round.

    Attributes:
        rounds: how many rounds there were.
        count: how many arrivals they gave.
        parts: the arrivals of each.
    """

    def __init__(
        self, times_s: NDArray[np.float64], period_s: float, keep: float, *, rotated: bool, rng: np.random.Generator
    ) -> None:
        if rotated:
            times_s = np.sort((times_s - rng.random() * period_s) % period_s)
        self._times_s, self._period_s, self._keep, self._rng = times_s, period_s, keep, rng
        self.rounds, self.count = 0, 0
        self.parts: list[NDArray[np.float64]] = []

    def play(self) -> None:
        """Add a round."""
        times_s = self._times_s
        if self._keep < 1:
            times_s = times_s[self._rng.random(len(times_s)) < self._keep]
        self.parts.append(times_s + self.rounds * self._period_s)
        self.rounds += 1
        self.count += len(times_s)


@functools.lru_cache(maxsize=8)
def _arrivals(path: str, version: tuple[int, int] | None) -> tuple[NDArray[np.float64], float]:
    """Seconds after the first arrival of each, shape (n,), and how long they last."""
    from traces.readers import read

    workload = read(path)
    if workload.qps is None:
        problem = f"is {path!r}, whose requests all arrive at one time"
        raise TraceError("path", path, problem, "give a trace with arrivals spread over time")
    return workload.arrival_s - workload.arrival_s[0], workload.duration_s + 1 / workload.qps
