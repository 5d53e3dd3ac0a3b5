"""Times of prepared operators, all of them measured in turns."""

from __future__ import annotations

import gc
import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter_ns
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from estimators.profiler.hardware import Hardware
    from estimators.profiler.kernels.prepared import Prepared

# Of normally distributed numbers the standard deviation is this many times the median distance from their median.
_DEVIATIONS = 1.4826
_MOST_CALLS = 200  # of one operator in one round
_WARM_UP_CALLS = 3
_LEAST_ROUNDS, _LONG_S = 3, 0.5  # an operator that has run so long, in so many rounds, is left out of those that follow


@dataclass(frozen=True)
class Timing:
    """What one operator took.

    Attributes:
        seconds: of one call, the median of the rounds.
        spread: of the rounds, the standard deviation over the mean, told by medians so that a round that another
            program disturbed does not count: 1.4826 x the median distance from the median, over the median.
        repeats: calls that were timed.
        kernel: name of what ran; it ends in ``_eager`` where a CUDA graph could not hold it, so that the time to launch
            is in it.
    """

    seconds: float
    spread: float
    repeats: int
    kernel: str


class Runner(Protocol):
    """One operator on one kind of device, warmed up."""

    kernel: str
    calls: int

    def start(self) -> None:
        """Make ``calls`` calls, and note when they began and ended."""

    def seconds(self) -> float:
        """Of one of the calls that were started last; the device is done with them."""


def time_all(
    hardware: Hardware, prepared: Sequence[Prepared], rounds: int = 9, least_s: float = 2e-3, seed: int = 0
) -> list[Timing]:
    """Time operators in rounds: each round runs every operator once, in an order of its own.

    So a clock that drifts, or another program that comes and goes, meets all of them alike, and the rounds of one
    operator lie as far apart as they can. An operator that takes long is timed in fewer rounds, three at least.

    Args:
        hardware: what they were prepared for.
        prepared: the operators.
        rounds: how many.
        least_s: how long an operator runs in a round, at least, by as many calls as it takes (200 at most).
        seed: of the orders.
    """
    import torch

    order, generator = list(range(len(prepared))), random.Random(seed)
    measured: list[list[float]] = [[] for _ in prepared]
    collects = gc.isenabled()
    gc.disable()
    try:
        with torch.inference_mode():
            runners = _runners(hardware, prepared, least_s)
            for _ in range(rounds):
                generator.shuffle(order)
                running = [i for i in order if not _is_enough(measured[i], runners[i].calls)]
                for i in running:
                    runners[i].start()
                hardware.synchronize()
                for i in running:
                    measured[i].append(runners[i].seconds())
    finally:
        if collects:
            gc.enable()
    return [_timing(runner, seconds) for runner, seconds in zip(runners, measured, strict=True)]


def calls_for(least_s: float, seconds: float) -> int:
    """Calls that take so long together, between 1 and 200."""
    return min(_MOST_CALLS, max(1, math.ceil(least_s / seconds)))


def _runners(hardware: Hardware, prepared: Sequence[Prepared], least_s: float) -> Sequence[Runner]:
    if hardware.is_cuda:
        from estimators.profiler.cuda_timing import cuda_runners

        return cuda_runners(prepared, least_s)
    return [_HostRunner(each, least_s) for each in prepared]


def _is_enough(seconds: Sequence[float], calls: int) -> bool:
    return len(seconds) >= _LEAST_ROUNDS and sum(seconds) * calls >= _LONG_S


def _timing(runner: Runner, seconds: Sequence[float]) -> Timing:
    middle = statistics.median(seconds)
    away = statistics.median(abs(value - middle) for value in seconds)
    return Timing(middle, _DEVIATIONS * away / middle, len(seconds) * runner.calls, runner.kernel)


class _HostRunner:
    """Calls timed by the host's clock: on a CPU an operator is done when its call returns."""

    def __init__(self, prepared: Prepared, least_s: float) -> None:
        self.kernel, self.calls = prepared.kernel, 1
        self._run, self._copies, self._next, self._taken = prepared.run, prepared.copies, 0, 0
        for _ in range(_WARM_UP_CALLS):  # the first calls of a shape choose kernels and touch memory
            self.start()
        self.calls = calls_for(least_s, self.seconds())

    def start(self) -> None:
        run, copies, first = self._run, self._copies, self._next
        began = perf_counter_ns()
        for i in range(first, first + self.calls):
            run(i % copies)
        self._taken = perf_counter_ns() - began
        self._next = (first + self.calls) % copies

    def seconds(self) -> float:
        return max(self._taken, 1) * 1e-9 / self.calls
