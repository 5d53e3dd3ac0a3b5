"""Progress of a long run, at no cost to its loop: another thread reads the tables that the loop works on.

The loop holds no lock while it runs. What is read is whole numbers and times of a moment ago, each right by itself; the
loop brings replicas forward only as far as somebody needs to know, so that they differ in how far they are.
"""

import sys
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self, TextIO

if TYPE_CHECKING:
    from fastsim.kernel.state import State

#: Seconds of silence before the first line, between two lines on a terminal, and between two elsewhere.
PATIENCE_S, ON_TERMINAL_S, ELSEWHERE_S = 0.7, 0.5, 10.0


class Progress(NamedTuple):
    """How far a run is.

    Attributes:
        completed: requests that have completed.
        simulated_s: the time that the replica which is furthest has come to [s].
    """

    completed: int
    simulated_s: float


def read_progress(state: "State") -> Progress:
    """How far the loop is that works on these tables."""
    return Progress(int(state.replicas["completed"].sum()), float(state.replicas["clock_s"].max()))


class SpokenLine:
    """Says on stderr how far something is, while it is the context and once that takes long.

    On a terminal one line is written over and over; elsewhere each is a line of its own.
    """

    def __init__(self, what: str, stream: TextIO | None = None) -> None:
        """Make the line about what is going on; a stream of None is stderr."""
        self.what = what
        self.stream = sys.stderr if stream is None else stream
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._speak, daemon=True)

    def tell(self, wall_s: float) -> str:
        """How far it is after some seconds; empty where nobody knows yet."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.done.set()
        self.thread.join()

    def _speak(self) -> None:
        started, overwrites = time.monotonic(), self.stream.isatty()
        if self.done.wait(PATIENCE_S):
            return
        begin, end = ("\r", "\x1b[K") if overwrites else ("", "\n")
        what = f"fastsim: {self.what}"
        print(f"{begin}{what} ...", end=end, file=self.stream, flush=True)
        while not self.done.wait(ON_TERMINAL_S if overwrites else ELSEWHERE_S):
            if line := self.tell(time.monotonic() - started):
                print(f"{begin}fastsim: {line}", end=end, file=self.stream, flush=True)
        print(f"{begin}{what}: {time.monotonic() - started:.1f} s{end.strip(chr(10))}", file=self.stream, flush=True)


class ProgressLine(SpokenLine):
    """Says how far a run is; `watch` is what `simulate` takes."""

    def __init__(self, requests: int, stream: TextIO | None = None) -> None:
        """Make the line of a run of so many requests."""
        super().__init__(f"simulating {requests:,} requests", stream)
        self.requests = requests
        self.state: State | None = None

    def watch(self, state: "State") -> None:
        """Take the tables to be read."""
        self.state = state

    def tell(self, wall_s: float) -> str:
        """What the tables say."""
        return "" if self.state is None else describe(read_progress(self.state), self.requests, wall_s)


def describe(progress: Progress, requests: int, wall_s: float) -> str:
    """Progress in words."""
    return (
        f"{progress.completed:,} of {requests:,} requests ({progress.completed / requests:.0%}), "
        f"{progress.simulated_s:,.0f} s simulated in {wall_s:.0f} s, {progress.completed / wall_s:,.0f} requests/s"
    )
