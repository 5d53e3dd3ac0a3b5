"""Reading the kernel tables of aiconfigurator-core."""

import importlib
import importlib.util
import sys
from pathlib import Path

import polars as pl
import pytest

from estimators.errors import EstimatorError
from estimators.sources.aiconfigurator import read_profiles

installed = pytest.mark.skipif(
    importlib.util.find_spec("aiconfigurator_core") is None, reason="aiconfigurator-core is not installed"
)


def gemm_row(m: int, latency: float, kernel: str = "linear", dtype: str = "bfloat16") -> dict[str, object]:
    return {"kernel_source": kernel, "gemm_dtype": dtype, "m": m, "n": 8, "k": 16, "latency": latency}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package like aiconfigurator-core with one system; running any of its code fails the test."""
    monkeypatch.delitem(sys.modules, "aiconfigurator_core", raising=False)
    (tmp_path / "aiconfigurator_core").mkdir()
    (tmp_path / "aiconfigurator_core" / "__init__.py").write_text("raise AssertionError('the package was run')")
    folder = tmp_path / "aiconfigurator_core" / "systems" / "data" / "toy_sxm" / "gemm" / "vllm"
    folder.mkdir(parents=True)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.12.0")
    importlib.invalidate_caches()
    return folder


def write(folder: Path, version: str, rows: list[dict[str, object]]) -> None:
    (folder / version).mkdir()
    pl.DataFrame(rows).write_parquet(folder / version / "gemm_perf.parquet")


def test_rows_of_one_point_are_merged_into_the_median_of_the_fastest_kernel(package: Path) -> None:
    slow = [gemm_row(2, latency, "slow") for latency in (5.0, 6.0, 7.0)]
    fast = [gemm_row(2, latency, "fast") for latency in (2.0, 3.0, 100.0)]
    write(package, "0.9.0", [*slow, *fast, gemm_row(1, 4.0)])
    profiles = read_profiles("toy_sxm", "gemm")
    assert profiles.frame.to_dicts() == [
        {"m": 1, "n": 8, "k": 16, "seconds": pytest.approx(4e-3)},
        {"m": 2, "n": 8, "k": 16, "seconds": pytest.approx(3e-3)},
    ]
    assert (profiles.rows_read, profiles.rows_dropped, profiles.rows_duplicate) == (7, 0, 5)
    assert profiles.kernels == ("fast", "linear", "slow")
    assert profiles.source == "aiconfigurator-core 0.12.0"


def test_fp8_rows_are_those_with_a_scale_per_tensor(package: Path) -> None:
    rows = [gemm_row(1, 1.0), gemm_row(1, 0.5, dtype="fp8"), gemm_row(1, 0.7, dtype="fp8_block")]
    write(package, "0.9.0", rows)
    assert read_profiles("toy_sxm", "gemm", "fp8").frame["seconds"].to_list() == [0.5e-3]


def test_a_dtype_without_rows_is_told(package: Path) -> None:
    write(package, "0.9.0", [gemm_row(1, 1.0)])
    with pytest.raises(EstimatorError, match="has no measured gemm on toy_sxm") as caught:
        read_profiles("toy_sxm", "gemm", "fp8")
    assert caught.value.field == "dtype"


def test_other_dtypes_and_rows_without_a_time_are_dropped_and_counted(package: Path) -> None:
    bad = [gemm_row(1, 1.0, dtype="fp8"), gemm_row(2, 0.0), gemm_row(3, float("nan")), gemm_row(4, float("inf"))]
    write(package, "0.9.0", [*bad, gemm_row(5, 1.0)])
    profiles = read_profiles("toy_sxm", "gemm")
    assert profiles.frame["m"].to_list() == [5]
    assert (profiles.rows_read, profiles.rows_dropped) == (5, 4)


def test_the_newest_measured_version_is_read(package: Path) -> None:
    write(package, "0.9.0", [gemm_row(1, 9.0)])
    write(package, "0.10.0", [gemm_row(1, 10.0)])
    (package / "0.11.0").mkdir()
    (package / "0.11.0" / "reuse.yaml").write_text("version: 0.10.0")
    profiles = read_profiles("toy_sxm", "gemm")
    assert profiles.engine == "vllm 0.10.0"
    assert profiles.frame["seconds"].to_list() == [pytest.approx(10e-3)]


def test_a_system_without_the_operator_is_told(package: Path) -> None:
    write(package, "0.9.0", [gemm_row(1, 1.0)])
    with pytest.raises(EstimatorError, match="'toy_sxm' has no measured all_reduce of vLLM"):
        read_profiles("toy_sxm", "all_reduce")


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EstimatorError, match="is not installed") as caught:
        read_profiles("h100_sxm", "gemm")
    assert "pip install 'fastsim-llm[profiles]'" in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "field", "listed"),
    [
        (("tpu_v5", "gemm"), "system", "h100_sxm"),
        (("h100_sxm", "softmax"), "operator", "decode_attention"),
        (("h100_sxm", "gemm", "fp4"), "dtype", "bf16"),
    ],
)
@installed
def test_unknown_names_list_the_known(arguments: tuple[str, ...], field: str, listed: str) -> None:
    with pytest.raises(EstimatorError) as caught:
        read_profiles(*arguments)
    assert caught.value.field == field
    assert listed in caught.value.mend


@installed
def test_decode_context_is_prompt_plus_step() -> None:
    frame = read_profiles("a100_sxm", "decode_attention").frame
    assert frame.columns == ["batch", "kv", "q_heads", "kv_heads", "head_dim", "seconds"]
    assert frame["kv"].unique().sort().to_list() == [2**power for power in range(1, 18)]


@installed
def test_attention_without_a_window_and_with_bf16_cache_only() -> None:
    # The fp8 cache, and windows of 128 to 8192, share the file and would repeat the points.
    profiles = read_profiles("h100_sxm", "prefill_attention")
    assert profiles.rows_duplicate == 0
    assert profiles.rows_read == profiles.rows_dropped + profiles.frame.height
    assert profiles.frame["history"].unique().to_list() == [0]


@installed
def test_all_reduce_is_that_of_cuda_graphs() -> None:
    profiles = read_profiles("h100_sxm", "all_reduce")
    assert profiles.kernels == ("vLLM_custom_graph",)
    smallest = profiles.frame.filter(pl.col("elements") == 128)["seconds"]
    assert smallest.max() < 6e-6  # launched eagerly they take 20 microseconds


@installed
def test_times_are_seconds() -> None:
    # 2 * 4096**3 FLOP at some 750 TFLOP/s.
    frame = read_profiles("h100_sxm", "gemm").frame.filter(m=4096, n=4096, k=4096)
    assert frame["seconds"].to_list() == [pytest.approx(1.8e-4, rel=0.2)]
