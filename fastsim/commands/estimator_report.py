"""How good the estimators of one device and dtype are: as text for a terminal, and as pictures.

Both read nothing but what training left in the estimators' files. The pictures' counts are of rows that were predicted
by an estimator that had not seen their shape, or where few shapes were profiled their size.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from fastsim.svg import element, figure

_LABELS = 20
#: A bar of the text shows predicted over measured from -_MOST to _MOST, as a logarithm.
_MOST, _HALF = 0.25, 25
#: Shares of the rows below the marks of a bar: the middle nine tenths, the middle half, and the median.
_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
#: What was held out where an entry's errors are compared; files that do not say it are of the first.
_HELD_OUT = {"shapes": "unseen shapes", "between": "unseen sizes", "rows": "unseen rows"}
_LEGEND = (
    f"bars: predicted over measured, {math.expm1(-_MOST):+.0%} to {math.expm1(_MOST):+.0%}, on what was held out; "
    "─ nine tenths of the rows, █ half, ● the median"
)
_WIDTH, _HEIGHT, _MARGIN = 720, 240, 60
_RATIOS = (0.6, 0.8, 1.0, 1.25, 1.6)
STYLE = ".cell { fill: #1f4e9c } .median { fill: none; stroke: #d9541e; stroke-width: 2 }\n"


def render(name: str, report: Mapping[str, Mapping[str, Any]]) -> str:
    """Errors, rows and intervals of every operator of one entry of the zoo, as text."""
    sources = dict.fromkeys(metadata["source"] for metadata in report.values())
    lines = [f"{name}, from {', '.join(sources)}", ""]
    lines.append(f"{'':{_LABELS}}{'held out':12}{'median':>9}{'mean':>9}{'p95':>9}   where it is worst")
    for operator, metadata in report.items():
        errors_of = metadata["held_out_errors"]
        if not errors_of:
            lines.append(f"{operator:{_LABELS}}nothing, of so few rows")
        for i, (split, errors) in enumerate(errors_of.items()):
            cells = "".join(f"{errors[column]:9.1%}" for column in ("median", "mean", "p95"))
            lines.append(f"{'' if i else operator:{_LABELS}}{split:12}{cells}   {_worst(errors['worst'])}")
        lines.append(f"{'':{_LABELS}}{_origin(metadata)}")
        if picture := metadata.get("picture"):
            lines.append(f"{'':{_LABELS}}{_bar(picture)}")
    if any(metadata.get("picture") for metadata in report.values()):
        lines += ["", _LEGEND]
    return "\n".join(lines)


def _worst(worst: Mapping[str, Any]) -> str:
    low, high = worst["range"]
    where = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    return f"{worst['column']} {where}: {worst['mean']:.1%}"


def _origin(metadata: Mapping[str, Any]) -> str:
    """Whose kernels were timed, how many rows there were, and what the intervals hold."""
    rows = metadata["rows"]
    words = f"{metadata['engine']}: {rows['used']:,} rows used"
    words += "".join(f", {rows[kind]:,} {kind}" for kind in ("merged", "outliers") if rows.get(kind))
    calibration = metadata.get("calibration")
    if calibration and calibration["covered"] is not None:
        words += f"; {calibration['claimed']:.0%} intervals hold {calibration['covered']:.0%} of {_judged(metadata)}"
    return words


def _judged(metadata: Mapping[str, Any]) -> str:
    return _HELD_OUT[metadata.get("judged_by", "shapes")]


def _bar(picture: Mapping[str, Any]) -> str:
    """The quantiles of predicted over measured on one line."""
    total = [sum(column) for column in zip(*picture["counts"], strict=True)]
    low, quarter, median, three_quarters, high = (
        min(max(round(value / _MOST * _HALF), -_HALF), _HALF)
        for value in quantiles(total, picture["log_ratio_edges"], _LEVELS)
    )
    cells = [" "] * (2 * _HALF + 1)
    for mark, (first, last) in (("─", (low, high)), ("█", (quarter, three_quarters))):
        cells[first + _HALF : last + _HALF + 1] = mark * (last - first + 1)
    cells[_HALF], cells[median + _HALF] = "│", "●"
    return f"{math.expm1(-_MOST):+.0%} {''.join(cells)} {math.expm1(_MOST):+.0%}"


def quantiles(counts: Sequence[int], edges: Sequence[float], levels: Sequence[float]) -> list[float]:
    """Quantiles of a histogram, linear inside its cells.

    Args:
        counts: of each cell, not all 0.
        edges: of the cells, ascending, one more than there are cells.
        levels: shares of the rows, ascending, above 0.
    """
    found, below, total = [], 0, sum(counts)
    waiting = list(levels)
    for count, (low, high) in zip(counts, pairwise(edges), strict=True):
        while waiting and below + count >= waiting[0] * total:
            found.append(low + (high - low) * (waiting.pop(0) * total - below) / count)
        below += count
    return found


def draw(name: str, report: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Headings and pictures of every operator of one entry of the zoo: parts of a page."""
    parts = [element("h2", f"{name}: predicted over measured, by measured time, on what was held out")]
    for operator, metadata in report.items():
        if picture := metadata.get("picture"):
            errors = metadata["held_out_errors"][metadata.get("judged_by", "shapes")]
            shown = ", ".join(f"{kind} {errors[kind]:.1%}" for kind in ("median", "mean", "p95"))
            parts += [element("h3", f"{operator}, {_judged(metadata)}: {shown}"), _draw(picture)]
    return parts


def _draw(picture: Mapping[str, Any]) -> str:
    """A column of cells for each quarter octave of measured time, the darker the more of its rows; and their median."""
    counts: list[list[int]] = picture["counts"]
    edges: list[float] = picture["log_ratio_edges"]
    wide = (_WIDTH - 2 * _MARGIN) / len(counts)
    first_s = 2.0 ** (int(picture["first_octave_quarter"]) / 4)

    def x(seconds: float) -> float:
        return _MARGIN + 4 * math.log2(seconds / first_s) * wide

    def y(log_ratio: float) -> float:
        return _HEIGHT - 30 - (log_ratio - edges[0]) / (edges[-1] - edges[0]) * (_HEIGHT - 40)

    marks = [mark for ratio in _RATIOS for mark in _level(y(math.log(ratio)), f"{ratio - 1:+.0%}")]
    decades = range(math.ceil(math.log10(first_s)), math.floor(math.log10(first_s * 2 ** (len(counts) / 4))) + 1)
    for decade in decades:
        label = f"{10.0 ** (decade + 6):,.0f} us"
        marks.append(element("text", label, x=x(10.0**decade), y=_HEIGHT - 10, text_anchor="middle"))
    medians = []
    for i, column in enumerate(counts):
        rows = sum(column)
        for count, (low, high) in zip(column, pairwise(edges), strict=True):
            if count:
                told = element("title", f"{count:,} of {rows:,} rows")
                place = {"x": _MARGIN + i * wide, "y": y(high), "width": wide, "height": y(low) - y(high)}
                marks.append(element("rect", [told], class_="cell", **place, fill_opacity=math.sqrt(count / rows)))
        if rows:
            (median,) = quantiles(column, edges, (0.5,))
            medians.append(f"{_MARGIN + (i + 0.5) * wide:.1f},{y(median):.1f}")
    marks.append(element("polyline", class_="median", points=" ".join(medians)))
    return figure(_WIDTH, _HEIGHT, marks)


def _level(y: float, label: str) -> list[str]:
    """A line across the picture with its label."""
    return [
        element("line", x1=_MARGIN, x2=_WIDTH - _MARGIN, y1=y, y2=y),
        element("text", label, x=_MARGIN - 6, y=y + 4, text_anchor="end"),
    ]
