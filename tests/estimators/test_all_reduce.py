"""All-reduce times out of directories of aiconfigurator's tables."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from estimators import EstimatorError
from estimators.sources.all_reduce import AllReduce, read_all_reduce

SIZES = (1024, 4096, 8192)


def write_table(path: Path, base_ms: float, gpus: tuple[int, ...] = (2,), nccl: bool = False) -> None:
    """A table in which a message of n elements takes base + n / 1024 ms on 2 GPUs, and rows that do not count."""
    path.parent.mkdir(parents=True)
    kinds = [("half", "all_reduce", 1.0), ("int8", "all_reduce", 9.0), ("half", "all_gather", 9.0)]
    if not nccl:
        kinds = [("bfloat16", "vllm_graph", 1.0), ("bfloat16", "vllm_eager", 9.0), ("float32", "vllm_graph", 9.0)]
    names = ("nccl_dtype", "op_name") if nccl else ("allreduce_dtype", "backend")
    rows = [
        {
            names[0]: dtype,
            names[1]: kind,
            "kernel_source": "one",
            "num_gpus": n,
            "message_size": size,
            "latency": (base_ms + size / 1024) * factor,
        }
        for n in gpus
        for size in SIZES
        for dtype, kind, factor in kinds
    ]
    pl.DataFrame(rows).write_parquet(path)


FLAT = ("vllm-{}/custom_allreduce_perf.parquet", "nccl-{}/nccl_perf.parquet")
PACKAGE = ("comm/vllm/{}/custom_allreduce_perf.parquet", "comm/nccl/{}/nccl_perf.parquet")


@pytest.mark.parametrize(("vllm", "nccl"), [FLAT, PACKAGE])
def test_both_layouts_are_read(tmp_path: Path, vllm: str, nccl: str):
    system = tmp_path / "rtx_pro_6000_server"
    write_table(system / vllm.format("0.9.0"), 1.0)
    write_table(system / vllm.format("0.19.0"), 2.0)
    write_table(system / vllm.format("0.24.0"), 3.0)
    write_table(system / nccl.format("2.29.2"), 4.0, gpus=(2, 4), nccl=True)

    def base_ms(gpus: int, version: str) -> float:
        return float(read_all_reduce(tmp_path, "RTXPRO6000", gpus, version).at(1024)) * 1e3 - 1.0

    # The newest that is not newer than the engine, else the oldest; NCCL where vLLM was not measured.
    assert base_ms(2, "") == pytest.approx(3.0)
    assert base_ms(2, "0.19.1") == pytest.approx(2.0)
    assert base_ms(2, "0.12.0") == pytest.approx(1.0)
    assert base_ms(2, "0.8.5") == pytest.approx(1.0)
    assert base_ms(4, "0.19.0") == pytest.approx(4.0)
    assert read_all_reduce(tmp_path, "RTXPRO6000", 4).source == "rtx_pro_6000_server nccl 2.29.2"
    with pytest.raises(EstimatorError, match="tp 8 has no all-reduce of so many GPUs"):
        read_all_reduce(tmp_path, "RTXPRO6000", 8)


@pytest.mark.parametrize("place", [".", "aiconfigurator", "systems/data"])
@pytest.mark.parametrize("name", ["H100", "h100_sxm"])
def test_a_system_is_found_below_a_root(tmp_path: Path, place: str, name: str):
    (tmp_path / place / "h100_sxm" / "gemm").mkdir(parents=True)
    (tmp_path / "other" / "h100_sxm").mkdir(parents=True)  # without tables
    write_table(tmp_path / place / "h100_sxm" / FLAT[0].format("0.19.0"), 1.0)
    assert read_all_reduce(tmp_path, name, 2).source == "h100_sxm vllm 0.19.0"
    with pytest.raises(EstimatorError, match="hold no all-reduce of RTX4090"):
        read_all_reduce(tmp_path, "RTX4090", 2)


def test_sizes_between_and_beyond_the_measured_lie_on_lines():
    times = AllReduce(2, np.array(SIZES), np.array([2.0, 5.0, 9.0]), "test")
    assert times.at([1, 1024, 2048, 8192, 16384]).tolist() == [2.0, 2.0, 3.0, 9.0, 17.0]
