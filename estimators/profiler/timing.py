"""Times of prepared operators, all of them measured in turns."""

from __future__ import annotations

import gc
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from estimators.profiler.hardware import Hardware
    from estimators.profiler.kernels.prepared import Prepared

# Of normally distributed numbers the standard deviation is this many times the median distance from their median.
_DEVIATIONS = 1.4826
_MORE_ROUNDS = 2  # times as many as asked for at most, where other programs disturb
_LEAST_ROUNDS, _LONG_S = 3, 0.5  # an operator that has run so long, in so many rounds, is left out of those that follow


@dataclass(frozen=True)
class Timing:
    """What one operator took.

    Attributes:
        seconds: of one call, the median of the rounds.
        spread: of the rounds, the standard deviation over the mean, told by medians so that a single odd round does
            not count: 1.4826 x the median distance from the median, over the median.
        repeats: calls that were timed.
        kernel: name of what ran; it ends in ``_eager`` where a CUDA graph could not hold it, so that the time to launch
            is in it.
        yardstick_s: of the yardstick in the same rounds; None where it was not timed with it.
    """

    seconds: float
    spread: float
    repeats: int
    kernel: str
    yardstick_s: float | None = None


@dataclass(frozen=True)
class Round:
    """One operator in one round.

    Attributes:
        seconds: of one call.
        calls: how many were timed.
        disturbed: whether another program held a core that the operator wanted, all the time.
    """

    seconds: float
    calls: int
    disturbed: bool = False


class Runner(Protocol):
    """One operator on one kind of device, warmed up."""

    kernel: str

    def start(self) -> None:
        """Make calls, or put them into the device's queue."""

    def result(self) -> Round:
        """Of the calls that were started last; the device is done with them."""


def time_all(
    hardware: Hardware, prepared: Sequence[Prepared], rounds: int = 9, least_s: float = 2e-3, seed: int = 0
) -> list[Timing]:
    """Time operators in rounds: each round runs every operator, in an order of its own.

    So a clock that drifts, or another program that comes and goes, meets all of them alike, and the rounds of one
    operator lie as far apart as they can. An operator that takes long is timed in fewer rounds, three at least. Rounds
    that another program disturbed count only where there are no three others; up to twice as many are run to find them.

    Args:
        hardware: what they were prepared for.
        prepared: the operators.
        rounds: how many.
        least_s: how long an operator runs in a round, at least, by as many calls as it takes.
        seed: of the orders.
    """
    import torch

    order, generator = list(range(len(prepared))), random.Random(seed)
    measured: list[list[Round]] = [[] for _ in prepared]
    collects = gc.isenabled()
    gc.disable()
    try:
        with torch.inference_mode():
            runners = _runners(hardware, prepared, least_s)
            for _ in range(_MORE_ROUNDS * rounds):
                generator.shuffle(order)
                running = [i for i in order if not _is_enough(measured[i], rounds)]
                for i in running:
                    runners[i].start()
                hardware.synchronize()
                for i in running:
                    measured[i].append(runners[i].result())
    finally:
        if collects:
            gc.enable()
    return [_timing(runner.kernel, each) for runner, each in zip(runners, measured, strict=True)]


def _runners(hardware: Hardware, prepared: Sequence[Prepared], least_s: float) -> Sequence[Runner]:
    if hardware.is_cuda:
        from estimators.profiler.cuda_timing import cuda_runners

        return cuda_runners(prepared, least_s)
    from estimators.profiler.host_timing import host_runners

    return host_runners(hardware, prepared, least_s)


def _is_enough(measured: Sequence[Round], rounds: int) -> bool:
    """Whether there are as many good rounds as were asked for, or enough of an operator that takes long."""
    if sum(not each.disturbed for each in measured) >= rounds:
        return True
    return len(measured) >= _LEAST_ROUNDS and sum(each.seconds * each.calls for each in measured) >= _LONG_S


def _timing(kernel: str, measured: Sequence[Round]) -> Timing:
    good = [each for each in measured if not each.disturbed]
    used = good if len(good) >= min(_LEAST_ROUNDS, len(measured)) else measured
    seconds, spread = median_and_spread([each.seconds for each in used])
    return Timing(seconds, spread, sum(each.calls for each in used), kernel)


def median_and_spread(seconds: Sequence[float]) -> tuple[float, float]:
    """Of rounds, as ``Timing`` has them."""
    middle = statistics.median(seconds)
    away = statistics.median(abs(each - middle) for each in seconds)
    return middle, _DEVIATIONS * away / middle
