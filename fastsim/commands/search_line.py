"""How far a search is, on stderr: one line over and over on a terminal, elsewhere a line now and then."""

import sys
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
        self.overwrites = self.stream.isatty()
        self.started = time.monotonic()
        self.next = self.started + progress.PATIENCE_S
        self.last_length = 0

    def __enter__(self) -> "SearchLine":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.last_length:
            print(file=self.stream, flush=True)

    def tell(self, now: "Progress") -> None:
        """Take how far the search is, and say so if it is time to."""
        at = time.monotonic()
        if at < self.next:
            return
        self.next = at + (progress.ON_TERMINAL_S if self.overwrites else progress.ELSEWHERE_S)
        text = f"fastsim: {describe(now, at - self.started)}"
        if self.overwrites:
            print(f"\r{text}\x1b[K", end="", file=self.stream, flush=True)
            self.last_length = len(text)
        else:
            print(text, file=self.stream, flush=True)


def describe(now: "Progress", wall_s: float) -> str:
    """How far a search is, in words and a bar; the time to come is that of the runs so far, without the journal's."""
    part = now.ended / max(now.expected, 1)
    bar = "#" * round(part * _WIDTH)
    ran = now.ended - now.resumed
    text = f"[{bar:{_WIDTH}}] {now.ended:,} of {now.expected:,} runs"
    if ran == 0:
        return f"{text}, building tables"
    left_s = (now.expected - now.ended) * wall_s / ran
    return f"{text}, {ran / wall_s:.3g} a second, {_duration(left_s)} to go"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
