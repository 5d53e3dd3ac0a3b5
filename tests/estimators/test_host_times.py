"""What the CPU does around an iteration: written, read, fitted."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from estimators.errors import EstimatorError
from estimators.host_times import HOST_COLUMNS, fit_host_times, host_path, read_host_times, write_host_times
from fastsim import SimulationConfig

PROVENANCE = {"device": "a CPU", "driver": "none", "libraries": {}, "date": "2026-11-28", "repeats": 9}


def times(batches: list[int], noise: float = 0.0) -> pl.DataFrame:
    """1 ms and 10 us a request before, 2 ms and 50 us a request after."""
    batch = np.array(batches)
    drawn = np.random.default_rng(1).normal(1, noise, (6, batch.size)).clip(0.5)
    parts = [
        *(0.2e-3 + 4e-6 * batch, 0.5e-3 + 6e-6 * batch, np.full(batch.size, 0.3e-3)),
        *(1e-3 + 20e-6 * batch, 1e-3 + 5e-6 * batch, 25e-6 * batch),
    ]
    return pl.DataFrame(dict(zip(HOST_COLUMNS, (batch, *np.array(parts) * drawn), strict=True)))


def fitted(frame: pl.DataFrame) -> list[float]:
    return list(asdict(fit_host_times(frame)).values())


def test_what_is_written_is_read(tmp_path: Path) -> None:
    frame = times([8, 1, 4]).with_columns(pl.lit(None, pl.Float64).alias("detokenize"))
    write_host_times(host_path(tmp_path), frame, "cpu", "toy 1", PROVENANCE)
    assert read_host_times(tmp_path).equals(frame.sort("batch"))
    assert read_host_times(tmp_path / "host.parquet").equals(frame.sort("batch"))


def test_lines_go_through_the_sums() -> None:
    assert fitted(times([1, 2, 4, 16, 64])) == pytest.approx([1e-3, 10e-6, 2e-3, 50e-6], rel=1e-3)


def test_a_burst_of_others_on_the_machine_moves_them_little() -> None:
    frame = times([1, 2, 4, 8, 16, 32, 64, 128], noise=0.02)
    burst = frame.with_columns(pl.when(pl.col("batch") == 64).then(20e-3).otherwise("schedule").alias("schedule"))
    assert fitted(burst) == pytest.approx([1e-3, 10e-6, 2e-3, 50e-6], rel=0.2)


def test_nothing_is_fitted_below_0() -> None:
    falling = times([1, 8, 64]).with_columns(schedule=pl.Series([5e-3, 2e-3, 0.0]))
    launch_s, launch_s_per_request, _, _ = fitted(falling)
    assert launch_s > 1e-3
    assert launch_s_per_request == pytest.approx(0, abs=1e-9)


def test_one_batch_size_is_all_constant() -> None:
    assert fitted(times([16])) == pytest.approx([1.16e-3, 0, 2.8e-3, 0])


def test_what_a_source_does_not_have_counts_nothing() -> None:
    nothing = times([1, 64]).with_columns(pl.lit(None, pl.Float64).alias(name) for name in HOST_COLUMNS[4:])
    assert fitted(nothing) == pytest.approx([1e-3, 10e-6, 0, 0], rel=1e-3)


def test_the_names_are_those_of_engine_options() -> None:
    options = asdict(fit_host_times(times([1, 2, 4])))
    config = SimulationConfig(engine="ideal", engine_options=options)
    assert config.engine_choice.launch_s == options["launch_s"]


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("batch", 0, "row 1, column 'batch' 0 is not a whole number from 1 on"),
        ("launch", -1.0, "row 1, column 'launch' -1.0 is not a number from 0 on"),
        ("sampling", float("inf"), "row 1, column 'sampling' inf is not a number from 0 on"),
    ],
)
def test_a_wrong_cell_is_named(tmp_path: Path, column: str, value: float, message: str) -> None:
    frame = times([1]).with_columns(pl.lit(value).alias(column))
    with pytest.raises(EstimatorError, match=message):
        write_host_times(host_path(tmp_path), frame, "cpu", "toy 1", PROVENANCE)
    with pytest.raises(EstimatorError, match=message):
        fit_host_times(frame)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EstimatorError, match="cannot be read"):
        read_host_times(tmp_path)
    times([1]).write_parquet(host_path(tmp_path))
    with pytest.raises(EstimatorError, match="has no metadata of fastsim's"):
        read_host_times(tmp_path)
    with pytest.raises(EstimatorError, match="provenance does not say driver"):
        write_host_times(host_path(tmp_path), times([1]), "cpu", "toy 1", {"device": "a CPU"})
