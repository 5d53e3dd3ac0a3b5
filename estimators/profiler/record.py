"""What was measured so far, in a file that a killed profile goes on from: one JSON object a line."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, NoReturn

from estimators.bounded import parsed_json, read_bounded
from estimators.errors import EstimatorError
from estimators.files import errors_of
from estimators.profiler.points import Point
from estimators.profiler.timing import Timing

SCHEMA = 1
NAME = "points.jsonl"
_MOST_BYTES = 1 << 30  # of a record: of some million points
_REMEASURE = "remove the directory, or give another one, to measure anew"


class Record:
    """Points of one profile on disk.

    Attributes:
        path: the file.
        header: what the profile is of; ``about`` is told only, all else must agree when it goes on.
        timings: what was measured, in order; points may be timed more than once.
        refused: points that cannot be measured here, with the sentence that says why.
        spent_s: time that measuring took so far, seconds, over all runs.
        resumed: points that were in the file when it was opened.
    """

    def __init__(self, path: Path, header: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        """Open the file of a profile, or begin one.

        Raises:
            EstimatorError: when it was made otherwise than ``header`` says, or is damaged but for its last line, which
                a kill may leave half written.
        """
        self.path = path
        self.timings: dict[Point, list[Timing]] = {}
        self._times: dict[Point, Timing] | None = None
        self.refused: dict[Point, str] = {}
        self.spent_s = 0.0
        self.header = {"fastsim": "profile", "schema": SCHEMA, **json.loads(json.dumps(header)), "about": dict(about)}
        if lines := self._lines():
            self._check(lines[0])
            for number, line in enumerate(lines[1:], start=2):
                self._take(line, number)
        else:
            self._append([self.header])
        self.resumed = len(self.times)

    @property
    def yardstick_s(self) -> float | None:
        """Of all timings the median of the yardstick: the speed of the device that ``times`` are at."""
        known = self._yardsticks()
        return median(known) if known else None

    @property
    def speed_range(self) -> tuple[float, float] | None:
        """The fastest and the slowest yardstick over their median."""
        known = self._yardsticks()
        return (min(known) / median(known), max(known) / median(known)) if known else None

    def _yardsticks(self) -> list[float]:
        return [timing.yardstick_s for each in self.timings.values() for timing in each if timing.yardstick_s]

    @property
    def times(self) -> dict[Point, Timing]:
        """What each point takes at the usual speed of the device; of several timings the median, the lower of two."""
        if self._times is None:
            usual_s = self.yardstick_s
            self._times = {point: _at_usual_speed(each, usual_s) for point, each in self.timings.items()}
        return self._times

    def is_open(self, point: Point) -> bool:
        """Whether it was neither measured nor refused."""
        return point not in self.timings and point not in self.refused

    def add(self, measured: Mapping[Point, Timing | EstimatorError], seconds: float) -> None:
        """Keep a batch: on disk before this returns.

        Args:
            measured: the timing of each point, or the error that says why there is none.
            seconds: that measuring it took.
        """
        lines: list[dict[str, Any]] = []
        for point, found in measured.items():
            lines.append(vars(point) | (vars(found) if isinstance(found, Timing) else {"refused": str(found)}))
        self.spent_s += seconds
        self._append([*lines, {"spent_s": round(self.spent_s, 3)}])
        for line in lines:
            self._keep(line)

    def _lines(self) -> list[dict[str, Any]]:
        """Whole lines of the file; a last one without its end is cut off, so that what follows stands alone."""
        if not self.path.exists():
            return []
        try:
            content = read_bounded(self.path, _MOST_BYTES)
        except ValueError as error:
            raise EstimatorError(str(self.path), None, f"cannot be read ({error})", _REMEASURE) from error
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            with self.path.open("r+b") as file:
                file.truncate(len(whole))
        lines = []
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                told = parsed_json(line)
            except ValueError:
                told = None
            if not isinstance(told, dict):
                self._damaged(number)
            lines.append(told)
        return lines

    def _check(self, found: Mapping[str, Any]) -> None:
        if found.get("fastsim") != "profile" or "about" not in found:
            self._damaged(1)
        for name, wanted in self.header.items():
            if name != "about" and found.get(name) != wanted:
                wrong = f"is not {found.get(name)!r}, with which {self.path} was begun"
                raise EstimatorError(name, wanted, wrong, f"give that, or {_REMEASURE}")
        self.header = dict(found)

    def _take(self, line: Mapping[str, Any], number: int) -> None:
        try:
            if "spent_s" in line:
                self.spent_s = float(line["spent_s"])
            else:
                self._keep(line)
        except (KeyError, TypeError, ValueError, OverflowError):
            self._damaged(number)

    def _keep(self, line: Mapping[str, Any]) -> None:
        point = Point(str(line["operator"]), str(line["dtype"]), tuple(int(value) for value in line["values"]))
        if "refused" in line:
            self.refused[point] = str(line["refused"])
        else:
            seconds, spread, repeats = float(line["seconds"]), float(line["spread"]), int(line["repeats"])
            usual = line.get("yardstick_s")
            timing = Timing(seconds, spread, repeats, str(line["kernel"]), None if usual is None else float(usual))
            self.timings.setdefault(point, []).append(timing)
            self._times = None

    def _damaged(self, number: int) -> NoReturn:
        raise EstimatorError(str(self.path), None, f"is damaged in line {number}", _REMEASURE)

    def _append(self, lines: Iterable[Mapping[str, Any]]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with errors_of(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines))
            file.flush()
            os.fsync(file.fileno())


def _at_usual_speed(timings: Sequence[Timing], usual_s: float | None) -> Timing:
    scaled = [
        replace(timing, seconds=timing.seconds * usual_s / timing.yardstick_s, yardstick_s=usual_s)
        if usual_s and timing.yardstick_s
        else timing
        for timing in timings
    ]
    return sorted(scaled, key=lambda timing: timing.seconds)[(len(scaled) - 1) // 2]
