"""Draw every request of measured runs and of their simulations."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from measured import FloatArray, Measured

from fastsim.svg import element, figure, write_page

WIDTH, HEIGHT, MARGIN = 900, 300, 60
TICKS = 5
METRICS = {"ttft": "time to first token", "latency": "latency"}
STYLE = ".measured { fill: none; stroke: #1f4e9c } .simulated { fill: #d9541e; fill-opacity: 0.6 }\n"


def write_plot(path: Path, runs: Sequence[tuple[Measured, Mapping[str, FloatArray]]]) -> None:
    """Write the plots of some runs, each with its simulated metrics."""
    parts = [
        element("h2", f"{run.name}: {title} over arrival")
        + "\n"
        + _figure(run.arrival_s, {"measured": run.metrics()[metric], "simulated": simulated[metric]})
        for run, simulated in runs
        for metric, title in METRICS.items()
    ]
    write_page(path, "Fidelity", parts, STYLE)


def _figure(arrival_s: FloatArray, series: Mapping[str, FloatArray]) -> str:
    """One plot: a circle for each request and series."""
    most_x, most_y = (max(float(values.max()), 1e-9) for values in (arrival_s, max(series.values(), key=max)))

    def x(seconds: float) -> float:
        return MARGIN + seconds / most_x * (WIDTH - 2 * MARGIN)

    def y(seconds: float) -> float:
        return HEIGHT - MARGIN / 2 - seconds / most_y * (HEIGHT - MARGIN)

    marks = []
    for tick in range(TICKS + 1):
        along, up = most_x * tick / TICKS, most_y * tick / TICKS
        marks.append(element("line", x1=MARGIN, x2=WIDTH - MARGIN, y1=y(up), y2=y(up)))
        marks.append(element("text", f"{up:.3g} s", x=MARGIN - 6, y=y(up) + 4, text_anchor="end"))
        marks.append(element("text", f"{along:.3g} s", x=x(along), y=HEIGHT - 8, text_anchor="middle"))
    for place, (name, values) in enumerate(series.items()):
        for at, value in zip(arrival_s, values, strict=True):
            marks.append(element("circle", class_=name, cx=x(float(at)), cy=y(float(value)), r=2.5))
        at = MARGIN + 10 + 110 * place
        marks += [element("circle", class_=name, cx=at, cy=10, r=4), element("text", name, x=at + 8, y=14)]
    return figure(WIDTH, HEIGHT, marks)
