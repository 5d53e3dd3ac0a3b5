"""Profiles a model on a device at hand: measures, trains, and leaves a directory that is a device of its own."""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from estimators.device_file import device_path, write_device
from estimators.devices import DeviceSpec
from estimators.errors import EstimatorError
from estimators.model_spec import ModelSpec
from estimators.models import load_model
from estimators.profiler.campaign import Campaign, Measure, Progress
from estimators.profiler.finish import Finish
from estimators.profiler.notes import notes_on
from estimators.profiler.points import Kind, Limits, Point, candidates
from estimators.profiler.record import NAME, Record
from estimators.profiler.refine import FOLDS
from estimators.profiler.report import ProfileReport
from estimators.profiler.rules import check_rules
from estimators.profiles import DTYPES

if TYPE_CHECKING:
    from estimators.profiler.collectives import MeasuredCollectives
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


@dataclass(frozen=True)
class ProfileOptions:
    """What to measure and how long; the fields are arguments of ``profile``."""

    tp: tuple[int, ...] = (1,)
    dtypes: tuple[str, ...] | None = None
    budget_s: float = 300.0
    target: float = 0.05
    limits: Limits = field(default_factory=Limits)
    seed: int = 0

    def check(self) -> None:
        """Refuse what cannot be, naming the field."""
        if not self.budget_s > 0:
            raise EstimatorError("budget", self.budget_s, "is no time to measure for", "give seconds above 0, or 5m")
        if not 0 < self.target < 1:
            raise EstimatorError("target", self.target, "is no error to reach", "give more than 0 and less than 1")
        if not self.tp:
            raise EstimatorError("tp", None, "is not given", "give 1 or more GPUs that share a layer")
        if not 0 <= self.seed < 2**32:
            raise EstimatorError("seed", self.seed, "is no seed of a regressor", f"give 0 to {2**32 - 1}")
        self.limits.check()


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

    kinds = None if dtypes is None else tuple(dtypes)
    options = ProfileOptions(tuple(dict.fromkeys(tp)), kinds, budget_s, target, limits or Limits(), seed)
    options.check()
    spec = model if isinstance(model, ModelSpec) else load_model(model)
    for gpus in options.tp:
        spec.check_tensor_parallel(gpus)
    hardware = open_hardware(device)
    from estimators.profiler.collectives import measure_collectives  # needs torch, which is there by now
    from estimators.profiler.measure import DeviceMeasure

    measure = DeviceMeasure(hardware, options.limits.block_size, seed)
    dtype = next(each for each in hardware.dtypes() if each in DTYPES["all_reduce"])
    collectives = partial(measure_collectives, hardware, options.tp, dtype=dtype)
    return profile_with(hardware, measure, spec, out, options, progress, engine, collectives)


def profile_with(
    hardware: Measured,
    measure: Measure,
    model: ModelSpec,
    out: str | os.PathLike[str],
    options: ProfileOptions,
    progress: Callable[[Progress], None] | None = None,
    engine: HostProfiled | None = None,
    collectives: Callable[[], MeasuredCollectives] | None = None,
) -> ProfileReport:
    """Do what ``profile`` does with any device and any way to time points, and to measure collectives if there is."""
    directory, dtypes = Path(out), _dtypes(hardware, options.dtypes)
    record = _record(directory, hardware, model, options, dtypes)
    spec, provenance = DeviceSpec(**record.header["about"]["spec"]), record.header["about"]["provenance"]
    grid = _grid(model, spec, options, dtypes)
    campaign = Campaign(grid, record, spec, measure, options.seed)
    campaign.begin(options.budget_s, progress)
    rules = check_rules(record, measure, grid, options.limits) if campaign.spent_s < options.budget_s else []
    campaign.refine(options.target, options.budget_s, progress)
    is_spent = campaign.spent_s >= options.budget_s  # asked now: what follows is no measuring
    _refuse_few(campaign, options)
    began = time.monotonic()
    if len(record.times) > record.resumed:
        device_path(directory).unlink(missing_ok=True)  # not finished, until it is
    finish = Finish(directory, spec, provenance, options.target, options.seed)
    reports = finish.operators(campaign, grid)
    notes = notes_on(reports, record, grid, options.target, options.budget_s, is_spent)
    notes += [rule.sentence() for rule in rules]
    if collectives is not None and max(options.tp) > 1:
        measured = collectives()
        reports += finish.collectives(measured)
        notes += [measured.note] if measured.note else []
    if engine is not None:
        finish.host_times(engine, options.limits.max_num_seqs)
    told = {"model": model.name, "dtypes": list(dtypes), "tp": list(options.tp), "limits": asdict(options.limits)}
    write_device(directory, spec, {**provenance, **told, "notes": notes})
    return ProfileReport(
        directory=directory,
        device=spec.name,
        model=model.name,
        dtypes=dtypes,
        tp=options.tp,
        operators=tuple(reports),
        target=options.target,
        spent_s=record.spent_s,
        trained_s=time.monotonic() - began,
        resumed=record.resumed,
        yardstick_s=record.yardstick_s,
        notes=tuple(notes),
    )


def _record(
    directory: Path, hardware: Measured, model: ModelSpec, options: ProfileOptions, dtypes: tuple[str, ...]
) -> Record:
    """The points measured so far; what has to agree with them, and what is told of the device they began on."""
    header = {
        "model": model.name,
        "model_fields": asdict(model),
        **{name: hardware.provenance.get(name) for name in ("device", "libraries", "threads")},
        "dtypes": dtypes,
        "tp": options.tp,
        **asdict(options.limits),
        "seed": options.seed,
    }
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    about = {"spec": hardware.spec.figures(), "provenance": {**hardware.provenance, "date": date}}
    return Record(directory / NAME, header, about)


def _dtypes(hardware: Measured, asked: Sequence[str] | None) -> tuple[str, ...]:
    known = hardware.dtypes()
    for dtype in asked or ():
        if dtype not in known:
            mend = f"choose one of {', '.join(known)}"
            raise EstimatorError("dtype", dtype, f"is not measured on {hardware.spec.name}", mend)
    return tuple(dict.fromkeys(asked or known))


def _grid(
    model: ModelSpec, spec: DeviceSpec, options: ProfileOptions, dtypes: Sequence[str]
) -> dict[Kind, dict[Point, float]]:
    """Points of all types; those of bf16 parts of a model in fp8 are those of the model in bf16."""
    grid: dict[Kind, dict[Point, float]] = {}
    for dtype in dtypes:
        for kind, points in candidates(model, options.tp, dtype, options.limits, spec.memory_bytes).items():
            grid[kind] = dict(sorted((grid.get(kind, {}) | points).items()))
    return grid


def _refuse_few(campaign: Campaign, options: ProfileOptions) -> None:
    """Refuse to train on next to nothing."""
    if few := [" ".join(kind) for kind in campaign.scarce()]:
        wrong = f"is spent before there are {FOLDS} points of {', '.join(few)}"
        mend = "give more: the same command goes on with what is measured"
        raise EstimatorError("budget", f"{options.budget_s:g} s", wrong, mend)
