"""How the figures of a search are written: names, units, bars."""

from typing import NamedTuple


class Metric(NamedTuple):
    """A column of the frame of a search.

    Attributes:
        name: what it is called in words.
        unit: ``"s"``, ``"%"`` or another that is written behind the number.
    """

    name: str
    unit: str


METRICS = {
    "capacity_qps": Metric("capacity", "QPS"),
    "price_per_hour": Metric("price", "$/h"),
    "qps_per_dollar": Metric("requests per dollar", ""),
    "ttft_p90_s": Metric("TTFT p90 at capacity", "s"),
    "tpot_p90_s": Metric("TPOT p90 at capacity", "s"),
    "e2e_p50_s": Metric("E2E p50 at capacity", "s"),
    "scheduling_delay_p99_s": Metric("scheduling delay p99", "s"),
    "mfu": Metric("MFU", "%"),
}
_CELLS = 20


def amount(column: str, value: float | None) -> str:
    """A value of a column of `METRICS` as people write it; ``"-"`` for none."""
    if value is None:
        return "-"
    unit = METRICS[column].unit
    if unit == "s":
        return duration(value)
    return f"{value:.1%}" if unit == "%" else f"{digits(value)} {unit}".rstrip()


def digits(value: float) -> str:
    """A number with three digits or so."""
    size = abs(value)
    return (
        f"{value:,.0f}"
        if size >= 100
        else f"{value:.1f}"
        if size >= 10
        else f"{value:.2f}"
        if size >= 1
        else f"{value:.3g}"
    )


def duration(value_s: float) -> str:
    """A time in a unit that fits."""
    if value_s < 1:
        return f"{value_s * 1e3:.1f} ms"
    return f"{value_s:.2f} s" if value_s < 600 else f"{value_s / 60:.1f} min"


def bar(part: float, cells: int = _CELLS) -> str:
    """A part of a whole as a bar, as wide in the text as the whole is."""
    return f"{'█' * round(min(max(part, 0.0), 1.0) * cells):{cells}}"
