"""Simulating a mixture of experts."""

from pathlib import Path

import pytest
from layerwise_files import experts_profile, write_config

import fastsim
from estimators import EstimatorError
from estimators.layerwise import layerwise_tables
from fastsim.machine import tables_for


@pytest.mark.parametrize(
    ("model", "what"),
    [("Qwen3-30B-A3B", "a mixture of experts"), ("DeepSeek-V2-Lite", "experts"), ("gemma-2-9b", "windowed attention")],
)
def test_not_as_vidur_does(model: str, what: str):
    workload = fastsim.Workload.from_arrays([0.0], [10], [4])
    config = fastsim.SimulationConfig(model=model, parity="vidur", scheduler="sarathi")
    with pytest.raises(EstimatorError, match=f"{what}, which Vidur does not simulate"):
        fastsim.simulate(config, workload)


def test_a_mixture_is_simulated_with_the_shipped_estimators(tmp_path: Path):
    workload = fastsim.Workload.from_arrays([0.0], [16], [2])
    config = fastsim.SimulationConfig(model=str(write_config(tmp_path)), max_model_len=512)
    tables = tables_for(config)
    result = fastsim.simulate(config, workload)
    first = tables.iteration_time_s(16, 1, chunks=[(0, 16)])
    assert result.requests["completed_s"].to_list() == [pytest.approx(first + tables.iteration_time_s(1, 1, 1, 17))]
    even = fastsim.simulate(config.with_fields(expert_load="balanced"), workload)
    assert even.summary["metrics"] != result.summary["metrics"]


def test_a_mixture_is_simulated_with_tables_of_its_own(tmp_path: Path):
    tables = layerwise_tables(experts_profile(tmp_path / "profile"), write_config(tmp_path), max_model_len=512)
    config = fastsim.SimulationConfig(model=str(write_config(tmp_path)), max_model_len=512)
    workload = fastsim.Workload.from_arrays([0.0], [16], [2])
    result = fastsim.simulate(config, workload, tables=tables)
    first = tables.iteration_time_s(16, 1, chunks=[(0, 16)])
    assert result.requests["completed_s"].to_list() == [pytest.approx(first + tables.iteration_time_s(1, 1, 1, 17))]
