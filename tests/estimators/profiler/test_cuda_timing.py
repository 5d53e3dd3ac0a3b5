"""Timing on CUDA with a device that is played: what is put into its queue, and what its clock is asked."""

import contextlib
import dataclasses

import pytest

torch = pytest.importorskip("torch", reason="the profiler's timing needs torch")

from estimators.profiler.kernels.prepared import Prepared  # noqa: E402
from estimators.profiler.timing import time_all  # noqa: E402

CALL_MS = 0.05


class Board:
    """A queue that runs a call in 0.05 ms, and graphs that hold calls."""

    def __init__(self):
        self.now_ms, self.capturing, self.graphs, self.captured_fails = 0.0, None, [], False

    def call(self, i: int) -> None:
        if self.capturing is not None:
            if self.captured_fails:
                raise RuntimeError("operation not permitted when stream is capturing")
            self.capturing.append(i)
        else:
            self.now_ms += CALL_MS


@pytest.fixture
def board(monkeypatch):
    board = Board()

    class Event:
        def __init__(self, enable_timing: bool):
            assert enable_timing

        def record(self) -> None:
            self.at = board.now_ms

        def elapsed_time(self, end) -> float:
            return end.at - self.at

    class Graph:
        def __init__(self):
            self.calls: list[int] = []
            board.graphs.append(self)

        def replay(self) -> None:
            for i in self.calls:
                board.call(i)

    @contextlib.contextmanager
    def capture(graph, pool):
        assert pool == "pool"
        board.capturing = graph.calls
        try:
            yield
        finally:
            board.capturing = None

    class Stream:
        def wait_stream(self, other) -> None:
            pass

    fakes = {"Event": Event, "CUDAGraph": Graph, "graph": capture, "Stream": Stream, "current_stream": Stream}
    fakes |= {"graph_pool_handle": lambda: "pool", "synchronize": lambda device=None: None}
    fakes["stream"] = lambda stream: contextlib.nullcontext()
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    return board


@pytest.fixture
def cuda(cpu):
    return dataclasses.replace(cpu, device=torch.device("cuda", 0))


def test_calls_are_replayed_as_a_graph_that_goes_once_round_the_copies(board, cuda):
    (got,) = time_all(cuda, [Prepared(board.call, 70, "kernel")], rounds=5, least_s=2e-3)
    assert board.graphs[0].calls == list(range(70))
    assert got.seconds == pytest.approx(CALL_MS * 1e-3)
    assert (got.spread, got.repeats, got.kernel) == (pytest.approx(0, abs=1e-9), 5 * 70, "kernel")


def test_a_graph_holds_as_many_calls_as_the_time_asked_for_takes(board, cuda):
    time_all(cuda, [Prepared(board.call, 3, "kernel")], rounds=1, least_s=2e-3)
    assert len(board.graphs[0].calls) in (40, 41)


def test_what_no_graph_can_hold_is_timed_without_and_says_so(board, cuda):
    (got,) = time_all(cuda, [Prepared(board.call, 2, "loop", graphable=False)], rounds=3)
    assert board.graphs == []
    assert (got.seconds, got.kernel) == (pytest.approx(CALL_MS * 1e-3), "loop_eager")
    board.captured_fails = True
    (got,) = time_all(cuda, [Prepared(board.call, 2, "kernel")], rounds=3)
    assert (got.seconds, got.kernel) == (pytest.approx(CALL_MS * 1e-3), "kernel_eager")
