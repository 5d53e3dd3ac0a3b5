"""What a profile found, and what there is to know about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class OperatorReport:
    """What was measured of one operator in one type.

    Attributes:
        operator: its name.
        dtype: of weights, of the KV cache, or of what is moved.
        points: that were measured.
        grid: points that there are.
        refused: points that cannot be measured on this device.
        seconds: that the measured calls take together, one of each.
        spread: median spread of repeated measurements; no estimator errs less on what repeats no better.
        error: mean |predicted / measured - 1| of points that had no part in the fit; None where nothing is
            learned, or there are too few to hold any out.
        met: whether that is no more than the target, or None.
        kind: of regressor that was trained, empty where none was.
        kernels: that ran.
    """

    operator: str
    dtype: str
    points: int
    grid: int
    refused: int
    seconds: float
    spread: float
    error: float | None
    met: bool
    kind: str
    kernels: tuple[str, ...]


@dataclass(frozen=True)
class ProfileReport:
    """What a profile found.

    Attributes:
        directory: where it is; a device that can be simulated.
        device: its name.
        model: that was profiled.
        dtypes: types of weights that can be simulated.
        tp: numbers of GPUs that share a layer whose shapes were measured.
        operators: by operator and type.
        target: error that was to be reached.
        spent_s: seconds of the budget, over all runs.
        trained_s: seconds that training took in this run.
        resumed: points that earlier runs had measured.
        yardstick_s: median of the same work in every batch, the speed of the device that times are at.
        notes: sentences about what was measured how, and what was not.
    """

    directory: Path
    device: str
    model: str
    dtypes: tuple[str, ...]
    tp: tuple[int, ...]
    operators: tuple[OperatorReport, ...]
    target: float
    spent_s: float
    trained_s: float
    resumed: int
    yardstick_s: float | None
    notes: tuple[str, ...]

    @property
    def points(self) -> int:
        """Points that were measured."""
        return sum(each.points for each in self.operators)

    @property
    def grid(self) -> int:
        """Points that there are."""
        return sum(each.grid for each in self.operators)
