"""fastsim's own profiles: written, read, refused."""

import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from estimators.errors import EstimatorError
from estimators.profiles import Profiles
from estimators.sources.own import own_path, read_own, read_provenance, write_profiles

PROVENANCE = {
    **{"device": "NVIDIA H100 80GB HBM3", "driver": "550.1", "libraries": {"torch": "2.6"}},
    **{"date": "2026-11-28", "repeats": 20, "clock_mhz": 1980},
}


def profiles(**other: object) -> Profiles:
    frame = pl.DataFrame(
        {"m": [1, 2, 4], "n": [8] * 3, "k": [16] * 3, "seconds": [3e-6, 2e-6, 4e-6], "spread": [0.01, 0.02, 0.03]}
    )
    said = {"system": "h100_sxm", "operator": "gemm", "dtype": "fp8", "engine": "vllm 0.11.1", "licence": "MIT"}
    counts = {"rows_read": 60, "rows_dropped": 0, "rows_duplicate": 57, "outliers": 1}
    given = {"frame": frame, "source": "now", "kernels": ("a", "b"), **said, **counts, **other}
    return Profiles(**given)  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of ``profiles()``."""
    made = own_path(tmp_path, "gemm", "fp8")
    write_profiles(made, profiles(), PROVENANCE)
    return made


def rewrite(path: Path, frame: pl.DataFrame, **other: object) -> None:
    """Write another frame under a file's metadata, or under such that differs."""
    about = read_provenance(path) | other
    frame.write_parquet(path, metadata={"fastsim": json.dumps(about)})


def test_what_is_written_is_read(tmp_path: Path):
    path = own_path(tmp_path / "new", "gemm", "fp8")
    assert path.name == "gemm-fp8.parquet"
    given = profiles()
    write_profiles(path, given, PROVENANCE)
    found = read_own(path)
    assert found.frame.equals(given.frame)
    source = "fastsim's profiler, NVIDIA H100 80GB HBM3, 2026-11-28"
    counts = {"rows_read": 3, "rows_dropped": 0, "rows_duplicate": 0}
    assert vars(replace(found, frame=None)) == vars(replace(given, frame=None, source=source, **counts))
    assert read_provenance(path)["provenance"] == PROVENANCE
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_the_spread_may_be_left_out(tmp_path: Path):
    path = own_path(tmp_path, "gemm", "fp8")
    write_profiles(path, profiles(frame=profiles().frame.drop("spread")), PROVENANCE)
    assert read_own(path).frame.columns == ["m", "n", "k", "seconds"]


def test_repeated_points_are_merged_and_counted(path: Path):
    rewrite(path, pl.concat([profiles().frame, profiles().frame]))
    found = read_own(path)
    assert (found.rows_read, found.rows_duplicate, found.frame.height) == (6, 3, 3)


def test_a_provenance_has_what_makes_a_measurement_one(tmp_path: Path):
    path = own_path(tmp_path, "gemm", "fp8")
    with pytest.raises(EstimatorError, match="provenance does not say driver, date"):
        write_profiles(path, profiles(), {k: v for k, v in PROVENANCE.items() if k not in ("driver", "date")})
    assert not path.exists()


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("m", [1, 0, 4], "row 2, column 'm' 0 is not a whole number from 1 on"),
        ("k", [1, None, 4], "row 2, column 'k' is empty"),
        ("seconds", [1.0, float("nan"), 1.0], "row 2, column 'seconds' nan is not a number above 0"),
        ("seconds", [1.0, -1.0, 1.0], "row 2, column 'seconds' -1.0 is not a number above 0"),
        ("spread", [0.0, 0.1, -0.1], "row 3, column 'spread' -0.1 is not a number from 0 on"),
    ],
)
def test_a_wrong_cell_names_file_row_and_column(path: Path, column: str, values: list[float], message: str):
    wrong = profiles().frame.with_columns(pl.Series(column, values))
    with pytest.raises(EstimatorError, match=message):
        write_profiles(path, profiles(frame=wrong), PROVENANCE)
    assert read_own(path).frame.equals(profiles().frame)  # as it was
    rewrite(path, wrong)
    with pytest.raises(EstimatorError, match=f"gemm-fp8.parquet: {message}"):
        read_own(path)


def test_a_missing_column_is_told(path: Path):
    rewrite(path, profiles().frame.drop("n"))
    with pytest.raises(EstimatorError, match="has no column 'n'"):
        read_own(path)


@pytest.mark.parametrize(("name", "value"), [("unit", "ms"), ("schema", 2)])
def test_another_unit_or_schema_is_told(path: Path, name: str, value: object):
    rewrite(path, profiles().frame, **{name: value})
    with pytest.raises(EstimatorError, match=rf"gemm-fp8.parquet: {name} {value!r} is not "):
        read_own(path)


def test_times_in_another_unit_are_not_written(path: Path):
    large = profiles().frame.with_columns(m=pl.lit(8192), n=pl.lit(8192), k=pl.lit(8192), seconds=pl.lit(15.0))
    with pytest.raises(EstimatorError, match="as on no GPU; give times in seconds"):
        write_profiles(path, profiles(frame=large), PROVENANCE)


def test_products_of_a_cpu_may_be_slower_than_any_gpus(tmp_path: Path):
    slow = profiles().frame.with_columns(m=pl.lit(8192), n=pl.lit(8192), k=pl.lit(8192), seconds=pl.lit(15.0))
    path = own_path(tmp_path, "gemm", "fp32")
    write_profiles(path, profiles(frame=slow.head(1), system="cpu", dtype="fp32"), PROVENANCE)
    assert read_own(path).frame["seconds"].to_list() == [15.0]
    slower = slow.head(1).with_columns(seconds=pl.lit(15e5))
    with pytest.raises(EstimatorError, match="as on no CPU"):
        write_profiles(path, profiles(frame=slower, system="cpu", dtype="fp32"), PROVENANCE)


def test_other_files_are_refused(tmp_path: Path):
    path = tmp_path / "other.parquet"
    profiles().frame.write_parquet(path)
    with pytest.raises(EstimatorError, match="has no metadata of fastsim's"):
        read_own(path)
    path.write_text("m,n,k\n")
    with pytest.raises(EstimatorError, match="cannot be read"):
        read_own(path)
    with pytest.raises(EstimatorError, match="cannot be read"):
        read_own(tmp_path / "none.parquet")
