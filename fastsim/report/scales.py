"""Axes: where values lie on them, and which are written."""

import math
from dataclasses import dataclass

from fastsim.report.quantities import significant, time_unit


@dataclass(frozen=True)
class Scale:
    """An axis.

    Attributes:
        low: value at its beginning.
        high: value at its end, above ``low``.
        unit: of its values, see `fastsim.report.quantities.written`.
        logarithmic: whether equal ratios take equal room; ``low`` is above 0 then.
    """

    low: float
    high: float
    unit: str
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """Where a value lies, 0 at the beginning and 1 at the end, which nothing passes."""
        if self.logarithmic:
            value = max(value, self.low)
            part = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            part = (value - self.low) / (self.high - self.low)
        return min(max(part, 0.0), 1.0)

    def ticks(self) -> list[tuple[float, str]]:
        """Values with what is written at them: round ones, about five."""
        if self.logarithmic:
            return [(value, _tick(value, value, self.unit)) for value in _round_ratios(self.low, self.high)]
        step = _round_step(self.high / 4, self.high, self.unit)
        values = [step * i for i in range(math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9) + 1)]
        return [(value, _tick(value, self.high, self.unit)) for value in values]


def _tick(value: float, largest: float, unit: str) -> str:
    """A value, in the unit of the largest of its axis."""
    if unit == "share":
        return f"{significant(100 * value, 3)}%"
    if unit != "s":
        return significant(value)
    factor, name = time_unit(largest)
    return f"{significant(value * factor)} {name}" if value else "0"


def _round_step(rough: float, largest: float, unit: str) -> float:
    """The next step that is round in the unit of the largest value: 3 min rather than 200 s."""
    factor = time_unit(largest)[0] if unit == "s" else 1.0
    power = 10.0 ** math.floor(math.log10(rough * factor))
    return power * next(digit for digit in (1, 2, 5, 10) if digit * power >= rough * factor * 0.999) / factor


def _round_ratios(low: float, high: float) -> list[float]:
    """Powers of ten, and 2 and 5 times them where there is room."""
    digits = (1, 2, 5) if high / low < 150 else (1, 3) if high / low < 3000 else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [digit * 10.0**power for power in powers for digit in digits]
    return [value for value in found if low * 0.999 <= value <= high * 1.001]


def from_zero(largest: float, unit: str) -> Scale:
    """An axis from 0 to a round number that nothing passes; shares end at 1 if they come near."""
    if largest <= 0 or (unit == "share" and 0.5 < largest <= 1.0):
        return Scale(0.0, 1.0, unit)
    step = _round_step(largest / 4, largest, unit)
    return Scale(0.0, math.ceil(largest / step - 1e-9) * step, unit)
