"""Layerwise measurements in the one schema."""

from pathlib import Path

import polars as pl
import pytest
from layerwise_files import CHUNKS, CONTEXTS, DECODES, HISTORIES, TOKENS, write_profile

from estimators.errors import EstimatorError
from estimators.models import load_model
from estimators.sources.layerwise_profiles import layerwise_profiles

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "profiles" / "llmservingsim"
shared = pytest.mark.skipif(not SHARED.exists(), reason="needs the measured profiles, which are not distributed")
MODEL = load_model("meta-llama/Llama-3.1-8B")


@pytest.mark.parametrize("gzipped", [False, True])
@pytest.mark.parametrize("tp", [1, 2])
def test_products_have_the_widths_of_the_models_shard(tmp_path: Path, tp: int, gzipped: bool):
    gemm, _, _ = layerwise_profiles(write_profile(tmp_path / "p", tp=tp, gzipped=gzipped), tp, MODEL)
    one = gemm.frame.filter(m=4)
    # A layer of weight w takes w + tokens us; the LM head 100 + requests.
    microseconds = {"qkv": 3, "o": 7, "up": 11, "down": 17, "head": 100}
    widths = {
        "qkv": (6144 // tp, 4096),
        "o": (4096, 4096 // tp),
        "up": (28672 // tp, 4096),
        "down": (4096, 14336 // tp),
        "head": (128256 // tp, 4096),
    }
    expected = sorted((4, *widths[name], (weight + 4) * 1e-6) for name, weight in microseconds.items())
    assert one.rows() == [pytest.approx(row) for row in expected]
    assert (gemm.system, gemm.operator, gemm.dtype, gemm.engine) == ("TOY", "gemm", "bf16", "vllm 0.19.0")
    assert gemm.frame.height == 4 * len(TOKENS) + 4  # of the LM head 1, 2, 4 and 8 requests
    assert gemm.rows_read == gemm.rows_dropped + gemm.frame.height


def test_attention_alone_is_taken_and_that_of_both_dropped(tmp_path: Path):
    _, chunks, decodes = layerwise_profiles(write_profile(tmp_path / "p"), 1, MODEL)
    assert chunks.frame.height == len(CHUNKS) * len(HISTORIES)
    assert decodes.frame.height == len(DECODES) * len(CONTEXTS)
    assert chunks.rows_read == decodes.rows_read == chunks.frame.height + chunks.rows_dropped
    heads = {"q_heads": 32, "kv_heads": 8, "head_dim": 128, "window": 0}
    chunk = chunks.frame.filter(chunk=64, history=16).row(0, named=True)
    assert chunk == {"batch": 1, "chunk": 64, "history": 16, **heads, "seconds": pytest.approx(84.24e-6)}
    decode = decodes.frame.filter(batch=4, kv=64).row(0, named=True)
    assert decode == {"batch": 4, "kv": 64, **heads, "seconds": pytest.approx(45.6e-6)}


def test_what_is_wrong_is_told(tmp_path: Path):
    root = write_profile(tmp_path / "p")
    with pytest.raises(EstimatorError, match=r"tp 4 was not measured in .* those there: tp1"):
        layerwise_profiles(root, 4, MODEL)
    dense = root / "tp1" / "dense.csv"
    right = dense.read_text()
    dense.write_text(right + "qkv_proj,256,\n")
    with pytest.raises(EstimatorError, match=r"dense.csv: row \d+, column 'time_us' is empty"):
        layerwise_profiles(root, 1, MODEL)
    dense.write_text(right + "down_proj,2048,900000\n")  # nanoseconds
    with pytest.raises(EstimatorError, match=r"dense.csv: the product with m=2048, .* give times in microseconds"):
        layerwise_profiles(root, 1, MODEL)
    dense.write_text(right)
    attention = root / "tp1" / "attention.csv"
    attention.write_text("prefill_chunk,kv_prefill,n_decode,kv_decode,time_us\n0,0,1,16,5.0\n")
    with pytest.raises(EstimatorError, match="hold no rows of prefill_attention"):
        layerwise_profiles(root, 1, MODEL)


@shared
def test_measured_layers_agree_with_their_files():
    root = SHARED / "RTXPRO6000" / "meta-llama" / "Llama-3.1-8B"
    gemm, chunks, decodes = layerwise_profiles(root, 2, MODEL)
    rows = pl.read_csv(root / "tp2" / "dense.csv.gz").filter(layer="o_proj", tokens=2048)
    assert gemm.frame.filter(m=2048, n=4096, k=2048)["seconds"].item() == pytest.approx(rows["time_us"].item() / 1e6)
    assert (chunks.frame["chunk"].max(), decodes.frame["batch"].max()) == (2048, 256)
    assert chunks.frame["q_heads"].unique().to_list() == [16]
