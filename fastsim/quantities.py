"""Times and counts as people write them: ``50ms``, ``1.5s``, ``500req``."""

import math
import re
from typing import Any

from fastsim.errors import ConfigError

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
_TEXT = re.compile(r"\s*([0-9.eE+-]+)\s*([a-z]*)\s*")


def seconds(field: str, value: Any) -> float:
    """A time in seconds: a number, or text with one of the units us, ms, s, min and h; without a unit seconds.

    Raises:
        ConfigError: it is something else, negative, or not finite.
    """
    amount, unit = split_unit(value)
    if amount is None or unit not in ("", *_UNITS):
        raise ConfigError(field, value, "is not a time", f"give a number with one of {', '.join(_UNITS)}, such as 50ms")
    return amount * _UNITS.get(unit, 1.0)


def split_unit(value: Any) -> tuple[float | None, str]:
    """The number of a quantity and its unit, ``""`` for none; no number where the value is not one, finite and >= 0."""
    found = _TEXT.fullmatch(str(value)) if not isinstance(value, bool) else None
    try:
        amount = float(found[1]) if found else math.nan
    except ValueError:
        amount = math.nan
    return (amount if 0 <= amount < math.inf else None), found[2] if found else ""
