"""Operators timed on CUDA by the device's own clock: as an engine replays them, many calls in one graph."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from estimators.profiler.kernels.prepared import Prepared
from estimators.profiler.timing import Round

_WARM_UP_CALLS = 3
_MOST_CALLS = 200


def cuda_runners(prepared: Sequence[Prepared], least_s: float) -> list[CudaRunner]:
    """A runner for each; their graphs share the memory of results, which nobody reads."""
    pool = torch.cuda.graph_pool_handle()
    return [CudaRunner(each, least_s, pool) for each in prepared]


class CudaRunner:
    """Calls between two events, in a graph where one can hold them.

    The gap between two kernels of a graph is in the time of a call, as it is in an iteration of an engine. Events are
    read when a whole round is done: the device does not idle between operators, and its clock stays up.
    """

    def __init__(self, prepared: Prepared, least_s: float, pool: Any) -> None:
        self.kernel = prepared.kernel
        self._run, self._copies, self._graph = prepared.run, prepared.copies, None
        self._began, self._ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self._calls = _WARM_UP_CALLS
        self._warm_up()
        # Once round all sets of operands, or the first ones stay in the cache from replay to replay.
        self._calls = min(_MOST_CALLS, max(math.ceil(least_s / self.result().seconds), self._copies))
        if prepared.graphable:
            self._graph = self._captured(pool)
        if self._graph is None:
            self.kernel += "_eager"

    def start(self) -> None:
        """Put the calls into the device's queue."""
        self._began.record()
        if self._graph is None:
            self._call_all()
        else:
            self._graph.replay()
        self._ended.record()

    def result(self) -> Round:
        """Of the last round; the device is done with it."""
        seconds = float(self._began.elapsed_time(self._ended)) * 1e-3
        return Round(max(seconds, 1e-9) / self._calls, self._calls)

    def _call_all(self) -> None:
        for i in range(self._calls):
            self._run(i % self._copies)

    def _warm_up(self) -> None:
        """Compile, choose kernels and take work space, on a stream that is not the default one, as graphs ask for."""
        stream, before = torch.cuda.Stream(), torch.cuda.current_stream()
        stream.wait_stream(before)
        with torch.cuda.stream(stream):
            self.start()
            self.start()  # the second time is the one that counts
        before.wait_stream(stream)
        torch.cuda.synchronize()

    def _captured(self, pool: Any) -> Any:
        """The calls as a graph, or None where something in them cannot be captured."""
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=pool):
                self._call_all()
        except RuntimeError:
            torch.cuda.synchronize()
            return None
        graph.replay()
        return graph
