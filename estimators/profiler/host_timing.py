"""Operators timed on a CPU, by the host's clock: one is done when its call returns."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter_ns

from estimators.profiler.kernels.prepared import Prepared
from estimators.profiler.timing import Round

_WARM_UP_CALLS = 3
_SAMPLE_NS = 100_000  # at least: far above the resolution of the clock, and what reading it takes
_WAITED_SHARE = 0.02  # of a sample: more waiting for a core than that disturbs it
_PATIENCE = 3  # a round takes so many times as long as asked for at most, to find samples that nobody disturbed


def host_runners(prepared: Sequence[Prepared], least_s: float) -> list[HostRunner]:
    """A runner for each."""
    runners = [HostRunner(each, least_s) for each in prepared]
    waits = Waits()  # after the warm-up, which starts torch's threads
    for runner in runners:
        runner.waits = waits
    return runners


class HostRunner:
    """Calls in samples of 0.1 ms and more; a round's time is the median of those that nobody disturbed."""

    def __init__(self, prepared: Prepared, least_s: float) -> None:
        self.kernel, self.waits = prepared.kernel, Waits()
        self._run, self._copies, self._next = prepared.run, prepared.copies, 0
        self._least_ns, self._samples = int(least_s * 1e9), [(1, 1, False)]
        # The first calls of a shape choose kernels and touch memory.
        fastest = min(self._taken_ns(1) for _ in range(_WARM_UP_CALLS))
        self._calls = max(1, math.ceil(_SAMPLE_NS / fastest))

    def start(self) -> None:
        """Take samples until those that nobody disturbed are as long together as was asked for."""
        self._taken_ns(1)  # wakes the other threads, which in an engine have just done another operator
        self._samples, good, total = [], 0, 0
        while good < self._least_ns and total < _PATIENCE * self._least_ns:
            waited = self.waits.total_ns()
            taken = self._taken_ns(self._calls)
            disturbed = self.waits.total_ns() - waited > _WAITED_SHARE * taken
            self._samples.append((taken, self._calls, disturbed))
            total += taken
            good += 0 if disturbed else taken

    def result(self) -> Round:
        """Of the last round."""
        good = [sample for sample in self._samples if not sample[2]]
        used = good or self._samples
        seconds = statistics.median(taken * 1e-9 / calls for taken, calls, _ in used)
        return Round(seconds, sum(calls for _, calls, _ in used), not good)

    def _taken_ns(self, calls: int) -> int:
        run, copies, first = self._run, self._copies, self._next
        self._next = (first + calls) % copies
        began = perf_counter_ns()
        for i in range(first, first + calls):
            run(i % copies)
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
