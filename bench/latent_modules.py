"""Latent attention, added up from its kernels, against whole modules that were timed.

    python bench/latent_modules.py [--system h100_sxm] [--zoo DIR] [--json]

A module is the attention half of a layer of DeepSeek-V3 without its norm and all-reduce: projections, norms, rotation,
cache and kernel, on one GPU with 1 to 128 of the heads. aiconfigurator's tables hold modules of vLLM, which runs its
small kernels one by one there, and of TensorRT-LLM, which fuses them. None of these rows was trained on; the kernels
inside were, TensorRT-LLM's attention and vLLM's products.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import polars as pl
from common import Row, emit, figure, parser

from estimators import DeviceSpec, EstimatorError, ModelSpec, load_device, load_model
from estimators.attention_tables import decode_calls_seconds
from estimators.estimator import OperatorEstimators
from estimators.operators import OperatorCall, iteration_calls
from estimators.row_tables import Clock
from estimators.sources.aiconfigurator_tree import choose_version, find_package, table_versions

TABLES = {"decode": "mla_generation_module_perf.parquet", "prompt": "mla_context_module_perf.parquet"}
DTYPES = {"bfloat16": "bf16", "fp8": "fp8", "fp8_block": "fp8_block"}
KEYS = ["num_heads", "gemm_type", "kv_cache_dtype", "batch_size", "isl", "step"]
INSIDE = (
    *("qkv_a_proj", "q_norm", "q_b_proj", "latent_norm", "rope", "kv_write", "o_proj"),
    *("q_absorb", "latent_decode", "v_expand", "kv_b_proj", "key_concat", "latent_prefill"),
)


def module_calls(model: ModelSpec, heads: int, dtype: str, kv_dtype: str) -> list[OperatorCall]:
    """The calls of one module."""
    spec = replace(model, weight_dtype=None if dtype == "bf16" else dtype)
    calls = iteration_calls(spec, model.num_q_heads // heads, dtype, kv_dtype=kv_dtype)
    return [replace(call, count=1) for call in calls if call.name in INSIDE]


def predicted(calls: list[OperatorCall], clock: Clock, kind: str, rows: pl.DataFrame) -> np.ndarray:
    """Seconds of a module at each row; all prompts of a batch are projected, and attend, in one call."""
    batch, chunk = (rows[name].to_numpy() for name in ("batch_size", "isl"))
    axes = ("tokens",) if kind == "decode" else ("tokens", "chunk")
    counted = [(call, batch * chunk) for call in calls if call.axis in axes]
    seconds = np.sum(clock.rows(counted), axis=0)
    if kind == "decode":
        context = (chunk + rows["step"].to_numpy()).astype(np.float64)
        return np.asarray(seconds + decode_calls_seconds(calls, clock, batch, context))
    for call in calls:
        if call.axis == "prefill":
            columns = {"batch": batch, "chunk": chunk, "history": np.zeros_like(chunk), **call.fixed(batch)}
            seconds = seconds + clock.predict(call, columns)
    return np.asarray(seconds)


def ratios(frame: pl.DataFrame, device: DeviceSpec, known: Mapping[str, OperatorEstimators], kind: str) -> pl.DataFrame:
    """The rows with the ratio of predicted to measured, in the column ``ratio``."""
    model, parts = load_model("deepseek-ai/DeepSeek-V3"), []
    for (heads, weights, cache), part in frame.group_by(KEYS[:3], maintain_order=True):
        calls = module_calls(model, int(str(heads)), DTYPES[str(weights)], DTYPES[str(cache)])
        seconds = predicted(calls, Clock(device, known), kind, part)
        parts.append(part.with_columns(ratio=1e3 * seconds / part["latency"].to_numpy()))
    return pl.concat(parts)


def compare(system: str, zoo: Path | None) -> list[Row]:
    """Errors by engine, kind and types, over all numbers of heads; ``short`` are the faster half of the rows."""
    device, (_, data) = load_device(system), find_package(None)
    known = {dtype: OperatorEstimators.load(system, dtype, zoo) for dtype in ("bf16", "fp8", "fp8_block")}
    rows: list[Row] = []
    for engine, (kind, file) in product(("vllm", "trtllm"), TABLES.items()):
        for table in choose_version(table_versions(data / system / "mla" / engine, file), None, kind)[:1]:
            frame = pl.read_parquet(table.files[0][1].read_bytes()).filter(pl.col("gemm_type").is_in(list(DTYPES)))
            frame = frame.group_by(KEYS).agg(pl.col("latency").min()).sort(KEYS)
            frame = ratios(frame, device, known, kind)
            short = pl.col("latency") < pl.col("latency").median()
            errors = frame.group_by(KEYS[1:3], maintain_order=True).agg(
                rows=pl.len(),
                median=(pl.col("ratio") - 1).abs().median(),
                bias=pl.col("ratio").median() - 1,
                bias_short=pl.col("ratio").filter(short).median() - 1,
                bias_long=pl.col("ratio").filter(~short).median() - 1,
            )
            rows += [{"engine": f"{engine} {table.version}", "kind": kind, **row} for row in errors.to_dicts()]
    return rows


def record(printed: Row) -> Iterator[Row]:
    """Rows of the record: the errors of each kind of module."""
    for row in printed["rows"]:
        name = f"{row['engine']}, {row['kind']}, {row['gemm_type']}, {row['kv_cache_dtype']}"
        yield figure("Added up over measured", name, "modules", row["rows"], "")
        yield figure("Added up over measured", name, "median error", row["median"], "%")
        for half in ("short", "long"):
            yield figure("Added up over measured", name, f"bias, {half}", row[f"bias_{half}"], "+%")


def main(arguments: list[str] | None = None) -> int:
    """Run it."""
    flags = parser("latent attention, added up from its kernels, against whole modules")
    flags.add_argument("--system", default="h100_sxm", help="whose modules (h100_sxm)")
    flags.add_argument("--zoo", type=Path, help="where the estimators are; the package's own if not given")
    options = flags.parse_args(arguments)
    try:
        rows = compare(options.system, options.zoo)
    except EstimatorError as error:
        print(error, file=sys.stderr)
        return 2
    emit(rows, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
