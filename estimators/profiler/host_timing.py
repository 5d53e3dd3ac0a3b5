"""Operators timed on a CPU, by the host's clock: one is done when its call returns."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter_ns

import torch

from estimators.profiler.hardware import Hardware
from estimators.profiler.kernels.functions import add_rms_norm, linear
from estimators.profiler.kernels.operands import activations, copies_of, views
from estimators.profiler.kernels.prepared import Prepared
from estimators.profiler.timing import Round

_WARM_UP_CALLS = 3
_LEAST_CALLS = 4  # of an operator in a round, unless they take longer than was asked for
_PATIENCE = 3  # a round has so many times as many calls at most, to find some that nobody disturbed
_WAITED_SHARE = 0.02  # of a call: more waiting for a core than that disturbs it
_BETWEEN_N, _BETWEEN_K, _BETWEEN_ROWS = 2048, 512, 64  # of the product between two calls; rows at most


def host_runners(hardware: Hardware, prepared: Sequence[Prepared], least_s: float) -> list[HostRunner]:
    """A runner for each."""
    between = Between(hardware)
    runners = [HostRunner(each, least_s, between) for each in prepared]
    waits = Waits()
    for runner in runners:
        runner.waits = waits
    return runners


class Between:
    """What runs before a call, as in a layer: a product with weights from memory, and a norm where one follows it.

    It leaves the core's own caches full of weights, without the instructions and activations of what follows, and the
    other threads waiting for work, or asleep: a norm of 8 tokens takes three times as long behind a product as behind
    itself.
    """

    def __init__(self, hardware: Hardware) -> None:
        copies, rows, k = copies_of(hardware, 4 * _BETWEEN_N * _BETWEEN_K), _BETWEEN_ROWS, _BETWEEN_K
        self._weights = views(hardware, torch.float32, (_BETWEEN_N, k), copies, 0).unbind()
        self._x, self._residual = activations(hardware, torch.float32, 2, rows, k).unbind()
        self._norm = activations(hardware, torch.float32, k)
        self._turn = 0

    def run(self, rows: int, only_product: bool) -> None:
        """Multiply so many rows, or 64: the caches are full then."""
        self._turn = (self._turn + 1) % len(self._weights)
        x = self._x[:rows]
        linear(x, self._weights[self._turn])
        if not only_product:
            add_rms_norm(x, self._residual[:rows], self._norm, 1e-5)


class HostRunner:
    """Calls timed one by one; a round's time is the median of those that nobody disturbed.

    Attributes:
        kernel: name of what runs.
        waits: of all threads, those that the warm-up has started among them: set after it.
    """

    waits: Waits

    def __init__(self, prepared: Prepared, least_s: float, between: Between) -> None:
        self.kernel = prepared.kernel
        self._run, self._copies, self._next = prepared.run, prepared.copies, 0
        self._behind, self._between = (prepared.rows, prepared.behind_product), between
        self._least_ns = int(least_s * 1e9)
        self._calls: list[tuple[int, bool]] = []
        for _ in range(_WARM_UP_CALLS):  # the first calls of a shape choose kernels and touch memory
            self._taken_ns()

    def start(self) -> None:
        """Make calls until enough of them were not disturbed."""
        self._calls, good, total = [], 0, 0
        while good < _LEAST_CALLS and len(self._calls) < _PATIENCE * _LEAST_CALLS:
            self._between.run(*self._behind)
            waited = self.waits.total_ns()
            taken = self._taken_ns()
            disturbed = self.waits.total_ns() - waited > _WAITED_SHARE * taken
            self._calls.append((taken, disturbed))
            good += not disturbed
            total += taken
            if total > self._least_ns and (good or total > _PATIENCE * self._least_ns):
                break

    def result(self) -> Round:
        """Of the last round."""
        good = [taken for taken, disturbed in self._calls if not disturbed]
        used = good or [taken for taken, _ in self._calls]
        return Round(statistics.median(used) * 1e-9, len(used), not good)

    def _taken_ns(self) -> int:
        run, i = self._run, self._next
        self._next = (i + 1) % self._copies
        began = perf_counter_ns()
        run(i)
        return max(1, perf_counter_ns() - began)


class Waits:
    """How long threads of this process have waited for a core that another program held.

    Linux tells for each thread; elsewhere nothing is known, and the total stays 0.
    """

    def __init__(self) -> None:
        self._files: list[int] = []
        for task in Path("/proc/self/task").glob("*/schedstat"):
            try:
                self._files.append(os.open(task, os.O_RDONLY))
            except OSError:  # the thread has ended
                continue

    def total_ns(self) -> int:
        """Of all threads that were there when this was made, nanoseconds."""
        total = 0
        for file in self._files:
            try:
                total += int(os.pread(file, 64, 0).split()[1])
            except (OSError, IndexError):  # the thread has ended, or the system does not count
                continue
        return total

    def __del__(self) -> None:
        for file in self._files:
            os.close(file)
