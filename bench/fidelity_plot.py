"""Draw every request of measured runs and of their simulations: one HTML file with SVG in it, and nothing to load."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path

from measured import FloatArray, Measured

from fastsim.errors import ConfigError

WIDTH, HEIGHT, MARGIN = 900, 300, 60
TICKS = 5
METRICS = {"ttft": "time to first token", "latency": "latency"}
STYLE = """
body { font: 14px sans-serif; margin: 2em }
.measured { fill: none; stroke: #1f4e9c } .simulated { fill: #d9541e; fill-opacity: 0.6 }
line { stroke: #ccc } text { font-size: 11px; fill: #444 }
"""


def check_plot(path: Path) -> None:
    """Refuse a file that cannot be written, before anything is simulated.

    Raises:
        ConfigError: as said.
    """
    if path.suffix.lower() != ".html" or path.is_dir():
        raise ConfigError("--plot", str(path), "is no HTML file, which is all that is drawn", "give FILE.html")
    if not path.absolute().parent.is_dir():
        raise ConfigError("--plot", str(path), "is in a directory that does not exist", "make it first")


def write_plot(path: Path, runs: Sequence[tuple[Measured, Mapping[str, FloatArray]]]) -> None:
    """Write the plots of some runs, each with its simulated metrics."""
    parts = [
        f"<h2>{html.escape(run.name)}: {title} over arrival</h2>\n"
        + _figure(run.arrival_s, {"measured": run.metrics()[metric], "simulated": simulated[metric]})
        for run, simulated in runs
        for metric, title in METRICS.items()
    ]
    page = f"<!DOCTYPE html>\n<meta charset='utf-8'>\n<title>Fidelity</title>\n<style>{STYLE}</style>\n"
    path.write_text(page + "\n".join(parts) + "\n", encoding="utf-8")


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
        marks.append(f"<line x1='{MARGIN}' x2='{WIDTH - MARGIN}' y1='{y(up):.1f}' y2='{y(up):.1f}'/>")
        marks.append(f"<text x='{MARGIN - 6}' y='{y(up) + 4:.1f}' text-anchor='end'>{up:.3g} s</text>")
        marks.append(f"<text x='{x(along):.1f}' y='{HEIGHT - 8}' text-anchor='middle'>{along:.3g} s</text>")
    for place, (name, values) in enumerate(series.items()):
        for at, value in zip(arrival_s, values, strict=True):
            marks.append(f"<circle class='{name}' cx='{x(at):.1f}' cy='{y(value):.1f}' r='2.5'/>")
        at = MARGIN + 10 + 110 * place
        marks.append(f"<circle class='{name}' cx='{at}' cy='10' r='4'/><text x='{at + 8}' y='14'>{name}</text>")
    return f"<svg width='{WIDTH}' height='{HEIGHT}'>\n" + "\n".join(marks) + "\n</svg>"
