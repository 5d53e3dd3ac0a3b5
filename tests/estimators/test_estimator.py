"""The zoo, and predictions from it."""

import gzip
import importlib.util
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimators.devices import load_device
from estimators.errors import EstimatorError
from estimators.estimator import ZOO, OperatorEstimators, describe, list_zoo
from estimators.features import OPERATORS, features_and_roofline, operators_of
from estimators.forest import fit
from estimators.onnx import Forest
from estimators.sources.aiconfigurator import read_profiles
from estimators.train import train, train_operator, training_set

DEVICES = ("a100_sxm", "h100_sxm", "h200_sxm")
ENTRIES = [*((device, "bf16") for device in DEVICES), ("h100_sxm", "fp8"), ("h200_sxm", "fp8")]
HEADS = {"q_heads": 32, "kv_heads": 8, "head_dim": 128}
DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
installed = pytest.mark.skipif(
    importlib.util.find_spec("aiconfigurator_core") is None, reason="aiconfigurator-core is not installed"
)


@pytest.fixture(scope="module")
def h100() -> OperatorEstimators:
    return OperatorEstimators.load("h100_sxm")


def test_the_package_ships_three_devices_in_ten_megabytes() -> None:
    assert list_zoo() == sorted(ENTRIES)
    files = [path for path in ZOO.rglob("*") if path.is_file()]
    assert len(files) == sum(len(operators_of(dtype)) for _, dtype in ENTRIES)
    assert sum(path.stat().st_size for path in files) <= 10e6


@pytest.mark.parametrize(("device", "dtype"), ENTRIES)
def test_held_out_shapes_are_within_the_stated_error(device: str, dtype: str) -> None:
    most = {"gemm": 0.06, "prefill_attention": 0.08, "decode_attention": 0.08, "all_reduce": 0.10}
    for operator, metadata in describe(device, dtype).items():
        assert metadata["held_out_errors"]["shapes"]["mean"] <= most[operator], operator


def test_only_what_is_quantised_is_there_in_fp8() -> None:
    assert operators_of("bf16") == tuple(OPERATORS)
    assert tuple(describe("h100_sxm", "fp8")) == ("gemm", "prefill_attention", "decode_attention")
    with pytest.raises(EstimatorError, match="choose one of gemm, prefill_attention, decode_attention"):
        OperatorEstimators.load("h100_sxm", "fp8").predict("all_reduce", {"gpus": 2, "elements": 4096})


@pytest.mark.parametrize("device", ["h100_sxm", "h200_sxm"])
def test_fp8_is_faster_where_bytes_or_arithmetic_decide(device: str) -> None:
    bf16, fp8 = OperatorEstimators.load(device), OperatorEstimators.load(device, "fp8")
    shape = {"n": 28672, "k": 8192}
    for m in (1, 64, 1024, 8192):  # reading weights, then multiplying
        assert 0.45 < fp8.predict("gemm", {"m": m, **shape}) / bf16.predict("gemm", {"m": m, **shape}) < 0.75, m
    long = {"batch": 64, "kv": 8192, **HEADS}
    assert 0.5 < fp8.predict("decode_attention", long) / bf16.predict("decode_attention", long) < 0.9


@pytest.mark.parametrize(("device", "dtype"), ENTRIES)
def test_provenance_is_complete(device: str, dtype: str) -> None:
    for operator, metadata in describe(device, dtype).items():
        assert (metadata["operator"], metadata["device"], metadata["dtype"]) == (operator, device, dtype)
        assert metadata["source"] == "aiconfigurator-core 0.12.0"
        assert metadata["engine"] == ("vllm 0.14.0" if device == "a100_sxm" else "vllm 0.24.0")
        assert metadata["licence"].startswith("Apache-2.0")
        assert metadata["command"] == f"fastsim estimators train --device {device} --dtype {dtype} --seed 0"
        assert metadata["features"] == list(OPERATORS[operator].features)
        assert metadata["rows"]["read"] == sum(metadata["rows"][part] for part in ("dropped", "merged", "used"))


@installed
@pytest.mark.parametrize(("device", "dtype"), ENTRIES)
def test_the_zoo_fits_the_profiles_it_names(device: str, dtype: str) -> None:
    estimators = OperatorEstimators.load(device, dtype)
    for operator in operators_of(dtype):
        frame = read_profiles(device, operator, dtype).frame
        columns = {name: frame[name].to_numpy() for name in OPERATORS[operator].columns}
        error = np.abs(estimators.predict(operator, columns) / frame["seconds"].to_numpy() - 1)
        assert np.median(error) < 0.03, operator
        assert estimators.profiled[operator] == {
            name: [values.min(), values.max()] for name, values in columns.items()
        }, operator


@installed
def test_training_reproduces_the_zoo() -> None:
    model, metadata = train_operator(read_profiles("h100_sxm", "all_reduce"), load_device("h100_sxm"), "bf16", seed=0)
    path = ZOO / "h100_sxm-bf16" / "all_reduce.onnx.gz"
    shipped = Forest(path.read_bytes(), path).metadata
    if metadata["libraries"] != shipped["libraries"]:
        pytest.skip("other library versions than the zoo was trained with")
    assert metadata == shipped
    # Another processor may round a logarithm differently, so predictions are compared, not bytes.
    features = np.random.default_rng(0).uniform(0, 25, size=(1000, 2)).astype(np.float32)
    retrained = Forest(gzip.compress(model), path).predict(features)
    np.testing.assert_allclose(retrained, Forest(path.read_bytes(), path).predict(features), rtol=1e-4)


@installed
def test_train_writes_what_load_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("train", "estimator"):
        monkeypatch.setattr(f"estimators.{module}.operators_of", lambda dtype: ("all_reduce",))
    lines: list[str] = []
    report = train("h100_sxm", "bf16", tmp_path, seed=5, progress=lines.append)
    assert lines == ["h100_sxm bf16: all_reduce (1/1, 69 rows)"]
    assert list_zoo(tmp_path) == [("h100_sxm", "bf16")]
    size = report["all_reduce"].pop("bytes")
    assert size == (tmp_path / "h100_sxm-bf16" / "all_reduce.onnx.gz").stat().st_size
    assert describe("h100_sxm", directory=tmp_path) == report
    assert report["all_reduce"]["forest"]["seed"] == 5


def test_scalars_and_arrays_are_broadcast(h100: OperatorEstimators) -> None:
    chunk = np.array([[16], [512]])
    history = np.array([0, 100, 4000])
    seconds = h100.predict("prefill_attention", {"batch": 1, "chunk": chunk, "history": history, **HEADS})
    assert seconds.shape == (2, 3)
    assert seconds.dtype == np.float64
    one = h100.predict("prefill_attention", {"batch": 1, "chunk": 512, "history": 100, **HEADS})
    assert one == seconds[1, 1]


def test_many_rows_are_the_same_as_few(h100: OperatorEstimators) -> None:
    m = np.arange(1, 150_001)
    together = h100.predict("gemm", {"m": m, "n": 4096, "k": 4096})
    np.testing.assert_array_equal(h100.predict("gemm", {"m": m[-1000:], "n": 4096, "k": 4096}), together[-1000:])


@pytest.mark.parametrize(
    ("operator", "columns", "field"),
    [
        ("softmax", {}, "operator"),
        ("gemm", {"m": 1, "n": 1}, "columns of gemm"),
        ("gemm", {"m": 1, "n": 1, "k": 1, "batch": 1}, "columns of gemm"),
        ("gemm", {"m": [1, 2], "n": [1, 2, 3], "k": 1}, "columns of gemm"),
        ("gemm", {"m": [4, 0], "n": 1, "k": 1}, "gemm: m"),
        ("gemm", {"m": np.nan, "n": 1, "k": 1}, "gemm: m"),
        ("gemm", {"m": 1, "n": np.inf, "k": 1}, "gemm: n"),
        ("all_reduce", {"gpus": 1, "elements": 4096}, "all_reduce: gpus"),
        ("prefill_attention", {"batch": 1, "chunk": 1, "history": -1, **HEADS}, "prefill_attention: history"),
    ],
)
def test_bad_calls_are_told(h100: OperatorEstimators, operator: str, columns: dict, field: str) -> None:
    with pytest.raises(EstimatorError) as caught:
        h100.predict(operator, columns)
    assert caught.value.field == field


def test_an_unknown_entry_lists_those_there_are() -> None:
    with pytest.raises(EstimatorError, match="a100_sxm bf16, h100_sxm bf16, h100_sxm fp8, h200_sxm bf16"):
        OperatorEstimators.load("a100_sxm", "fp8")


def test_an_empty_zoo_says_so(tmp_path: Path) -> None:
    with pytest.raises(EstimatorError, match="choose one of nothing, or train one"):
        OperatorEstimators.load("h100_sxm", directory=tmp_path / "none")


def test_a_missing_or_damaged_file_is_told(tmp_path: Path) -> None:
    shutil.copytree(ZOO / "h100_sxm-bf16", tmp_path / "h100_sxm-bf16")
    gemm = tmp_path / "h100_sxm-bf16" / "gemm.onnx.gz"
    gemm.write_bytes(gemm.read_bytes()[:1000])
    estimators = OperatorEstimators.load("h100_sxm", directory=tmp_path)
    with pytest.raises(EstimatorError, match="is damaged"):
        estimators.predict("gemm", {"m": 1, "n": 1, "k": 1})
    gemm.unlink()
    with pytest.raises(EstimatorError, match="cannot be read"):
        OperatorEstimators.load("h100_sxm", directory=tmp_path)


def test_hash_follows_the_files(tmp_path: Path, h100: OperatorEstimators) -> None:
    shutil.copytree(ZOO / "h100_sxm-bf16", tmp_path / "h100_sxm-bf16")
    assert OperatorEstimators.load("h100_sxm", directory=tmp_path).hash == h100.hash
    file = tmp_path / "h100_sxm-bf16" / "all_reduce.onnx.gz"
    file.write_bytes((ZOO / "h200_sxm-bf16" / "all_reduce.onnx.gz").read_bytes())
    assert OperatorEstimators.load("h100_sxm", directory=tmp_path).hash != h100.hash


def test_prediction_imports_neither_training_nor_profiles() -> None:
    script = (
        "import sys\n"
        "from estimators.estimator import OperatorEstimators\n"
        "estimators = OperatorEstimators.load('h100_sxm')\n"
        "assert 'onnxruntime' not in sys.modules\n"
        "estimators.predict('gemm', {'m': 1, 'n': 64, 'k': 64})\n"
        "print(sorted({'sklearn', 'skl2onnx', 'onnx', 'polars', 'scipy'} & set(sys.modules)))\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@settings(max_examples=200, deadline=None)
@given(
    m=st.integers(1, 16384),
    n=st.integers(1, 1024).map(lambda tiles: 128 * tiles),
    k=st.integers(1, 256).map(lambda tiles: 128 * tiles),
)
@pytest.mark.parametrize(("dtype", "peak"), [("bf16", 989.4e12), ("fp8", 1978.9e12)])
def test_no_matrix_product_is_faster_than_the_device(dtype: str, peak: float, m: int, n: int, k: int) -> None:
    estimators = OperatorEstimators.load("h100_sxm", dtype)
    assert estimators.predict("gemm", {"m": m, "n": n, "k": k}) > 2 * m * n * k / peak


@pytest.mark.parametrize(("device", "dtype"), ENTRIES)
def test_time_over_tokens_has_no_jump_that_no_kernel_makes(device: str, dtype: str) -> None:
    # Waves of tiles and a change of kernel make real ones: measured neighbours m and m + 1 differ by up to 2.5 times.
    estimators = OperatorEstimators.load(device, dtype)
    m = np.arange(1, 16385)
    for n, k in ((6144, 4096), (28672, 4096), (4096, 14336), (128256, 4096), (10240, 8192), (1280, 5120)):
        seconds = estimators.predict("gemm", {"m": m, "n": n, "k": k})
        assert np.abs(np.log2(seconds[1:] / seconds[:-1])).max() < 1.2, (n, k)


@pytest.mark.parametrize(("device", "dtype"), ENTRIES)
def test_more_history_costs_more(device: str, dtype: str) -> None:
    estimators = OperatorEstimators.load(device, dtype)
    history = np.arange(0, 65537, 64)
    for chunk in (16, 128, 512, 2048):
        seconds = estimators.predict("prefill_attention", {"batch": 1, "chunk": chunk, "history": history, **HEADS})
        assert (np.maximum.accumulate(seconds) / seconds).max() < 1.1, chunk
        assert seconds[-1] > 3 * seconds[0], chunk


@pytest.mark.parametrize("device", ["h100_sxm", "h200_sxm"])
def test_a_one_token_chunk_costs_about_what_a_decode_does(device: str) -> None:
    # FlashAttention 3 runs both in one kernel. No measured prefill has a history, so this is pure extrapolation, which
    # would be wrong sevenfold without the split of long KV loops in the roofline.
    estimators = OperatorEstimators.load(device)
    kv = 2 ** np.arange(17)
    prefill = estimators.predict("prefill_attention", {"batch": 1, "chunk": 1, "history": kv - 1, **HEADS})
    decode = estimators.predict("decode_attention", {"batch": 1, "kv": kv, **HEADS})
    assert np.abs(np.log2(prefill / decode)).max() < 1.25
    assert np.median(np.abs(np.log2(prefill / decode))) < 0.6


def test_a_one_token_chunk_on_a100_costs_what_an_unsplit_decode_does() -> None:
    # FlashAttention 2 as vLLM calls it splits the keys of a single query only where query heads share them, so measured
    # decodes of ungrouped heads show what a short chunk over a history costs: many times a decode of grouped heads.
    estimators = OperatorEstimators.load("a100_sxm")
    for heads in (4, 8):
        shape = {"batch": 1, "q_heads": heads, "kv_heads": heads, "head_dim": 128}
        kv = 2 ** np.arange(1, 17)
        prefill = estimators.predict("prefill_attention", {**shape, "chunk": 1, "history": kv - 1})
        decode = estimators.predict("decode_attention", {**shape, "kv": kv})
        assert np.abs(prefill / decode - 1).max() < 0.3


def test_history_on_a100_adds_what_older_kernels_measured() -> None:
    """The time a history adds to a chunk, compared with Vidur's measurements of FlashAttention of 2024 on A100."""
    file = DATA / "profiles/vidur/history/a100_attention_old.csv.gz"
    if not file.exists():
        pytest.skip("Vidur's measured chunks are not here")
    measured = (
        pl.read_csv(file)
        .filter(pl.col("is_prefill").cast(pl.String).str.to_lowercase() == "true")
        .group_by(chunk="prefill_chunk_size", history="kv_cache_size")
        .agg(seconds=pl.col("time_stats.attn_prefill.median").cast(pl.Float64).median() / 1e3)
    )
    alone = measured.filter(history=0).select("chunk", alone="seconds")
    rows = measured.filter(pl.col("history") >= 1024).join(alone, on="chunk")
    estimators = OperatorEstimators.load("a100_sxm")
    # A GPU of two holds half of 64 query and 8 key/value heads.
    columns = {"batch": 1, "chunk": rows["chunk"], "q_heads": 32, "kv_heads": 4, "head_dim": 128}
    with_history = estimators.predict("prefill_attention", {**columns, "history": rows["history"]})
    added = with_history - estimators.predict("prefill_attention", {**columns, "history": 0})
    ratio = added / (rows["seconds"] - rows["alone"]).to_numpy()
    chunk = rows["chunk"].to_numpy()
    assert rows.height > 1500
    assert 0.9 < np.median(ratio[chunk >= 256]) < 1.3
    # These kernels split long histories where a short chunk leaves the GPU idle; those of vLLM do not.
    assert 1.2 < np.median(ratio[chunk < 128]) < 2.0


@installed
def test_history_is_extrapolated_to_within_ten_percent() -> None:
    """Trained on chunks without history, compared with chunks measured after one, inside vLLM on the same GPU."""
    file = DATA / "profiles/llmservingsim/RTXPRO6000/meta-llama/Llama-3.1-8B/tp1/attention.csv.gz"
    if not file.exists():
        pytest.skip("the measured chunks of LLMServingSim are not here")
    gpu = replace(
        load_device("h100_sxm"),
        name="rtx_pro_6000_server",
        peak_flops={"bf16": 503.8e12},
        memory_bandwidth=1597e9,
        num_sms=188,
    )
    rows = training_set(read_profiles(gpu.name, "prefill_attention"), gpu, "bf16")
    measured = pl.read_csv(file).filter(pl.col("n_decode") == 0, pl.col("prefill_chunk") > 0, pl.col("kv_prefill") > 0)
    values = {"batch": 1, "chunk": measured["prefill_chunk"], "history": measured["kv_prefill"], **HEADS}
    columns = {name: np.broadcast_to(np.asarray(value, float), measured.height) for name, value in values.items()}
    features, bound_s = features_and_roofline("prefill_attention", columns, rows.roofline)
    predicted = np.exp(fit(rows.features, rows.target, seed=0).predict(features)) * bound_s
    error = np.abs(predicted / (measured["time_us"].to_numpy() / 1e6) - 1)
    assert measured.height > 200
    assert np.median(error) < 0.10
    assert error.mean() < 0.12
