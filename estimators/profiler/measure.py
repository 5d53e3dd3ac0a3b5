"""Timing points on a real device, as many at a time as its memory holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from estimators.errors import EstimatorError
from estimators.profiler.hardware import MemoryShortError
from estimators.profiler.points import Point
from estimators.profiler.timing import Timing, time_all
from estimators.profiler.yardstick import yardstick

if TYPE_CHECKING:
    from estimators.profiler.hardware import Hardware
    from estimators.profiler.kernels import Prepared


class DeviceMeasure:
    """Prepares points and times them in turns, the yardstick among them; see ``campaign.Measure``."""

    def __init__(self, hardware: Hardware, block_size: int, seed: int) -> None:
        """Keep what every point is prepared with.

        Args:
            hardware: where.
            block_size: tokens of a block of the KV cache.
            seed: of the operands and of the order of the turns.
        """
        self._hardware, self._block_size, self._seed = hardware, block_size, seed

    def __call__(self, points: Sequence[Point]) -> list[Timing | EstimatorError]:
        """Timings in the order of the points; an error where one cannot be measured here."""
        found: dict[int, Timing | EstimatorError] = {}
        together: dict[int, Prepared] = {}
        for i, point in enumerate(points):
            prepared = self._prepared(point)
            if isinstance(prepared, MemoryShortError) and together:  # the others may hold the memory it needs
                found |= self._timed(together)
                together = {}
                prepared = self._prepared(point)
            if isinstance(prepared, EstimatorError):
                found[i] = prepared
            else:
                together[i] = prepared
        found |= self._timed(together)
        return [found[i] for i in range(len(points))]

    def _prepared(self, point: Point) -> Prepared | EstimatorError:
        from estimators.profiler.kernels import prepare

        try:
            return prepare(
                self._hardware,
                point.operator,
                point.dtype,
                point.columns,
                block_size=self._block_size,
                seed=self._seed,
            )
        except EstimatorError as error:
            return error

    def _timed(self, together: dict[int, Prepared]) -> dict[int, Timing | EstimatorError]:
        if not together:
            return {}
        *timings, usual = time_all(self._hardware, [*together.values(), yardstick(self._hardware)], seed=self._seed)
        return {i: replace(each, yardstick_s=usual.seconds) for i, each in zip(together, timings, strict=True)}
