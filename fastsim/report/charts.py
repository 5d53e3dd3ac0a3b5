"""Charts of lines and of bars, as SVG in a figure, with the values of lines beside them for the script of the page."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from fastsim.report.document import data_for_script
from fastsim.report.scales import Scale
from fastsim.svg import element

FloatArray = npt.NDArray[np.float64]

#: Size of a chart, and how far its axes are from the edges [pixels], where it is not scaled.
WIDTH, HEIGHT = 420, 236
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 10, 26
_ROW, _LABELS, _BAR_END = 17, 132, 296
_DIGITS = 7


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
        run: number of its run, which gives its colour.
        label: what it is called beside the name of its run; empty for nothing.
        x: ascending, or as many as there are levels [n].
        y: float64 [n].
        dashed: how it is drawn.
        low: of the engines of the run the lowest [n]; None where there is one.
        high: of the engines of the run the highest [n].
    """

    run: int
    label: str
    x: FloatArray
    y: FloatArray
    dashed: bool = False
    low: FloatArray | None = None
    high: FloatArray | None = None


@dataclass(frozen=True)
class LineChart:
    """A chart of lines.

    Attributes:
        title: what it shows.
        note: a few words behind the title: units, and what is meant.
        x: its horizontal axis.
        y: its vertical axis.
        lines: what is drawn.
        by_level: whether all lines have the same ``y``, and values are told at one of these rather than at an ``x``.
        limits: values of ``x`` that are marked, with their labels.
    """

    title: str
    note: str
    x: Scale
    y: Scale
    lines: Sequence[Line]
    by_level: bool = False
    limits: Sequence[tuple[float, str]] = field(default=())


def draw_lines(chart: LineChart, names: Sequence[str]) -> str:
    """The figure of a chart of lines.

    Args:
        chart: what to draw.
        names: of the runs.
    """
    marks = [*_grid(chart), *(_limit(chart, value, label) for value, label in chart.limits)]
    for line in chart.lines:
        if line.low is not None and line.high is not None:
            marks.append(_band(chart, line, line.low, line.high))
    for line in chart.lines:
        style = f"line run{line.run}" + (" dashed" if line.dashed else "")
        marks.append(element("polyline", class_=style, points=_points(chart, line.x, line.y)))
    label = f"{chart.title}, {chart.note}. Arrow keys tell the values."
    svg = element("svg", marks, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_hidden="true")
    place = element("div", [svg], class_="plot", tabindex="0", role="group", aria_label=label)
    script = data_for_script(_data(chart, names))
    return element("figure", [_caption(chart.title, chart.note), _legend(chart, names), place, script], class_="lines")


def _data(chart: LineChart, names: Sequence[str]) -> dict[str, object]:
    """What the script needs: the axes, and the values of each line."""
    axes = {
        axis: {"low": scale.low, "high": scale.high, "log": scale.logarithmic, "unit": scale.unit}
        for axis, scale in (("x", chart.x), ("y", chart.y))
    }
    box = [_LEFT, _TOP, WIDTH - _RIGHT, HEIGHT - _BOTTOM]
    lines = [
        {
            "run": line.run,
            "name": " ".join(part for part in (names[line.run] if len(names) > 1 else "", line.label) if part),
            "x": _rounded(line.x),
            "y": _rounded(line.y),
        }
        | ({} if line.low is None or line.high is None else {"low": _rounded(line.low), "high": _rounded(line.high)})
        for line in chart.lines
    ]
    return axes | {"box": box, "byLevel": chart.by_level, "lines": lines}


def _rounded(values: FloatArray) -> list[float]:
    return [float(f"{value:.{_DIGITS}g}") for value in values]


def _caption(title: str, note: str) -> str:
    return element("figcaption", [element("b", title), " ", element("span", note)])


def _legend(chart: LineChart, names: Sequence[str]) -> str:
    """Which line is which, where there are several."""
    if len(chart.lines) < 2:
        return ""
    entries = []
    for line in chart.lines:
        style = f"line run{line.run}" + (" dashed" if line.dashed else "")
        sample = element("svg", [element("polyline", class_=style, points="0,5 22,5")], width=22, height=10)
        label = " ".join(part for part in (names[line.run] if len(names) > 1 else "", line.label) if part)
        entries.append(element("span", [sample, " ", element("span", label)]))
    return element("div", entries, class_="legend")


def _left(chart: LineChart, value: float) -> float:
    return _LEFT + chart.x.place(value) * (WIDTH - _LEFT - _RIGHT)


def _height(chart: LineChart, value: float) -> float:
    return HEIGHT - _BOTTOM - chart.y.place(value) * (HEIGHT - _TOP - _BOTTOM)


def _grid(chart: LineChart) -> list[str]:
    marks, bottom = [], HEIGHT - _BOTTOM
    for value, label in chart.y.ticks():
        y = _height(chart, value)
        marks.append(element("line", class_="grid", x1=_LEFT, x2=WIDTH - _RIGHT, y1=y, y2=y))
        marks.append(element("text", label, x=_LEFT - 6, y=y + 4, text_anchor="end"))
    for value, label in chart.x.ticks():
        x = _left(chart, value)
        anchor = "end" if x > WIDTH - _RIGHT - 12 else "middle"
        marks.append(element("line", class_="grid", x1=x, x2=x, y1=bottom, y2=bottom + 4))
        marks.append(element("text", label, x=min(x, float(WIDTH - 4)), y=bottom + 17, text_anchor=anchor))
    return marks


def _limit(chart: LineChart, value: float, label: str) -> str:
    x = _left(chart, value)
    line = element("line", class_="limit", x1=x, x2=x, y1=_TOP, y2=HEIGHT - _BOTTOM)
    right = x < WIDTH / 2
    text = element(
        "text", label, x=x + (4 if right else -4), y=HEIGHT - _BOTTOM - 6, text_anchor="start" if right else "end"
    )
    return line + text


def _points(chart: LineChart, x: FloatArray, y: FloatArray) -> str:
    return " ".join(
        f"{_left(chart, a):.1f},{_height(chart, b):.1f}" for a, b in zip(x.tolist(), y.tolist(), strict=True)
    )


def _band(chart: LineChart, line: Line, low: FloatArray, high: FloatArray) -> str:
    points = f"{_points(chart, line.x, high)} {_points(chart, line.x[::-1], low[::-1])}"
    return element("polygon", class_=f"band run{line.run}", points=points)


@dataclass(frozen=True)
class Bar:
    """One bar: the number of its run, its share of the whole width, and the text behind it."""

    run: int
    share: float
    text: str


def draw_bars(
    title: str, note: str, rows: Sequence[tuple[str, Sequence[Bar]]], names: Sequence[str], widest: float
) -> str:
    """The figure of a chart of bars, some for each row.

    Args:
        title: what it shows.
        note: a few words behind the title.
        rows: label and bars.
        names: of the runs.
        widest: share of the widest bar that there can be, above 0.
    """
    marks, y = [], 4.0
    for label, bars in rows:
        marks.append(element("text", label, x=_LABELS - 8, y=y + 12, text_anchor="end"))
        for bar in bars:
            wide = max(bar.share / widest * (_BAR_END - _LABELS), 0.5)
            marks.append(element("rect", class_=f"bar run{bar.run}", x=_LABELS, y=y + 2, width=wide, height=_ROW - 5))
            marks.append(element("text", bar.text, x=_LABELS + wide + 6, y=y + 12))
            y += _ROW
        y += 5
    told = "; ".join(
        f"{label}: " + ", ".join(f"{names[bar.run]} {bar.text}" if len(names) > 1 else bar.text for bar in bars)
        for label, bars in rows
    )
    svg = element("svg", marks, viewBox=f"0 0 {WIDTH} {y + 4:.0f}", role="img", aria_label=f"{title}. {told}")
    return element("figure", [_caption(title, note), svg], class_="bars")
