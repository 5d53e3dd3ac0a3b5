"""Simulating a mixture of experts: only with tables of its own."""

from pathlib import Path

import pytest
from layerwise_files import experts_profile, write_config

import fastsim
from estimators import EstimatorError
from estimators.layerwise import layerwise_tables


def test_without_tables_it_is_refused(tmp_path: Path):
    workload = fastsim.Workload.from_arrays([0.0], [10], [4])
    config = fastsim.SimulationConfig(model=str(write_config(tmp_path)))
    for more in ({}, {"parity": "vidur", "scheduler": "sarathi"}):
        with pytest.raises(EstimatorError, match="is a mixture of experts"):
            fastsim.simulate(config.with_fields(**more), workload)


def test_a_mixture_is_simulated_with_tables_of_its_own(tmp_path: Path):
    tables = layerwise_tables(experts_profile(tmp_path / "profile"), write_config(tmp_path), max_model_len=512)
    config = fastsim.SimulationConfig(model=str(write_config(tmp_path)), max_model_len=512)
    workload = fastsim.Workload.from_arrays([0.0], [16], [2])
    result = fastsim.simulate(config, workload, tables=tables)
    first = tables.iteration_time_s(16, 1, chunks=[(0, 16)])
    assert result.requests["completed_s"].to_list() == [pytest.approx(first + tables.iteration_time_s(1, 1, 1, 17))]
