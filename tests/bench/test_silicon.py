"""What bench/silicon.py makes of a row."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from run_files import bench, refusal, refusal_of_table

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
    "moe_ep_size": 1,
    "silicon_ttft_ms": 20.0,
    "silicon_tpot_ms": 5.0,
}
PUBLIC = "source_file=2026.csv; silicon_concurrency=4; measured=2025-10-29T00:00:00.000Z; wip=False"


@pytest.fixture(scope="module")
def silicon(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("silicon")


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
    ("version", "engine", "ahead"),
    [
        ("0.10.2", "vllm-0.9", False),
        ("0.11.2", "vllm-0.12", False),
        ("0.18.0", "vllm-0.12", True),
        (None, "vllm-head", True),
    ],
)
def test_the_preset_is_that_of_the_version(silicon: ModuleType, version: str | None, engine: str, ahead: bool):
    measured = MEASURED | {"backend_version": version}
    config = silicon.configuration(measured, silicon.load_of(measured))
    assert (config.engine, config.engine_choice.async_scheduling) == (engine, ahead)


def test_rows_are_configured_by_origin(silicon: ModuleType):
    def configured(**change: object) -> Any:
        return silicon.configuration(MEASURED | change, silicon.load_of(MEASURED | change))

    own, public = configured(), configured(silicon_data_source=PUBLIC)
    assert (own.dtype, own.kv_dtype, own.client_options) == ("fp8", "fp8", {"concurrency": 6})
    assert (public.dtype, public.kv_dtype, public.client_options) == ("fp8", "bf16", {"concurrency": 4})
    assert own.batch_policy.enable_prefix_caching
    assert not public.batch_policy.enable_prefix_caching
    assert (public.batch_policy.max_num_seqs, public.max_model_len) == (4, 220)
    # Public runs schedule ahead, whatever the version does by default.
    assert (own.engine_choice.async_scheduling, public.engine_choice.async_scheduling) == (False, True)


@pytest.mark.parametrize(
    ("change", "dtype"),
    [
        ({}, "fp8"),
        ({"gemm_quant_mode": "fp8_block"}, "fp8"),  # the checkpoint knows better
        ({"model_path": "Llama-3.1-8B"}, "fp8"),
        ({"model_path": "Llama-3.1-8B", "gemm_quant_mode": "fp8_block"}, "fp8_block"),
        ({"model_path": "Llama-3.1-8B", "gemm_quant_mode": None}, "fp8"),
        ({"model_path": "Llama-3.1-8B", "gemm_quant_mode": "bfloat16", "precision": None}, "bf16"),
        ({"model_path": "Llama-3.1-8B", "gemm_quant_mode": None, "precision": None}, "bf16"),
        ({"model_path": "openai/gpt-oss-120b", "gemm_quant_mode": "nvfp4", "precision": "fp4"}, "mxfp4"),
    ],
)
def test_weights_have_the_type_of_the_checkpoint(silicon: ModuleType, change: dict[str, Any], dtype: str):
    assert silicon.weight_dtype(MEASURED | change) == dtype


def test_engines_and_experts_are_those_of_the_row(silicon: ModuleType):
    measured = MEASURED | {"model_path": "openai/gpt-oss-120b", "precision": "fp4", "system": "h100_sxm"}
    measured |= {"tp_size": 2, "attention_dp_size": 2, "moe_ep_size": 4}
    config = silicon.configuration(measured, silicon.load_of(measured))
    assert (config.tensor_parallel, config.data_parallel, config.expert_parallel) == (2, 2, 4)
    # The 8 of the batch are those of each engine.
    elsewhere = measured | {"silicon_data_source": "", "batch_size": 8}
    assert silicon.load_of(elsewhere).concurrency == 16


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
        ({"backend": "sglang"}, "backend sglang has other kernels"),
        ({"mode": "disagg"}, "mode disagg"),
        ({"precision": "fp4"}, "precision fp4 is not that of weights of type fp8"),
        ({"precision": "bf16"}, "precision bf16 is not that of weights of type fp8"),
        ({"precision": "int2"}, "precision int2"),
        ({"moe_ep_size": 3}, "expert_parallel 3"),
        ({"silicon_ttft_ms": 301.0}, "waited for 3.0 others"),
        ({"silicon_data_source": "", "batch_size": None}, "concurrency is not recorded"),
        ({"model_path": "nobody/knows"}, "neither a known name"),
        ({"system": "gb300"}, "device 'gb300' is neither known nor"),
        ({"system": "a100_sxm"}, "has no matrix units for fp8"),
        ({"tp_size": 3}, "tp 3"),
        ({"tp_size": None}, "tp_size is no whole number"),
        ({"isl": None}, "isl is no whole number"),
        ({"osl": "long"}, "osl 'long' is no whole number"),
        ({"osl": 0}, "osl 0 is no whole number"),
        ({"silicon_data_source": "", "batch_size": 1.5}, "batch_size 1.5 is no whole number"),
        ({"backend_version": "nightly"}, "'nightly' is no version"),
        ({"silicon_ttft_ms": float("nan")}, "silicon_ttft_ms nan is no time"),
        ({"silicon_tpot_ms": 0}, "silicon_tpot_ms 0 is no time"),
    ],
)
def test_what_is_not_simulated_is_skipped_with_the_reason(silicon: ModuleType, change: dict[str, Any], why: str):
    row = silicon.compared(MEASURED | change)
    assert why in row["skipped"]
    assert row["simulated_tpot_ms"] is row["simulated_ttft_ms"] is None


def csv_of(*rows: dict[str, Any]) -> str:
    lines = [rows[0].keys(), *(row.values() for row in rows)]
    return "".join(",".join("" if cell is None else str(cell) for cell in line) + "\n" for line in lines)


def test_copies_of_a_row_are_skipped(tmp_path: Path):
    path = tmp_path / "points.csv"
    other = MEASURED | {"osl": 2, "silicon_ttft_ms": 5.123456789012345}
    copy = other | {"silicon_data_source": "silicon_concurrency=6; again", "silicon_ttft_ms": 5.123456789012346}
    path.write_text(csv_of(other, copy, other | {"silicon_tpot_ms": 6.0}))
    printed = bench("silicon.py", path)[1]
    assert [row["skipped"] for row in printed["rows"]] == [None, "repeats row 1", None]


def test_a_bad_row_hides_no_other(tmp_path: Path):
    path = tmp_path / "points.csv"
    path.write_text(csv_of(MEASURED | {"isl": ""}, MEASURED | {"osl": 2, "backend_version": "0.10"}))
    code, printed, _ = bench("silicon.py", path)
    assert code == 0
    bad, good = printed["rows"]
    assert (bad["row"], bad["skipped"][:6], good["row"], good["skipped"]) == (1, "isl is", 2, None)
    assert [group["rows"] for group in printed["groups"]] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "is no file"),
        ("", "cannot be read"),
        ("isl,osl\n1,2\n", "lacks the column silicon_data_source, "),
        (csv_of({name: value for name, value in MEASURED.items() if name != "tp_size"}), "lacks the column tp_size;"),
        (csv_of(MEASURED).splitlines()[0], "has no rows"),
    ],
)
def test_what_is_no_such_table_is_told_in_a_sentence(tmp_path: Path, text: str | None, why: str):
    path = tmp_path / "points.csv"
    assert f"{path}' {why}" in refusal_of_table("silicon.py", path, text)
    if text is None:
        assert "is no file" in refusal("silicon.py", tmp_path)


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
