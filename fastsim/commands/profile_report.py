"""What a profile found, as text for a terminal."""

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from estimators.profiler import OperatorReport, ProfileReport

_LABELS = 26
_BAR, _LARGEST = 20, 0.2  # a bar of the error: so many cells for so much


def render(report: "ProfileReport", model: str) -> str:
    """Points, errors and notes, and what to type next.

    Args:
        report: what was found.
        model: as the user named it.
    """
    measured = f"{report.points:,} of {report.grid:,} points in {report.spent_s:.0f} s"
    resumed = f", {report.resumed:,} of them by earlier runs" if report.resumed else ""
    lines = [
        f"{report.model} on {report.device}: {measured}{resumed}; trained in {report.trained_s:.0f} s",
        "",
        f"{'':{_LABELS}}{'points':>14}{'of one call each':>18}{'spread':>8}{'error':>8}",
        *(_row(each) for each in report.operators),
        "",
        f"error: of points held out, mean |predicted / measured - 1|; the target is {report.target:.1%}. "
        "spread: of repeated measurements",
        *(f"note: {note}" for note in report.notes),
    ]
    if report.dtypes:
        words = ["fastsim", "run", "--model", model, "--device", str(report.directory), "--dtype", report.dtypes[0]]
        words += ["--tp", str(report.tp[0])] if report.tp[0] > 1 else []
        lines += ["", f"next: {shlex.join(words)}"]
    return "\n".join(lines)


def _row(each: "OperatorReport") -> str:
    label = f"{each.operator} {each.dtype}"
    points = f"{each.points:,} of {each.grid:,}"
    if not each.points:
        return f"{label:{_LABELS}}{points:>14}   not measured"
    seconds = f"{each.seconds * 1e3:,.1f} ms"
    line = f"{label:{_LABELS}}{points:>14}{seconds:>18}{each.spread:8.1%}"
    if each.error is None:
        return f"{line}{'-':>8}   {'too few to hold any out' if each.kind else 'measured only, nothing learns it'}"
    cells = min(_BAR, round(_BAR * each.error / _LARGEST))
    return f"{line}{each.error:8.1%}   {'█' * cells}{'' if each.met else ' above the target'}"
