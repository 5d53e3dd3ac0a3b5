from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from fake_device import LIMITS, SPEC, FakeDevice, tiny

from estimators.profiler import Limits, Point, Progress, candidates
from estimators.profiler.campaign import BATCH, TIMINGS, Campaign
from estimators.profiler.record import Record
from estimators.profiler.refine import best_kind, refine, rows_of

SMALL = Limits(max_tokens=32, max_num_seqs=8, max_model_len=32)


OPERATORS = ("gemm", "norm", "rope", "decode_attention")


def grid_of_tiny():
    return {kind: points for kind, points in candidates(tiny(), [1], "fp32", SMALL).items() if kind[0] in OPERATORS}


def campaign(path: Path, device: FakeDevice) -> Campaign:
    return Campaign(grid_of_tiny(), Record(path / "points.jsonl", {}, {}), SPEC, device.measure, clock=device.clock)


def run(campaign: Campaign, target: float, budget_s: float, progress=None) -> None:
    campaign.begin(budget_s, progress)
    campaign.refine(target, budget_s, progress)


def test_it_ends_with_the_budget(tmp_path: Path):
    device = FakeDevice(batch_s=1.0)
    run(campaign(tmp_path, device), target=1e-6, budget_s=4.5)
    assert len(device.batches) == 5  # the fifth begins within the budget
    assert all(len(batch) <= BATCH for batch in device.batches)


def test_it_ends_with_the_target(tmp_path: Path):
    device = FakeDevice()
    done = campaign(tmp_path, device)
    run(done, target=0.1, budget_s=1e6)
    assert all(error <= 0.1 for error in done.errors.values())
    assert {operator for operator, _ in done.errors} == set(OPERATORS)
    assert len(done.record.times) < 0.9 * sum(map(len, grid_of_tiny().values()))


def test_it_ends_when_every_point_is_measured_once_where_timings_repeat(tmp_path: Path):
    device = FakeDevice()
    run(campaign(tmp_path, device), target=1e-9, budget_s=1e6)
    measured = [point for batch in device.batches for point in batch]
    assert len(measured) == len(set(measured))
    assert set(measured) == {point for points in grid_of_tiny().values() for point in points}


def test_all_operators_are_begun_in_turns(tmp_path: Path):
    device = FakeDevice()
    campaign(tmp_path, device).begin(0.5)
    (batch,) = device.batches
    assert {point.operator for point in batch} == {operator for operator, _ in grid_of_tiny()}


def test_a_second_run_goes_on_with_points_and_budget(tmp_path: Path):
    straight, stopped = FakeDevice(), FakeDevice()
    run(campaign(tmp_path / "a", straight), 1e-6, 8)
    run(campaign(tmp_path / "b", stopped), 1e-6, 6)
    run(campaign(tmp_path / "b", stopped), 1e-6, 8)
    assert stopped.batches == straight.batches
    run(campaign(tmp_path / "b", stopped), 1e-6, 8)
    assert stopped.batches == straight.batches


def test_what_cannot_be_measured_is_asked_once(tmp_path: Path):
    device = FakeDevice(refuse=("rope",))
    done = campaign(tmp_path, device)
    run(done, 0.05, 1e6)
    asked = [point for batch in device.batches for point in batch if point.operator == "rope"]
    assert len(asked) == len(set(asked)) == len(done.record.refused) > 0
    assert ("rope", "fp32") not in done.errors


def test_points_that_repeat_badly_are_timed_again_and_not_for_ever(tmp_path: Path):
    device = FakeDevice(noise=0.3)
    done = campaign(tmp_path, device)
    run(done, 0.01, 16)
    assert 1 < max(map(len, done.record.timings.values())) <= TIMINGS


def test_progress_tells_what_errs_most(tmp_path: Path):
    states: list[Progress] = []
    run(campaign(tmp_path, FakeDevice()), 0.02, 8, states.append)
    assert all(later.points > earlier.points for earlier, later in pairwise(states))
    assert states[0].error is None
    assert states[-1].error is not None
    assert states[-1].worst.endswith("fp32")


def stepped(point: Point) -> float:
    """Products with a kernel of their own between 24 and 48 rows: a few points among many make all the error."""
    m, n, k = point.values
    return (1e-6 + 2e-11 * m * n * k + 2e-10 * n * k) * (2.5 if 24 <= m <= 48 and k == 64 else 1.0)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_refinement_beats_points_at_random(seed: int):
    points = list(candidates(tiny(), [1, 2], "fp32", LIMITS)["gemm", "fp32"])
    generator = np.random.default_rng(seed)
    order = [points[i] for i in generator.permutation(len(points))]
    first, number = order[:40], 80
    chosen = list(first)
    while len(chosen) < number:
        rows = rows_of({point: stepped(point) for point in chosen}, ["toy"], SPEC)
        chosen += refine(rows, chosen, sorted(set(points) - set(chosen)), 10, seed)
    assert error_on(points, chosen, seed) < 0.7 * error_on(points, order[:number], seed)


def error_on(points: list[Point], chosen: list[Point], seed: int) -> float:
    """Mean error on all points after learning some."""
    from estimators.regressors import fit

    rows, all_rows = (rows_of({point: stepped(point) for point in some}, ["toy"], SPEC) for some in (chosen, points))
    predicted = fit("forest", rows.features, rows.target, seed).predict(all_rows.features).mean(axis=1)
    bound_s = all_rows.bound_s
    return float(np.abs(np.exp(predicted) * bound_s / all_rows.seconds - 1).mean())


def test_an_error_needs_points_in_every_fold():
    points = [Point("norm", "fp32", (rows, 64)) for rows in (1, 2, 4, 8, 16)]
    times = dict.fromkeys(points, 1e-6)
    assert best_kind(rows_of({point: times[point] for point in points[:4]}, ["toy"], SPEC), 0)[1] is None
    assert best_kind(rows_of(times, ["toy"], SPEC), 0)[1] < 1
