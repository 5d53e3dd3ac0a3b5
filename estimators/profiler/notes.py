"""Sentences about a profile: what was measured with what, and what was not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from estimators.profiler.points import Kind, Point
from estimators.profiler.record import Record
from estimators.profiler.report import OperatorReport
from estimators.profiles import ATTENTION

_STEADY = 1.05  # most that the speed of a device left alone drifts by


def notes_on(
    reports: Sequence[OperatorReport],
    record: Record,
    grid: Mapping[Kind, Mapping[Point, float]],
    target: float,
    budget_s: float,
    is_spent: bool,
) -> list[str]:
    """What a reader of the report's figures has to know besides.

    Args:
        reports: of the operators.
        record: what was measured.
        grid: the points that there are.
        target: error that was to be reached.
        budget_s: seconds to measure for, and
        is_spent: whether that is why measuring ended.
    """
    notes = []
    if kernels := sorted({name for each in reports if each.operator in ATTENTION for name in each.kernels}):
        notes.append(f"Attention ran as {', '.join(kernels)}.")
    if (varied := record.speed_range) is not None and varied[1] / varied[0] > _STEADY:
        low, high = varied
        notes.append(
            f"The same work took {low:.2f} to {high:.2f} of its median from batch to batch: the device's own speed "
            "drifts. Times are those at its median."
        )
    refused = record.refused
    for kind, points in grid.items():
        if sentences := [refused[point] for point in points if point in refused]:
            many = f"{len(sentences)} point{'s' if len(sentences) > 1 else ''}"
            notes.append(f"{kind[0]} {kind[1]}: {many} could not be measured; the first: {sentences[0]}")
    short = [each for each in reports if not each.met and each.error is not None]
    if noisy := [each for each in short if each.spread > target / 2]:
        told = ", ".join(f"{each.operator} {each.dtype} ({each.spread:.0%})" for each in noisy)
        notes.append(f"Repeated measurements of {told} lie so far apart themselves: a quieter machine does more here.")
    if short and is_spent:
        notes.append(f"The budget of {budget_s:g} s is spent: the same command with a larger one goes on.")
    elif short:
        notes.append("Every point of the operators above the target is measured.")
    return notes
