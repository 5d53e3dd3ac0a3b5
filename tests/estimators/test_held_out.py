"""Held-out errors, and what calibrates the members."""

import json

import numpy as np
import pytest
from training_sets import ROOFLINE, gemms, smooth_gemms

from estimators.held_out import hold_out, judged_error, judging_split, shape_folds
from estimators.members import Calibration
from estimators.regressors import fit
from estimators.training import TrainingSet


def test_unseen_shapes_are_harder_than_unseen_rows_when_every_shape_differs() -> None:
    errors = hold_out(gemms(), "forest", seed=0).errors
    assert list(errors) == ["shapes", "between", "rows"]
    assert errors["rows"]["mean"] < 0.07
    assert errors["shapes"]["mean"] > 0.2
    assert judged_error(gemms(), "forest", seed=0) == pytest.approx(errors["shapes"]["mean"], abs=1e-4)


def test_the_worst_region_is_where_time_cannot_be_learned() -> None:
    rows = gemms()
    seconds = rows.seconds.copy()
    lost = rows.columns["m"] == 64
    seconds[lost] *= np.random.default_rng(1).uniform(1, 20, size=lost.sum())
    worst = hold_out(TrainingSet.of("gemm", rows.columns, seconds, ROOFLINE), "forest", seed=0).errors["rows"]["worst"]
    assert (worst["column"], worst["range"], worst["rows"]) == ("m", [64, 64], 60)


def test_the_picture_counts_rows_and_holds_none_of_them() -> None:
    rows = gemms()
    picture = hold_out(rows, "forest", seed=0).picture
    counts = np.array(picture["counts"])
    assert counts.sum() == len(rows.seconds)
    assert counts.shape[1] == len(picture["log_ratio_edges"]) - 1
    quarter = np.floor(4 * np.log2(rows.seconds)).astype(int)
    assert picture["first_octave_quarter"] == quarter.min()
    np.testing.assert_array_equal(counts.sum(axis=1), np.bincount(quarter - quarter.min()))
    assert not any(f"{seconds:.6g}" in json.dumps(picture) for seconds in rows.seconds)


def test_members_cover_what_they_claim_on_shapes_that_calibrated_nothing() -> None:
    rows = smooth_gemms(3000, noise=0.05)
    known = shape_folds(rows, seed=1) > 0
    columns = {name: values[known] for name, values in rows.columns.items()}
    trained = TrainingSet.of("gemm", columns, rows.seconds[known], ROOFLINE)
    calibration = hold_out(trained, "forest", seed=0).calibration
    members = fit("forest", trained.features, trained.target, 0).predict(rows.features[~known])
    apart = calibration.apart("gemm", members)
    np.testing.assert_allclose(apart.mean(axis=1), members.mean(axis=1))
    error = np.abs(members.mean(axis=1) - rows.target[~known])
    assert 0.86 < (error <= 1.645 * apart.std(axis=1, ddof=1)).mean() < 0.94
    assert calibration.claimed == 0.9
    assert 0.85 < calibration.covered < 0.95


def some(rows: TrainingSet, chosen: np.ndarray) -> TrainingSet:
    columns = {name: values[chosen] for name, values in rows.columns.items()}
    return TrainingSet.of(rows.operator, columns, rows.seconds[chosen], ROOFLINE)


def test_shapes_of_one_model_are_judged_by_sizes_between_and_a_single_size_by_rows() -> None:
    rows = gemms()
    one_model = some(rows, np.arange(50))  # five shapes at ten values of m
    one_size = some(rows, np.arange(0, 50, 10))
    assert [judging_split(each) for each in (rows, one_model, one_size)] == ["shapes", "between", "rows"]
    told = hold_out(one_model, "forest", seed=0)
    assert list(told.errors) == ["shapes", "between", "rows"]
    assert (told.judged_by, np.sum(told.picture["counts"])) == ("between", 50)
    assert judged_error(one_model, "forest", seed=0) == pytest.approx(told.errors["between"]["mean"], abs=1e-4)
    assert told.errors["between"]["mean"] < told.errors["shapes"]["mean"]


def test_of_one_row_nothing_is_held_out() -> None:
    told = hold_out(some(gemms(), np.arange(1)), "forest", seed=0)
    assert (told.judged_by, told.errors, told.picture) == (None, {}, {})
    assert told.calibration == Calibration(1.0, 0.0, 0.9, None)
    assert judged_error(some(gemms(), np.arange(1)), "forest", seed=0) == float("inf")


def test_members_share_a_part_whose_order_differs_between_operators() -> None:
    calibration = Calibration(inflation=2.0, shared=0.1, claimed=0.9, covered=0.9)
    same = np.zeros((3, 5))
    gemm, moe = (calibration.apart(operator, same) for operator in ("gemm", "moe"))
    np.testing.assert_allclose(gemm.std(axis=1, ddof=1), 0.2)
    np.testing.assert_allclose(gemm.mean(axis=1), 0, atol=1e-12)
    assert (gemm[0] == gemm[2]).all()
    assert (np.argsort(gemm[0]) != np.argsort(moe[0])).any()


def test_profiled_ranges_and_few_values() -> None:
    rows = gemms()
    assert rows.profiled["m"] == [1.0, 512.0]
    assert rows.profiled["n"] == [rows.columns["n"].min(), rows.columns["n"].max()]
    assert rows.measured_values["m"] == [2.0**i for i in range(10)]
