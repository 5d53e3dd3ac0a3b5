"""The clocks of the self-test's engine: the wall's, and one that only moves when it is told to."""

import time
from dataclasses import dataclass
from typing import Protocol

#: How long before an arrival the idle engine stops sleeping and polls [s].
_POLL_S = 2e-3


class Clock(Protocol):
    """Tells the engine's time."""

    def now(self) -> float:
        """Seconds since it was started."""
        ...

    def wait_until(self, at_s: float) -> None:
        """Return when it is so late."""
        ...

    def stop_for(self, seconds: float) -> None:
        """Stand still for a time that has passed just now."""
        ...


class WallClock:
    """Real time, but for that in which it stood still."""

    def __init__(self) -> None:
        self._start_s = time.perf_counter()

    def now(self) -> float:
        """Seconds since it was made."""
        return time.perf_counter() - self._start_s

    def wait_until(self, at_s: float) -> None:
        """Sleep, and poll at the end, as sleeping may take longer than asked."""
        while (left_s := at_s - self.now()) > 0:
            time.sleep(max(0.0, left_s - _POLL_S))

    def stop_for(self, seconds: float) -> None:
        """Go back by so much."""
        self._start_s += seconds


@dataclass
class VirtualClock:
    """Time that only moves when it is told to."""

    now_s: float = 0.0

    def now(self) -> float:
        """Seconds so far."""
        return self.now_s

    def wait_until(self, at_s: float) -> None:
        """Go there."""
        self.now_s = max(self.now_s, at_s)

    def stop_for(self, seconds: float) -> None:
        """Go back by so much."""
        self.now_s -= seconds
