"""Profiles a model on a device at hand: measures, trains, and leaves a directory that is a device of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from estimators.devices import DeviceSpec
from estimators.model_spec import ModelSpec
from estimators.profiler.campaign import Progress
from estimators.profiler.points import Limits
from estimators.profiler.report import ProfileReport

if TYPE_CHECKING:
    from estimators.profiler.host import HostProfiled


class Measured(Protocol):
    """What a profile needs to know of a device, such as ``hardware.Hardware``."""

    @property
    def spec(self) -> DeviceSpec:
        """What it can do."""

    @property
    def known(self) -> bool:
        """Whether it is a board of ``estimators.devices``."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """At least ``device``, ``driver`` and ``libraries``."""

    def dtypes(self) -> tuple[str, ...]:
        """Types of weights that can be measured on it."""


def profile(
    model: str | os.PathLike[str] | ModelSpec,
    out: str | os.PathLike[str],
    *,
    device: str = "auto",
    tp: Sequence[int] = (1,),
    dtypes: Sequence[str] | None = None,
    budget_s: float = 300.0,
    target: float = 0.05,
    limits: Limits | None = None,
    seed: int = 0,
    engine: HostProfiled | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> ProfileReport:
    """Measure the operators that a model needs on a device at hand, and train estimators on them.

    What a killed profile had measured is in ``out``: the same call goes on from there. A finished one measures more
    where the budget has grown or the target has shrunk.

    Args:
        model: a name, the path of a ``config.json``, or a ModelSpec.
        out: directory to write; then ``device`` of a simulation.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
        tp: how many GPUs share a layer; the shapes of each are measured on one.
        dtypes: of the weights; None is all that the device multiplies in.
        budget_s: seconds to measure for, over all calls; training comes on top.
        target: mean error of every operator on points held out; reached earlier, the rest of the budget is not spent.
        limits: how large batches get; those of a bare ``fastsim run`` when None.
        seed: of the operands, the design and the regressors.
        engine: whose CPU times per iteration are measured as well.
        progress: is called after each batch of points.

    Raises:
        EstimatorError: torch is not installed; there is no such device, model or type; ``out`` holds a profile of
            something else; or the budget is spent before every operator has a few points.
    """
    from estimators.profiler.hardware import open_hardware
    from estimators.profiler.measure import DeviceMeasure

    spec, limits = _checked(model, tp, budget_s, target, limits)
    hardware = open_hardware(device)
    measure = DeviceMeasure(hardware, limits.block_size, seed)
    return profile_with(hardware, measure, spec, out, tp, dtypes, budget_s, target, limits, seed, engine, progress)
