"""Training from profiles of any source."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from training_sets import smooth_gemms

from estimators.errors import EstimatorError
from estimators.estimator import OperatorEstimators, describe, list_zoo
from estimators.profiles import Profiles
from estimators.sources.aiconfigurator import read_profiles
from estimators.train import train


def products(rows: int = 300) -> Profiles:
    measured = smooth_gemms(rows)
    frame = pl.DataFrame({name: values.astype(np.int64) for name, values in measured.columns.items()})
    frame = frame.with_columns(seconds=measured.seconds)
    counts = {"rows_read": rows + 5, "rows_dropped": 3, "rows_duplicate": 2, "outliers": 1}
    return Profiles("h100_sxm", "gemm", "fp8", frame, "mine 1", "vllm 9", "MIT", ("kernel",), **counts)


def test_given_profiles_are_trained_on_and_load_finds_them(tmp_path: Path) -> None:
    lines: list[str] = []
    report = train("h100_sxm", "fp8", tmp_path, seed=5, progress=lines.append, profiles=[products()])
    assert lines == ["h100_sxm fp8: gemm (1/1, 300 rows)"]
    assert list_zoo(tmp_path) == [("h100_sxm", "fp8")]
    size = report["gemm"].pop("bytes")
    assert size == (tmp_path / "h100_sxm-fp8" / "gemm.onnx.xz").stat().st_size
    assert describe("h100_sxm", "fp8", tmp_path) == report
    gemm = report["gemm"]
    assert gemm["rows"] == {"read": 305, "dropped": 3, "merged": 2, "used": 300, "outliers": 1}
    assert (gemm["source"], gemm["licence"], gemm["command"]) == ("mine 1", "MIT", None)
    assert gemm["regressor"] == {"kind": "forest", "members": 5, "seed": 5}
    assert (gemm["roofline"]["element_bytes"], gemm["roofline"]["peak_flops"]) == (1, 1978.9e12)
    frame = products().frame
    columns = {name: frame[name] for name in ("m", "n", "k")}
    predicted = OperatorEstimators.load("h100_sxm", "fp8", tmp_path).predict("gemm", columns)
    np.testing.assert_allclose(predicted, frame["seconds"], rtol=0.02)


def test_the_same_profiles_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("first", "second"):
        train("h100_sxm", "fp8", tmp_path / name, profiles=[products()])
    first, second = ((tmp_path / name / "h100_sxm-fp8" / "gemm.onnx.xz").read_bytes() for name in ("first", "second"))
    assert first == second


def test_auto_takes_the_kind_that_errs_least_on_unseen_shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = {"forest": 0.3, "boosted": 0.2, "linear": 0.1, "polynomial": 0.4}
    monkeypatch.setattr("estimators.train.judged_error", lambda rows, kind, seed: errors[kind])
    report = train("h100_sxm", "fp8", tmp_path, kind="auto", profiles=[products()])
    assert report["gemm"]["regressor"]["kind"] == "linear"


@pytest.mark.parametrize("rows", [1, 2])
def test_one_row_or_two_are_learned_from(tmp_path: Path, rows: int) -> None:
    few = products(rows)
    report = train("h100_sxm", "fp8", tmp_path, kind="auto", profiles=[few])["gemm"]
    assert report["judged_by"] == (None if rows == 1 else "rows")
    assert len(report["held_out_errors"]) == (0 if rows == 1 else 3)
    known = OperatorEstimators.load("h100_sxm", "fp8", tmp_path)
    for member in (0, 1, 5):
        seconds = known.predict("gemm", {name: few.frame[name] for name in ("m", "n", "k")}, member)
        assert (np.abs(np.log(seconds / few.frame["seconds"].to_numpy())) < 2).all()


def test_an_engine_and_its_version_are_read_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("estimators.train.operators_of", lambda dtype: ("all_reduce",))
    report = train("h100_sxm", "bf16", tmp_path, backend="sglang", version="0.5.9", kind="polynomial")
    assert report["all_reduce"]["engine"] == "sglang 0.5.9"
    assert report["all_reduce"]["command"].endswith("--seed 0 --backend sglang --version 0.5.9 --kind polynomial")


def test_what_was_not_measured_is_left_out_unless_nothing_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def only_reductions(system: str, operator: str, dtype: str, *engine: object) -> Profiles:
        if operator != "all_reduce":
            raise EstimatorError("dtype", dtype, "has no rows", "choose another dtype")
        return read_profiles(system, operator, dtype)

    monkeypatch.setattr("estimators.train.read_profiles", only_reductions)
    assert list(train("h100_sxm", "bf16", tmp_path)) == ["all_reduce"]
    with pytest.raises(EstimatorError, match="has no rows"):
        train("h100_sxm", "fp8", tmp_path)


@pytest.mark.parametrize(
    ("change", "field"), [({"dtype": "fp7"}, "dtype"), ({"kind": "neural"}, "kind"), ({"device": "tpu"}, "device")]
)
def test_bad_choices_are_told(tmp_path: Path, change: dict, field: str) -> None:
    with pytest.raises(EstimatorError) as caught:
        train(**{"device": "h100_sxm", "dtype": "bf16", "out_directory": tmp_path} | change)
    assert caught.value.field == field


def test_a_version_that_nobody_measured_trains_nothing(tmp_path: Path) -> None:
    with pytest.raises(EstimatorError, match=r"9\.9"):  # though NCCL's and others' tables would do
        train("h100_sxm", "bf16", tmp_path, version="9.9")
    assert not any(tmp_path.iterdir())
