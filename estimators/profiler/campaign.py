"""Measures few points of a large grid: a design to begin with, then wherever the estimators are least sure."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, zip_longest

import numpy as np

from estimators.devices import DeviceSpec
from estimators.errors import EstimatorError
from estimators.features import OPERATORS, Floats
from estimators.profiler.design import initial
from estimators.profiler.points import Kind, Point
from estimators.profiler.record import Record
from estimators.profiler.refine import FOLDS, held_out_errors, refine, rows_of
from estimators.profiler.timing import Timing
from estimators.training import TrainingSet

Measure = Callable[[Sequence[Point]], Sequence[Timing | EstimatorError]]
"""Times points, all in turns; an error where one cannot be measured here."""

FIRST = 24  # points of each operator and type to begin with, or its corners if they are more
BATCH = 24  # points timed in turns, a second or two
AGAIN = 8  # of these that were timed before, where timings repeat badly
TIMINGS = 3  # of one point, at most


@dataclass(frozen=True)
class Progress:
    """Where a campaign stands.

    Attributes:
        spent_s: of the budget, seconds.
        budget_s: the budget.
        points: that were measured.
        worst: the operator and type that errs most, and
        error: its held-out error; None while the first points are measured.
    """

    spent_s: float
    budget_s: float
    points: int
    worst: str = ""
    error: float | None = None


class Campaign:
    """Measures until every operator's held-out error is small enough or the budget is spent.

    Attributes:
        record: what was measured.
        errors: mean held-out error of a forest for each operator and type that is learned from.
    """

    def __init__(
        self,
        grid: Mapping[Kind, Mapping[Point, float]],
        record: Record,
        device: DeviceSpec,
        measure: Measure,
        seed: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Keep the arguments.

        Args:
            grid: the points of each operator and type, with their calls in one iteration.
            record: where measurements are kept; those in it are not repeated.
            device: whose roofline the estimators start from.
            measure: times points.
            seed: of the design and of the forests.
            clock: seconds, which the budget counts in.
        """
        self.record = record
        self.errors: dict[Kind, float] = {}
        self._errors_of: dict[Kind, Floats] = {}  # of each point, in the order of ``times``
        self._grid, self._device, self._measure, self._seed, self._clock = grid, device, measure, seed, clock
        self._since = clock()

    def begin(self, budget_s: float, progress: Callable[[Progress], None] | None = None) -> None:
        """Measure the initial design of every operator.

        Args:
            budget_s: seconds, over all runs of this record; what a batch takes beyond it is not cut off.
            progress: is called after each batch.
        """
        self._since = self._clock()
        while self.spent_s < budget_s and (batch := list(islice(self._first(), BATCH))):
            self._take(batch)
            self._say(budget_s, progress)

    def refine(self, target: float, budget_s: float, progress: Callable[[Progress], None] | None = None) -> None:
        """Measure until no operator's held-out error is above the target; otherwise as ``begin``, which goes before."""
        self._since = self._clock()
        self._assess()
        while self.spent_s < budget_s and (kind := self._next_kind(target)) is not None:
            again, waiting = self._doubtful(kind, target), self._waiting(kind)
            new = refine(self.rows(kind), list(self.times(kind)), waiting, BATCH - len(again), self._seed)
            self._take([*again, *new])
            self._assess(kind)
            self._say(budget_s, progress)

    @property
    def spent_s(self) -> float:
        """Seconds of the budget, those of earlier runs included; counted on while measuring."""
        return self.record.spent_s + self._clock() - self._since

    def times(self, kind: Kind) -> dict[Point, Timing]:
        """What was measured of an operator and type, sorted."""
        measured = self.record.times
        return {point: measured[point] for point in self._grid[kind] if point in measured}

    def rows(self, kind: Kind) -> TrainingSet:
        """The same, ready to learn from."""
        times = self.times(kind)
        kernels = sorted({timing.kernel for timing in times.values()})
        return rows_of({point: timing.seconds for point, timing in times.items()}, kernels, self._device)

    def scarce(self) -> list[Kind]:
        """Operators and types with too few points to learn from, though the initial design has more."""
        opened = {kind for kind, design in self._designs.items() if any(self.record.is_open(point) for point in design)}
        return [kind for kind in self._grid if kind in opened and len(self.times(kind)) < FOLDS]

    @cached_property
    def _designs(self) -> dict[Kind, list[Point]]:
        return {kind: initial(list(points), FIRST, self._seed) for kind, points in self._grid.items()}

    def _first(self) -> Iterator[Point]:
        """Points of the initial design that are not measured, of all operators in turns."""
        for turn in zip_longest(*self._designs.values()):
            yield from (point for point in turn if point is not None and self.record.is_open(point))

    def _waiting(self, kind: Kind) -> list[Point]:
        return [point for point in self._grid[kind] if self.record.is_open(point)]

    def _take(self, points: Sequence[Point]) -> None:
        found = self._measure(points)
        now = self._clock()
        self.record.add(dict(zip(points, found, strict=True)), now - self._since)
        self._since = now

    def _assess(self, *kinds: Kind) -> None:
        """Cross-validate what is learned from."""
        for kind in kinds or self._grid:
            if kind[0] in OPERATORS and len(self.times(kind)) >= FOLDS:
                self._errors_of[kind] = held_out_errors(self.rows(kind), "forest", self._seed)
                self.errors[kind] = float(self._errors_of[kind].mean())

    def _doubtful(self, kind: Kind, target: float) -> list[Point]:
        """Points to time again where timings repeat badly: those that the others predict worst, before all."""
        times, errors = self.times(kind), self._errors_of[kind]
        if np.median([timing.spread for timing in times.values()]) <= target / 2:
            return []
        worst = sorted(zip(errors, times, strict=True), reverse=True)
        return [point for error, point in worst if error > target and len(self.record.timings[point]) < TIMINGS][:AGAIN]

    def _next_kind(self, target: float) -> Kind | None:
        """Of those above the target the operator and type whose error counts for most of an iteration."""
        above = [kind for kind, error in self.errors.items() if error > target]
        above = [kind for kind in above if self._waiting(kind) or self._doubtful(kind, target)]
        return max(above, key=lambda kind: self.errors[kind] * self._weight(kind), default=None)

    def _weight(self, kind: Kind) -> float:
        """Seconds in an iteration of middling size."""
        by_shape: dict[tuple[int, ...], list[float]] = {}
        for point, timing in self.times(kind).items():
            by_shape.setdefault(point.shape, []).append(self._grid[kind][point] * timing.seconds)
        return float(sum(np.median(seconds) for seconds in by_shape.values()))

    def _say(self, budget_s: float, progress: Callable[[Progress], None] | None) -> None:
        if progress is None:
            return
        points = len(self.record.times)
        worst = max(self.errors, key=self.errors.__getitem__, default=None)
        if worst is None:
            progress(Progress(self.spent_s, budget_s, points))
        else:
            progress(Progress(self.spent_s, budget_s, points, " ".join(worst), self.errors[worst]))
