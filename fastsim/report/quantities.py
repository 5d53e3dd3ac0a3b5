"""Numbers as text."""

import math

#: What is put where there is no number.
NOTHING = "\N{EN DASH}"
_TIMES = ((1e-3, 1e6, "µs"), (1.0, 1e3, "ms"), (600.0, 1.0, "s"), (36_000.0, 1 / 60, "min"), (math.inf, 1 / 3600, "h"))


def time_unit(seconds: float) -> tuple[float, str]:
    """How many of it make a second, and the name, of the unit in which a time is written."""
    return next((factor, unit) for below, factor, unit in _TIMES if abs(seconds) < below)


def significant(value: float, digits: int = 4) -> str:
    """A number with so many digits, all of those before the point, and commas between thousands."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    after = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{min(after, 12)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def written(value: float | None, unit: str) -> str:
    """A value with its unit.

    Args:
        value: None where there is none.
        unit: ``"s"`` (which becomes ms, min and so on), ``"share"`` (per cent), ``"$"``, or what comes behind the
            number: ``""`` for nothing.
    """
    if value is None:
        return NOTHING
    if unit == "s":
        if value == 0:
            return "0 s"
        factor, name = time_unit(value)
        return f"{significant(value * factor)} {name}"
    if unit == "share":
        return f"{significant(100 * value, 3)}%"
    if unit == "$":
        return f"${value:,.2f}"
    return f"{significant(value)} {unit}".rstrip()


def change(value: float | None, base: float | None) -> str:
    """How far a value is from that of the first run, in per cent of it; empty where that means nothing."""
    if value is None or not base:
        return ""
    relative = value / base - 1
    text = f"{relative:+.1%}" if abs(relative) < 10 else f"\N{MULTIPLICATION SIGN} {significant(value / base, 3)}"
    return "±0%" if text in ("+0.0%", "-0.0%") else text.replace("-", "\N{MINUS SIGN}")
