"""The fields of a configuration that say what of a run is measured, and against which objectives.

Times and numbers of requests are written as people do: ``50ms``, ``1.5s``, ``500req``.
"""

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastsim.errors import ConfigError

if TYPE_CHECKING:
    from fastsim.config import SimulationConfig

#: Times of a request that can have an objective; ``worst_tbt_s`` is the longest gap between two of its tokens.
TIMES = ("ttft_s", "tpot_s", "worst_tbt_s", "e2e_s")
#: One of the whole run: 99 % of all gaps between tokens are shorter.
TBT_P99 = "tbt_p99_s"
_MOST_CLASS = 127
Objectives = dict[str, Any]

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
_MOST_CHARACTERS = 100
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
    text = str(value)
    # What is longer is no quantity, and a regular expression could spend the square of its length on it.
    found = _TEXT.fullmatch(text) if not isinstance(value, bool) and len(text) <= _MOST_CHARACTERS else None
    try:
        amount = float(found[1]) if found else math.nan
    except ValueError:
        amount = math.nan
    return (amount if 0 <= amount < math.inf else None), found[2] if found else ""


def read_objectives(given: Mapping[Any, Any]) -> Objectives:
    """Check objectives, and bring them into one form.

    Args:
        given: by name of `TIMES` or ``tbt_p99_s`` the most that a request may take, a number of seconds or text such as
            ``"50ms"``; and by number of a class a table of what is other for its requests.

    Returns:
        The same with seconds, and classes as text.

    Raises:
        ConfigError: an unknown name, or a time that is none.
    """
    found: Objectives = {}
    for name, value in given.items():
        if str(name).isdecimal():
            if int(name) > _MOST_CLASS or not isinstance(value, Mapping):
                wrong = "is not a class of requests with a table of times"
                raise ConfigError("slo", name, wrong, f"give a class from 0 to {_MOST_CLASS} and a table for it")
            found[str(int(name))] = {key: _read_time(key, time, TIMES) for key, time in value.items()}
        else:
            found[name] = _read_time(name, value, (*TIMES, TBT_P99))
    return found


def _read_time(name: Any, value: Any, known: tuple[str, ...]) -> float:
    if name not in known:
        raise ConfigError("slo", name, "has no objective", f"give one of {', '.join(known)}")
    time_s = seconds(f"slo.{name}", value)
    if time_s <= 0:
        raise ConfigError(f"slo.{name}", value, "is met by no request", "give more than 0")
    return time_s


def parse_objectives(text: str) -> dict[str, str]:
    """Objectives as on the command line, ``ttft=1s,tpot=50ms``, by their full names.

    Raises:
        ConfigError: a part is not of this form.
    """
    parts = [part.partition("=") for part in text.split(",")]
    for name, equals, value in parts:
        if not (name.strip() and equals and value.strip()):
            raise ConfigError("slo", text, "is not a list of objectives", "give ttft=1s,tpot=50ms, say")
    return {f"{name.strip().removesuffix('_s')}_s": value.strip() for name, _, value in parts}


def read_span(field: str, value: str) -> tuple[float, bool]:
    """A warm-up or cool-down: an amount, and whether it counts requests rather than seconds.

    Raises:
        ConfigError: it is neither a time nor a whole number of requests.
    """
    amount, unit = split_unit(value)
    if unit != "req":
        return seconds(field, value), False
    if amount is None or amount != int(amount):
        raise ConfigError(field, value, "is not a number of requests", "give 500req, say")
    return amount, True


def check_worst_tbt(config: "SimulationConfig") -> None:
    """Refuse an objective on gaps between the tokens of each request where nobody notes them.

    Raises:
        ConfigError: as said.
    """
    tables = [config.slo, *(table for table in config.slo.values() if isinstance(table, Mapping))]
    limits = [table["worst_tbt_s"] for table in tables if "worst_tbt_s" in table]
    if limits and not config.record_metrics:
        raise ConfigError("slo.worst_tbt_s", limits[0], "is not noted of requests", "give record_metrics = true too")


def check_spans(config: "SimulationConfig") -> None:
    """Refuse a warm-up or cool-down that cannot be read, or a second warm-up.

    Raises:
        ConfigError: as said.
    """
    for name in ("warmup", "cooldown"):
        if (value := getattr(config, name)) is not None:
            read_span(name, value)
    if config.warmup is not None and getattr(config.client_choice, "warmup_requests", 0) > 0:
        raise ConfigError("warmup", config.warmup, "is given beside client.warmup_requests", "give one of them")
