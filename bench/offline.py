"""Accuracy against measured offline batches: LLM-Inference-Bench, rows of vLLM on A100 and H100.

    python bench/offline.py All_results.csv.gz [--json]

A batch of b requests of n prompt and n output tokens starts at time 0; its latency is what the last request takes. The
rows are of 2024 (vLLM 0.4 to 0.6, versions not recorded per row) and of a synchronous engine whose CPU time the engine
preset ``ideal`` leaves out, so simulated latencies should come out short, most for small models on many GPUs. Nothing
here was used for training.
"""

from collections.abc import Iterator

import polars as pl
from common import Row, emit, figure, parser

import fastsim

DEVICES = {"Nvidia A100 GPU": "a100_sxm", "Nvidia H100 GPU": "h100_sxm"}
#: Measured model -> the built-in one of the same shape.
MODELS = {
    "meta-llama/Llama-2-7b-hf": "meta-llama/Llama-2-7b-hf",
    "meta-llama/Llama-2-70b-hf": "meta-llama/Llama-2-70b-hf",
    "meta-llama/Meta-Llama-3-8B": "meta-llama/Llama-3.1-8B",
    "meta-llama/Meta-Llama-3-70B": "meta-llama/Llama-3.1-70B",
    "mistralai/Mistral-7B-v0.1": "mistralai/Mistral-7B-v0.3",
    "Qwen/Qwen2-7B": "Qwen/Qwen2.5-7B",
    "Qwen/Qwen2-72B": "Qwen/Qwen2.5-72B",
}


def simulated_latency_s(model: str, device: str, tp: int, length: int, batch: int) -> float:
    """Latency of a batch of equal requests, all there at time 0 [s]."""
    config = fastsim.SimulationConfig(
        model=model,
        device=device,
        tensor_parallel=tp,
        max_model_len=max(4096, 2 * length),
        scheduler_options={"max_num_batched_tokens": 8192},
    )
    workload = fastsim.Workload.from_arrays([0.0] * batch, [length] * batch, [length] * batch)
    makespan_s: float = fastsim.simulate(config, workload).summary["simulation"]["makespan_s"]
    return makespan_s


def record(printed: Row) -> Iterator[Row]:
    """Rows of the record: medians of simulated over measured latency."""
    for row in sorted(printed["groups"], key=lambda row: row["tp"]):
        name = f"{row['device']}, {row['model']}"
        yield figure("Median of simulated over measured latency - 1", name, f"TP {row['tp']}", row["bias"], "+%")


def main() -> None:
    """Print the rows and, per device and tensor_parallel, the errors."""
    arguments = parser("accuracy on measured offline batches")
    arguments.add_argument("csv", help="All_results.csv.gz of LLM-Inference-Bench")
    options = arguments.parse_args()
    frame = (
        pl.read_csv(options.csv, infer_schema_length=None)
        .filter(
            pl.col("Framework") == "vLLM", pl.col("Model").is_in(list(MODELS)), pl.col("Hardware").is_in(list(DEVICES))
        )
        .with_columns(pl.col("Input Output Length").cast(pl.Int64, strict=False))
        .drop_nulls(["Input Output Length", "Latency"])
        .sort("Hardware", "Model", "Num of Hardware", "Input Output Length", "Batch Size")
    )
    rows: list[Row] = []
    for measured in frame.head(20 if options.smoke else frame.height).iter_rows(named=True):
        device, tp = DEVICES[measured["Hardware"]], measured["Num of Hardware"]
        length, batch = measured["Input Output Length"], measured["Batch Size"]
        simulated_s = simulated_latency_s(MODELS[measured["Model"]], device, tp, length, batch)
        rows.append(
            {
                "model": measured["Model"],
                "device": device,
                "tp": tp,
                "length": length,
                "batch": batch,
                "measured_s": measured["Latency"],
                "simulated_s": simulated_s,
                "error": simulated_s / measured["Latency"] - 1,
            }
        )
    error = pl.col("error")
    groups = (
        pl.DataFrame(rows)
        .group_by("device", "model", "tp")
        .agg(pl.len().alias("rows"), error.median().alias("bias"), error.abs().median().alias("median_ape"))
        .sort("device", "model", "tp")
    )
    if not options.json:
        with pl.Config(tbl_rows=-1, tbl_hide_dataframe_shape=True, fmt_str_lengths=40):
            print(groups)
    emit([] if not options.json else rows, options.json, groups=groups.to_dicts())


if __name__ == "__main__":
    main()
