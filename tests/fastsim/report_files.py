"""Directories of runs as ``fastsim run --out`` writes them, small and with numbers that can be told by heart."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

CONFIG = {
    "model": "meta-llama/Llama-3.1-8B",
    "device": "h100_sxm",
    "tensor_parallel": 2,
    "pipeline_parallel": 1,
    "data_parallel": 1,
    "replicas": 2,
    "scheduler": {"name": "vllm_v1", "max_num_seqs": 256},
    "client": {"name": "open"},
}
#: Of each latency the quantiles of 1, 2, ... 101 times so many seconds.
_STEPS = {"ttft_s": 0.01, "tpot_s": 0.001, "e2e_s": 1.0, "scheduling_delay_s": 0.0}
_REPLICA = {"requests": 50, "utilization": 0.5, "batch_size_mean": 3.5, "kv_use_mean": 0.25, "kv_use_max": 0.5}


def summary(**change: Any) -> dict[str, Any]:
    """A summary; keyword arguments replace its sections."""
    latencies = {
        name: {"mean": 51 * step, "p50": 51 * step, "p90": 91 * step, "p99": 100 * step}
        for name, step in (*_STEPS.items(), ("tbt_s", 0.001), ("e2e_normalized_s", 0.002))
    }
    return {
        "config": CONFIG,
        "versions": {"fastsim": "0.1.0"},
        "workload": {"source": {"generator": {"arrivals": "poisson"}}, "notes": ["5 requests were cut"]},
        "estimates": {"source": "tables"},
        "replicas": [_REPLICA | {"preemptions": 0}, _REPLICA | {"preemptions": 7}],
        "simulation": {"requests": 101, "iterations": 1000, "makespan_s": 100.0, "wall_s": 0.01},
        "metrics": latencies | {"throughput_requests_per_s": 1.01, "mfu": 0.25, "preemptions": 7},
        "prefix_cache": {"hit_rate": 0.0},
        "hashes": {"workload": "w", "tables": "t"},
        "operators": [{"gate_up": {"seconds": 30.0, "share": 0.6}, "<norm>": {"seconds": 20.0, "share": 0.4}}],
        "slo": {
            "requests": 101,
            "attainment": 0.9,
            "goodput_requests_per_s": 0.909,
            "classes": {"0": {"attainment": 0.9, "objectives": {"ttft_s": {"limit_s": 0.5, "attainment": 0.95}}}},
        },
    } | change


def requests(slower: float = 1.0) -> pl.DataFrame:
    steps = np.arange(1, 102) * slower
    return pl.DataFrame({"arrival_s": np.arange(101.0)} | {name: steps * step for name, step in _STEPS.items()})


def timeseries(bins: int = 50, replicas: int = 2) -> pl.DataFrame:
    """Bins of 2 s; replica r has r + 1 requests in its batch, and each bin sends 4 to it and completes 2."""
    start_s = np.tile(1000.0 + 2.0 * np.arange(bins), replicas)
    replica = np.repeat(np.arange(replicas), bins)
    constant = {
        "arrivals": 4,
        "completions": 2,
        "queue_mean": 0.5,
        "kv_use_mean": 0.25,
        "utilization": 0.75,
        "prefill_tokens_per_s": 100.0,
        "decode_tokens_per_s": 10.0,
        "preemptions": 0,
    }
    columns = {name: np.full(len(start_s), value) for name, value in constant.items()}
    times = {"replica": replica, "start_s": start_s, "end_s": start_s + 2.0, "running_mean": replica + 1.0}
    return pl.DataFrame(times | columns)


def write_run(path: Path, slower: float = 1.0, **change: Any) -> Path:
    """Write the directory of a run, and return its path."""
    path.mkdir(parents=True)
    (path / "summary.json").write_text(json.dumps(summary(**change)))
    requests(slower).write_parquet(path / "requests.parquet")
    timeseries().write_parquet(path / "timeseries.parquet")
    return path
