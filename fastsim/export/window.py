"""Part of the simulated time: ``A:B`` in seconds."""

import math
from typing import NamedTuple

from fastsim.errors import ConfigError


class Window(NamedTuple):
    """From one time of the simulation to another [s]; by default all of it."""

    start_s: float = 0.0
    end_s: float = math.inf


def read_window(field: str, text: str) -> Window:
    """Read ``A:B``, ``A:``, ``:B`` or ``:``.

    Args:
        field: what the text was given as, for errors.
        text: two numbers of seconds; one left out is the beginning or the end of the run.

    Raises:
        ConfigError: it is no such pair, or ends before it begins.
    """
    first, colon, last = text.partition(":")
    mend = "give A:B in seconds, such as 60:75, or : for the whole run"
    try:
        window = Window(float(first or 0.0), float(last or math.inf))
    except ValueError:
        raise ConfigError(field, text, "is no part of the time", mend) from None
    if not colon or not 0 <= window.start_s < window.end_s:
        raise ConfigError(field, text, "is no part of the time", mend)
    return window
