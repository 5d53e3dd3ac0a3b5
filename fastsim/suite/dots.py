"""Charts of dots: a row for each deployment, and in it a dot for each batch policy."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastsim.report.scales import Scale
from fastsim.suite.columns import written
from fastsim.suite.scenarios import SCHEDULERS
from fastsim.svg import element

_WIDTH, _LEFT, _RIGHT, _TOP, _ROW, _BOTTOM = 420, 160, 16, 6, 26, 22
#: Of a dot, how far those of two batch policies are apart in height, and those of two numbers on the axis at least.
_RADIUS, _APART, _ROOM = 3.6, 2.2, 44


@dataclass(frozen=True)
class DotChart:
    """A chart of dots.

    Attributes:
        title: what it shows.
        note: a few words behind the title.
        column: name of the numbers in the rows.
        unit: of them.
        relative: whether they are shown as parts of the largest in their row.
    """

    title: str
    note: str
    column: str
    unit: str
    relative: bool = False


def draw_dots(chart: DotChart, rows: Sequence[Mapping[str, Any]]) -> str:
    """The figure of a chart; empty where there are no numbers.

    Args:
        chart: what to draw.
        rows: of one workload.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row[chart.column] is not None:
            groups.setdefault(f"{row['deployment']}, {short(row['device'])}", []).append(row)
    values = {label: _values(chart, group) for label, group in groups.items()}
    if not values:
        return ""
    scale = _scale(chart, [value for found in values.values() for value in found])
    marks, bottom = [], _TOP + _ROW * len(groups)
    free_from = 0.0
    for tick, text in scale.ticks():
        x = _place(scale, tick)
        marks.append(element("line", class_="grid", x1=x, x2=x, y1=_TOP, y2=bottom))
        if x < free_from:
            continue
        free_from = x + _ROOM
        marks.append(element("text", text, x=min(x, _WIDTH - 14.0), y=bottom + 15, text_anchor="middle"))
    for number, (label, group) in enumerate(groups.items()):
        y = _TOP + _ROW * (number + 0.5)
        marks.append(element("text", label, x=_LEFT - 10, y=y + 4, text_anchor="end", class_="of"))
        marks.append(element("line", class_="grid", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y))
        marks += [_dot(chart, row, _place(scale, value), y) for row, value in zip(group, values[label], strict=True)]
    label = f"{chart.title}, {chart.note}. The table below has the numbers."
    svg = element("svg", marks, viewBox=f"0 0 {_WIDTH} {bottom + _BOTTOM}", role="img", aria_label=label)
    caption = element("figcaption", [element("b", chart.title), " ", element("span", chart.note)])
    return element("figure", [caption, svg], class_="dots")


def short(device: str) -> str:
    """A device without its socket, which all of them have."""
    return device.removesuffix("_sxm")


def _values(chart: DotChart, group: Sequence[Mapping[str, Any]]) -> list[float]:
    found = [float(row[chart.column]) for row in group]
    largest = max(found)
    return [value / largest if largest > 0 else 0.0 for value in found] if chart.relative else found


def _scale(chart: DotChart, values: Sequence[float]) -> Scale:
    """From nothing to all of it for parts, else a logarithmic axis around the numbers."""
    if chart.relative:
        return Scale(0.0, 1.0, "share")
    above = [value for value in values if value > 0] or [1.0]
    # Numbers that are all alike still need an axis with two ends.
    return Scale(min(above) / 1.15, max(*above, min(above) * 2) * 1.15, chart.unit, logarithmic=True)


def _place(scale: Scale, value: float) -> float:
    return _LEFT + scale.place(value if math.isfinite(value) else scale.high) * (_WIDTH - _LEFT - _RIGHT)


def _dot(chart: DotChart, row: Mapping[str, Any], x: float, y: float) -> str:
    """One dot, hollow where requests pile up; its title is what the pointer tells."""
    number = SCHEDULERS.index(row["scheduler"])
    y += (number - (len(SCHEDULERS) - 1) / 2) * _APART
    told = f"{row['scheduler']}: {written(row[chart.column], chart.unit)}"
    piles_up = bool(row["piles_up"]) and not chart.column.startswith("offline_")
    style = f"dot run{number}" + (" hollow" if piles_up else "")
    told += ", but requests pile up" if piles_up else ""
    return element("circle", [element("title", told)], class_=style, cx=x, cy=y, r=_RADIUS)
