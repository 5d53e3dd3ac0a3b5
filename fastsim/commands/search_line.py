"""How far a search is, on stderr: one line over and over on a terminal, elsewhere a line now and then."""

import sys
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from fastsim import progress

if TYPE_CHECKING:
    from fastsim.searching.evaluator import Progress

#: Width of the bar [characters].
_WIDTH = 20


class SearchLine:
    """Says how far a search is, while it is the context and once that takes long."""

    def __init__(self, stream: TextIO | None = None) -> None:
        """Make the line; a stream of None is stderr."""
        self.stream = sys.stderr if stream is None else stream
        self.now: Progress | None = None
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._speak, daemon=True)

    def tell(self, now: "Progress") -> None:
        """Take how far the search is."""
        self.now = now

    def __enter__(self) -> "SearchLine":
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.done.set()
        self.thread.join()

    def _speak(self) -> None:
        started, overwrites = time.monotonic(), self.stream.isatty()
        begin, end = ("\r", "\x1b[K") if overwrites else ("", "\n")
        wait_s, said = progress.PATIENCE_S, False
        while not self.done.wait(wait_s):
            wait_s = progress.ON_TERMINAL_S if overwrites else progress.ELSEWHERE_S
            if self.now is not None:
                line = describe(self.now, time.monotonic() - started)
                print(f"{begin}fastsim: {line}", end=end, file=self.stream, flush=True)
                said = True
        if said and overwrites:
            print(file=self.stream, flush=True)


def describe(now: "Progress", wall_s: float) -> str:
    """How far a search is, in words and a bar; the time to come is that of the runs so far, without the journal's."""
    part = now.ended / max(now.expected, 1)
    text = f"[{'#' * round(part * _WIDTH):{_WIDTH}}] {now.ended:,} of {now.expected:,} runs"
    ran = now.ended - now.resumed
    if ran == 0:
        return f"{text}, building tables"
    left_s = (now.expected - now.ended) * wall_s / ran
    return f"{text}, {ran / wall_s:.3g} a second, {_duration(left_s)} to go"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
