"""Accuracy against static batches: Splitwise's measured Llama-2-70B on A100 and H100.

    python bench/splitwise.py perf_model.csv.gz [--profiles DIR] [--json]

A row is a batch of equal prompts in an engine of early 2024 without CUDA graphs: ``prompt_time`` is the iteration that
computes them all, ``token_time`` the mean of those that follow, one token per request each. Simulated is one iteration
of either kind, the second at the mean context, by two sources:

* ``zoo``: the estimators of the package (kernels of 2025 and 2026, with CUDA graphs).
* ``vidur``: profiles that Vidur's authors published of that time's kernels, in DIR/vidur (compute/, network/,
  history/): layers and all-reduces as measured, and attention where it was (A100, TP 2), else the zoo's.

Both get the CPU time per iteration that Vidur's authors measured for the same model on A100s (schedule, inputs,
sampler with the LM head, outputs, Ray): for 8 GPUs that of 4, below 8 requests that of 8, on H100 that of the A100.
Without DIR there is none. Nothing was fitted to the rows. All-reduces are those of the DGX nodes.

Left out, with a count: other models; power-capped GPUs, whose prompt times are 1.3 times the uncapped ones and whose
token times are copies of them, so nothing was measured; batches of 64 on 2 GPUs, whose prompts took an eighth of what
those of 32 did, so they did not run as one batch (64 requests of 640 tokens do not fit into what the weights leave).
"""

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
from common import Row, emit, errors_by, figure, note, parser, print_groups, read_columns
from splitwise_times import CpuTimes, GpuTimes, Vidur, Zoo

from estimators import EstimatorError
from fastsim.errors import ConfigError

DEVICES = {"a100-80gb": "a100_sxm", "h100-80gb": "h100_sxm"}
KEYS = ("hardware", "tensor_parallel", "prompt_size", "batch_size", "token_size")
SHOWN = ("hardware", "tp", "prompt", "batch", "output")
GROUPS = ("source", "hardware", "tp", "metric")


def left_out(measured: dict[str, Any]) -> str | None:
    """Why a measurement is not compared; None if it is."""
    if any(value is None for value in measured.values()):
        return "an empty cell"
    if measured["model"] != "llama2-70b":
        return f"model {measured['model']}"
    if measured["hardware"].endswith("-pcap"):
        return "power-capped, derived from the others"
    if measured["hardware"] not in DEVICES:
        return f"hardware {measured['hardware']}"
    if measured["tensor_parallel"] == 2 and measured["batch_size"] == 64:
        return "did not run as one batch"
    return None


def measured_rows(path: Path) -> tuple[list[dict[str, Any]], Counter[str]]:
    """Medians over the repeats of each configuration, and how many rows were left out for which reason.

    Raises:
        ConfigError: the file is none of these.
    """
    frame = read_columns(path, [*KEYS[1:], "prompt_time", "token_time"], texts=["model", "hardware"])
    reasons = [left_out(row) for row in frame.iter_rows(named=True)]
    frame = frame.filter(pl.Series([reason is None for reason in reasons], dtype=pl.Boolean))
    times = [pl.col(name).median() for name in ("prompt_time", "token_time")]
    frame = frame.with_columns(pl.col(KEYS[1:]).cast(pl.Int64))
    rows = frame.group_by(KEYS).agg(*times, pl.len().alias("repeats")).sort(KEYS).to_dicts()
    return rows, Counter(reason for reason in reasons if reason)


def simulated(measured: dict[str, Any], gpu: GpuTimes, cpu: CpuTimes | None) -> dict[str, tuple[float, float]]:
    """Simulated seconds of either metric, and those of the CPU in it."""
    tp, prompt, requests, output = (measured[name] for name in KEYS[1:])
    cpu_s = cpu.seconds(tp, requests) if cpu else 0.0
    gpu_s = {"prompt": gpu.prompt_s(requests, prompt), "token": gpu.token_s(requests, prompt + output // 2)}
    return {metric: (seconds + cpu_s, cpu_s) for metric, seconds in gpu_s.items()}


def compare(path: Path, profiles: Path | None, most: int | None) -> tuple[list[Row], Counter[str]]:
    """Rows of all configurations, metrics and sources, and what was left out."""
    measured_all, without = measured_rows(path)
    cpu = CpuTimes(profiles / "history" / "a100_cpu_overheads_151169a1.csv.gz") if profiles else None
    sources: dict[tuple[str, int], dict[str, GpuTimes]] = {}
    rows: list[Row] = []
    for measured in measured_all[:most]:
        device, tp = DEVICES[measured["hardware"]], measured["tensor_parallel"]
        if (device, tp) not in sources:
            zoo = Zoo(device, tp)
            sources[device, tp] = {"zoo": zoo} | ({"vidur": Vidur(profiles, device, tp, zoo)} if profiles else {})
        for source, gpu in sources[device, tp].items():
            for metric, (seconds, cpu_s) in simulated(measured, gpu, cpu).items():
                simulated_ms, measured_ms = 1e3 * seconds, measured[f"{metric}_time"]
                row = {name: measured[key] for name, key in zip(SHOWN, KEYS, strict=True)}
                times = {"measured_ms": measured_ms, "simulated_ms": simulated_ms, "cpu_ms": 1e3 * cpu_s}
                rows.append(
                    {"source": source, **row, "metric": metric, **times, "error": simulated_ms / measured_ms - 1}
                )
    return rows, without


def record(printed: Row) -> Iterator[Row]:
    """Rows of the record: errors of each group."""
    for row in printed["groups"]:
        what = f"Iterations with all {row['metric']}s by the times of {row['source']}"
        name = f"{row['hardware']}, TP {row['tp']}"
        yield figure(what, name, "configurations", row["rows"], "")
        yield figure(what, name, "median absolute error", row["median_ape"], "%")
        yield figure(what, name, "bias", row["bias"], "+%")


def main() -> int:
    """Print the rows and the errors of their groups; returns the exit code."""
    arguments = parser("accuracy on static batches")
    arguments.add_argument("csv", type=Path, help="perf_model.csv.gz of splitwise-sim")
    arguments.add_argument(
        "--profiles", type=Path, help="directory in which vidur/ is laid out like Vidur's data/profiling"
    )
    options = arguments.parse_args()
    try:
        rows, without = compare(
            options.csv, options.profiles and options.profiles / "vidur", 3 if options.smoke else None
        )
    except (ConfigError, EstimatorError) as error:
        note(str(error))
        return 2
    groups = errors_by(rows, GROUPS)
    emit(rows, options.json, groups=groups, left_out=dict(without))
    if not options.json:
        print_groups([*groups, dict(without)])
    return 0


if __name__ == "__main__":
    sys.exit(main())
