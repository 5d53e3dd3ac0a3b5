"""What bench/silicon.py makes of a row."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"
MEASURED = {
    "silicon_data_source": "source_file=a.csv; silicon_concurrency=6",
    "backend": "vllm",
    "backend_version": "0.12.0",
    "model_path": "nvidia/Llama-3.1-8B-Instruct-FP8",
    "system": "h200_sxm",
    "precision": "fp8",
    "mode": "agg",
    "isl": 200,
    "osl": 20,
    "gemm_quant_mode": "fp8",
    "batch_size": 6,
    "tp_size": 1,
    "pp_size": 1,
    "attention_dp_size": None,
    "silicon_ttft_ms": 20.0,
    "silicon_tpot_ms": 5.0,
}
PUBLIC = "source_file=2026.csv; silicon_concurrency=4; measured=2025-10-29T00:00:00.000Z; wip=False"


@pytest.fixture(scope="module")
def silicon() -> ModuleType:
    sys.path.insert(0, str(BENCH))
    try:
        spec = importlib.util.spec_from_file_location("silicon", BENCH / "silicon.py")
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules["silicon"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(BENCH))
    return module


@pytest.mark.parametrize(
    ("change", "concurrency"),
    [
        ({"batch_size": 99}, 6),
        ({"silicon_data_source": None}, 6),
        ({"silicon_data_source": "elsewhere", "batch_size": 8, "attention_dp_size": 2}, 16),
        ({"silicon_data_source": "elsewhere", "batch_size": None}, None),
    ],
)
def test_concurrency_is_what_the_source_says_or_the_batch(
    silicon: ModuleType, change: dict[str, Any], concurrency: int
):
    assert silicon.load_of(MEASURED | change).concurrency == concurrency


@pytest.mark.parametrize(
    ("version", "engine"),
    [
        ("0.9.2", "vllm-0.9"),
        ("0.10.2", "vllm-0.9"),
        ("0.11.2", "vllm-0.12"),
        ("0.13.0rc1", "vllm-0.12"),
        ("0.14.1", "vllm-0.19"),
        ("0.20.0", "vllm-head"),
        ("1.0", "vllm-head"),
        (None, "vllm-head"),
        ("", "vllm-head"),
    ],
)
def test_the_preset_is_that_of_the_version(silicon: ModuleType, version: str | None, engine: str):
    measured = MEASURED | {"backend_version": version}
    assert silicon.configuration(measured, silicon.load_of(measured)).engine == engine


def test_rows_are_configured_by_origin(silicon: ModuleType):
    def configured(**change: object) -> Any:
        return silicon.configuration(MEASURED | change, silicon.load_of(MEASURED | change))

    own, public = configured(), configured(silicon_data_source=PUBLIC)
    assert (own.dtype, own.kv_dtype, own.client_options) == ("fp8", "fp8", {"concurrency": 6})
    assert (public.dtype, public.kv_dtype, public.client_options) == ("fp8", "bf16", {"concurrency": 4})
    assert own.batch_policy.enable_prefix_caching
    assert not public.batch_policy.enable_prefix_caching
    assert (public.batch_policy.max_num_seqs, public.max_model_len) == (4, 220)
    assert configured(precision=None, model_path="Llama-3.1-8B").dtype == "bf16"


def test_public_runs_vary_their_lengths_and_others_repeat_their_prompts(silicon: ModuleType):
    public = silicon.Load(isl=1024, osl=512, concurrency=32, is_inferencemax=True).workload()
    assert len(public.prompt_tokens) == 320
    for tokens, most in ((public.prompt_tokens, 1024), (public.output_tokens, 512)):
        assert int(0.8 * most) <= tokens.min() < 0.82 * most
        assert 0.98 * most < tokens.max() <= most
    own = silicon.Load(isl=1000, osl=50, concurrency=32, is_inferencemax=False).workload()
    assert set(own.prompt_tokens) == {1000}
    ids = own.block_ids.reshape(320, 62)
    assert np.unique(ids[:100]).size == 6200
    np.testing.assert_array_equal(ids[100:200], ids[:100])


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"backend": "sglang"}, "backend sglang"),
        ({"mode": "disagg"}, "mode disagg"),
        ({"precision": "fp4"}, "precision fp4"),
        ({"gemm_quant_mode": "fp8_block"}, "scales per block"),
        ({"attention_dp_size": 8}, "attention_dp_size above 1"),
        ({"silicon_data_source": "", "batch_size": None}, "concurrency is not recorded"),
        ({"model_path": "openai/gpt-oss-120b"}, "neither a known name"),
        ({"system": "gb300"}, "device 'gb300' is not known"),
        ({"system": "a100_sxm"}, "matrix rates of a100_sxm"),
        ({"precision": "bf16"}, "not the type of the weights"),
        ({"tp_size": 3}, "tp 3"),
    ],
)
def test_what_is_not_simulated_is_skipped_with_the_reason(silicon: ModuleType, change: dict[str, Any], why: str):
    row = silicon.compared(MEASURED | change)
    assert why in row["skipped"]
    assert row["simulated_tpot_ms"] is row["simulated_ttft_ms"] is None


def test_a_row_is_simulated(silicon: ModuleType):
    row = silicon.compared(MEASURED)
    assert row["skipped"] is None
    assert (row["model"], row["system"], row["precision"], row["tp"]) == (MEASURED["model_path"], "h200_sxm", "fp8", 1)
    assert (row["isl"], row["osl"], row["concurrency"]) == (200, 20, 6)
    assert 3 < row["simulated_tpot_ms"] < 8
    assert 5 < row["simulated_ttft_ms"] < 50


def test_errors_are_relative_to_what_was_measured(silicon: ModuleType):
    def row(model: str, tpot_ms: float, measured_ttft_ms: float | None, skipped: str | None = None) -> dict[str, Any]:
        figures = {"simulated_tpot_ms": tpot_ms, "simulated_ttft_ms": 30.0}
        measured = {"measured_tpot_ms": 10.0, "measured_ttft_ms": measured_ttft_ms}
        return {"model": model, "system": "h100_sxm", "tp": 1, **measured, **figures, "skipped": skipped}

    rows = [row("a", 11.0, 20.0), row("a", 8.0, None), row("b", 10.5, 60.0), row("b", 99.0, 1.0, "why")]
    groups = {(group["metric"], group["model"]): group for group in silicon.errors(rows)}
    whole = groups["tpot", "all"]
    assert (whole["rows"], whole["system"], whole["tp"]) == (3, "all", "all")
    assert whole["median_ape"] == pytest.approx(0.1)
    assert whole["mape"] == pytest.approx((0.1 + 0.2 + 0.05) / 3)
    assert whole["bias"] == pytest.approx((0.1 - 0.2 + 0.05) / 3)
    assert (groups["ttft", "a"]["rows"], groups["ttft", "a"]["bias"]) == (1, pytest.approx(0.5))
    assert groups["ttft", "b"]["median_ape"] == pytest.approx(0.5)
    assert silicon.errors([row("a", 1.0, 1.0, "why")]) == []
