"""How few points a profile needs: the design and refinement of ``fastsim profile`` against points at random.

    python bench/profile_points.py [--device cpu] [--operator gemm] [--rows] [--json] [--smoke]

Without ``--rows`` a full grid of one operator is measured once on this device, at its usual speed as a profile's points
are, and then looked up; with it, measured rows of the H100 in aiconfigurator's tables are, of 16 shapes (the package's
extra ``profiles``). Errors are the mean of |predicted / measured - 1| on ALL points of the grid, those trained on
included: after the ``designed`` points alone, after ``refined`` ones, the first half of which are designed, and after
as many at ``random``; means over three seeds.
"""

import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from common import Row, emit, note, parser

from estimators import EstimatorError, load_model
from estimators.devices import DeviceSpec, load_device
from estimators.profiler import Limits, Point, candidates
from estimators.profiler.design import initial
from estimators.profiler.record import NAME, Record
from estimators.profiler.refine import refine, rows_of
from estimators.profiles import columns_of
from estimators.regressors import fit
from estimators.training import TrainingSet

MODEL = Path(__file__).resolve().parent / "selftest_models" / "llama-25m.json"
SIZES = (40, 80, 160, 320)
SEEDS = (0, 1, 2)
SHAPES = 16
BATCH = 8
WAYS = ("designed", "refined", "random")


def error_of(truth: Mapping[Point, float], chosen: Sequence[Point], device: DeviceSpec, seed: int) -> float:
    """Mean error on all points of what was learned from some."""
    rows, grid = (rows_of({point: truth[point] for point in some}, [], device) for some in (chosen, list(truth)))
    asked = TrainingSet.of(grid.operator, grid.columns, grid.seconds, rows.roofline)
    predicted = fit("forest", rows.features, rows.target, seed).predict(asked.features).mean(axis=1)
    return float(np.abs(np.expm1(predicted - asked.target)).mean())


def refined(truth: Mapping[Point, float], number: int, device: DeviceSpec, seed: int) -> list[Point]:
    """The design of a profile for half the points, then refinement."""
    points = list(truth)
    chosen = initial(points, number // 2, seed)
    while len(chosen) < number:
        waiting = sorted(set(points) - set(chosen))
        rows = rows_of({point: truth[point] for point in chosen}, [], device)
        chosen += refine(rows, chosen, waiting, min(BATCH, number - len(chosen)), seed)
    return chosen[:number]


def choices(truth: Mapping[Point, float], number: int, device: DeviceSpec, seed: int) -> dict[str, list[Point]]:
    """The points that are measured, by each of ``WAYS``."""
    points = list(truth)
    order = np.random.default_rng(seed).permutation(len(points))[:number]
    return {
        "designed": initial(points, number, seed)[:number],
        "refined": refined(truth, number, device, seed),
        "random": [points[i] for i in order],
    }


def compare(source: str, truth: Mapping[Point, float], device: DeviceSpec, sizes: Sequence[int]) -> Iterator[Row]:
    """A row for each number of points, means over ``SEEDS``; the last is the full grid's."""
    points = list(truth)
    who = {"source": source, "operator": points[0].operator, "grid": len(points)}
    for number in (*(size for size in sizes if size < len(points)), len(points)):
        began = time.monotonic()
        whole = number == len(points)
        ways = [dict.fromkeys(WAYS, points)] if whole else [choices(truth, number, device, seed) for seed in SEEDS]
        errors = [[error_of(truth, way[name], device, seed) for seed, way in enumerate(ways)] for name in WAYS]
        means = dict(zip(WAYS, np.mean(errors, axis=1).tolist(), strict=True))
        yield who | {"points": number, "share": number / len(points), **means, "seconds": time.monotonic() - began}


def tabulated(operator: str) -> dict[Point, float]:
    """Measured rows of the H100, of as many shapes as a model has at a few numbers of GPUs."""
    from estimators.sources.aiconfigurator import read_profiles

    frame = read_profiles("h100_sxm", operator, "bf16").frame
    values = frame.select(list(columns_of(operator))).rows()
    truth = {Point(operator, "bf16", row): s for row, s in zip(values, frame["seconds"].to_list(), strict=True)}
    shapes = sorted({point.shape for point in truth})
    kept = {shapes[i] for i in np.random.default_rng(1).permutation(len(shapes))[:SHAPES]}
    return {point: seconds for point, seconds in sorted(truth.items()) if point.shape in kept}


def measured(name: str, operator: str, smoke: bool) -> tuple[dict[Point, float], DeviceSpec]:
    """The full grid of an operator of a small model, measured once on this device."""
    from estimators.profiler.hardware import open_hardware
    from estimators.profiler.measure import DeviceMeasure

    hardware = open_hardware(name)
    limits = Limits(64, 8, 128) if smoke else Limits(512, 64, 1024)
    grid = candidates(load_model(MODEL), [1], hardware.dtypes()[0], limits)
    if (operator, hardware.dtypes()[0]) not in grid:
        mend = f"choose one of {', '.join(name for name, _ in grid)}"
        raise EstimatorError("operator", operator, f"is none of {MODEL.stem}", mend)
    points = list(grid[operator, hardware.dtypes()[0]])
    measure = DeviceMeasure(hardware, limits.block_size, 0)
    with tempfile.TemporaryDirectory() as directory:
        record = Record(Path(directory) / NAME, {}, {})
        for start in range(0, len(points), BATCH):
            some, began = points[start : start + BATCH], time.monotonic()
            found = dict(zip(some, measure(some), strict=True))
            record.add(found, time.monotonic() - began)
    truth = {point: timing.seconds for point, timing in record.times.items()}
    note(f"{operator}: {len(truth)} points measured in {record.spent_s:.0f} s")
    return truth, hardware.spec


def main() -> int:
    """Print the rows; returns the exit code."""
    arguments = parser("points that a profile needs")
    arguments.add_argument("--device", default="auto", help="what to measure the full grid on")
    arguments.add_argument("--operator", default="gemm", help="which operator")
    arguments.add_argument("--rows", action="store_true", help="take aiconfigurator's rows of the H100 instead")
    options = arguments.parse_args()
    sizes = SIZES[:1] if options.smoke else SIZES
    try:
        if options.rows:
            source, device = "aiconfigurator h100_sxm", load_device("h100_sxm")
            truth = tabulated(options.operator)
        else:
            truth, device = measured(options.device, options.operator, options.smoke)
            source = device.name
        emit(list(compare(source, truth, device, sizes)), options.json)
    except EstimatorError as error:
        note(str(error))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
