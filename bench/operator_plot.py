"""Draw errors of operators by device, and learning curves."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from common import Row

from fastsim.svg import element, figure, write_page

WIDTH, LEFT, RIGHT, LINE = 900, 300, 60, 16
HEIGHT, MARGIN, TICKS = 320, 60, 5
MOST = 0.2  # of an error; what is larger is cut
COLOURS = ("#1f4e9c", "#d9541e", "#2a8a3c", "#8a2a7a", "#b58a00", "#007a8a", "#555555", "#c0392b")
STYLE = ".mean { fill: #1f4e9c } .median { stroke: #d9541e; stroke-width: 3 }\n"


def write_plot(path: Path, tables: Mapping[str, Sequence[Row]]) -> None:
    """Write one picture for each operator, and one of learning curves if there are any."""
    shapes = [row for row in tables["errors"] if row["split"] == "shapes"]
    parts = []
    for operator in sorted({row["operator"] for row in shapes}):
        chosen = [row for row in shapes if row["operator"] == operator]
        parts += [element("h2", f"{operator}: error on unseen shapes (bar: mean, mark: median)"), _bars(chosen)]
    curves = tables.get("learning", ())
    for operator in sorted({row["operator"] for row in curves}):
        chosen = [row for row in curves if row["operator"] == operator]
        parts += [
            element("h2", f"{operator}: mean error on unseen shapes by points trained on, chosen far apart"),
            _curves(chosen),
        ]
    write_page(path, "Errors of operators", parts, STYLE)


def _bars(rows: Sequence[Row]) -> str:
    def x(error: float) -> float:
        return LEFT + min(error, MOST) / MOST * (WIDTH - LEFT - RIGHT)

    bottom = LINE * (len(rows) + 1)
    marks = []
    for tick in range(TICKS):
        error = MOST * tick / (TICKS - 1)
        marks.append(element("line", x1=x(error), x2=x(error), y1=0, y2=bottom))
        marks.append(element("text", f"{error:.0%}", x=x(error), y=bottom + LINE, text_anchor="middle"))
    for place, row in enumerate(rows):
        top = float(LINE * place + 3)
        name = f"{row['source']} {row['device']} {row['dtype']}"
        marks.append(element("text", name, x=LEFT - 6, y=top + 9, text_anchor="end"))
        width = x(row["mean"]) - LEFT
        marks.append(element("rect", class_="mean", x=LEFT, y=top, width=width, height=LINE - 6))
        at = x(row["median"])
        marks.append(element("line", class_="median", x1=at, x2=at, y1=top, y2=top + LINE - 6))
        marks.append(element("text", f"{row['mean']:.1%}", x=x(row["mean"]) + 4, y=top + 9))
    return figure(WIDTH, bottom + 2 * LINE, marks)


def _curves(rows: Sequence[Row]) -> str:
    most = max(row["trained"] for row in rows)
    least = min(row["trained"] for row in rows)
    octaves = max(math.log2(most / least), 1.0)

    def x(points: float) -> float:
        return MARGIN + math.log2(points / least) / octaves * (WIDTH - 4 * MARGIN)

    def y(error: float) -> float:
        return HEIGHT - MARGIN / 2 - min(error, MOST) / MOST * (HEIGHT - MARGIN)

    marks = []
    for tick in range(TICKS):
        error = MOST * tick / (TICKS - 1)
        marks.append(element("line", x1=MARGIN, x2=WIDTH - 3 * MARGIN, y1=y(error), y2=y(error)))
        marks.append(element("text", f"{error:.0%}", x=MARGIN - 6, y=y(error) + 4, text_anchor="end"))
        points = least * (most / least) ** (tick / (TICKS - 1))
        marks.append(element("text", f"{points:,.0f}", x=x(points), y=HEIGHT - 8, text_anchor="middle"))
    for place, name in enumerate(sorted({f"{row['source']} {row['device']}" for row in rows})):
        colour = COLOURS[place % len(COLOURS)]
        own = sorted((row["trained"], row["chosen"]) for row in rows if f"{row['source']} {row['device']}" == name)
        line = " ".join(f"{x(points):.1f},{y(error):.1f}" for points, error in own)
        marks.append(element("polyline", points=line, fill="none", stroke=colour))
        marks += [element("circle", cx=x(points), cy=y(error), r=3, fill=colour) for points, error in own]
        marks.append(element("text", name, x=WIDTH - 3 * MARGIN + 6, y=20.0 + 14 * place, fill=colour))
    return figure(WIDTH, HEIGHT, marks)
