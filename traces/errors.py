"""The error of this package and the checks of single numbers that raise it."""

from typing import Final, TypeGuard

import numpy as np

MAX_TOKENS: Final = 2**31 - 1
"""Largest token count taken; far above any context length, and small enough that sums over a workload fit int64."""
MIN_QPS: Final = 1e-9
"""Smallest rate taken, in requests per second."""
MAX_QPS: Final = 1e9
"""Largest rate taken."""
MAX_CLASS: Final = 127
"""Largest request class, the least important one."""
MAX_SESSION: Final = 2**53 - 1
"""Largest session; floats hold every whole number up to it and the one behind it."""


_MOST: Final = 2000


def _one_line(text: str) -> str:
    """A text without line breaks and the other characters that a terminal obeys: those are spelt out."""
    return text if text.isprintable() else "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


class TraceError(ValueError):
    """Input that the package refuses.

    ``str()`` of it is one sentence: field, value, what is wrong, and the mend.

    Attributes:
        field: name of the argument, option or file column at fault.
        value: what was given.
        problem: what is wrong, as the predicate of a sentence whose subject is ``field``.
        mend: what to do instead, as an imperative.
    """

    def __init__(self, field: str, value: object, problem: str, mend: str) -> None:
        """Keep all four as ``args`` too, so that the error survives pickling between processes."""
        super().__init__(field, value, problem, mend)
        self.field = field
        self.value = value
        self.problem = problem
        self.mend = mend

    def __str__(self) -> str:
        """The sentence."""
        return _one_line(f"{self.field[:_MOST]} {self.problem[:_MOST]}; {self.mend}.")


def shown(value: object) -> str:
    """``repr`` of a value, cut to 60 characters, for a message."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value is a real number of Python or numpy; booleans are not."""
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def real_number(field: str, value: object, low: float, high: float) -> float:
    """Check a number against a closed range.

    Returns:
        The value as a float.

    Raises:
        TraceError: the value is not a number in ``low`` to ``high``.
    """
    if is_number(value) and low <= value <= high:
        return float(value)
    raise TraceError(field, value, f"is {shown(value)}", f"give a number from {low:g} to {high:g}")


def whole_number(field: str, value: object, low: int, high: int = MAX_TOKENS) -> int:
    """Check an integer against a closed range; a whole float such as ``1e6`` is taken as one.

    Returns:
        The value as an int.

    Raises:
        TraceError: the value is not a whole number in ``low`` to ``high``.
    """
    if is_number(value) and low <= value <= high and value == int(value):
        return int(value)
    raise TraceError(field, value, f"is {shown(value)}", f"give a whole number from {low} to {high}")
