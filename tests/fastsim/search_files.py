"""Directories of searches as ``fastsim search --out`` writes them, of numbers that follow from a few rules."""

import itertools
import json
from pathlib import Path
from typing import Any

import polars as pl

WORKLOADS = ("chat", "code")
PRICES = {"a100_sxm": 2.0, "h100_sxm": 4.0}
_SPEED = {"a100_sxm": 4.0, "h100_sxm": 9.0}
#: Name, chunk, factor of the rate, factor of the latencies.
_SCHEDULERS = (("vllm_v1", None, 1.0, 1.0), ("sarathi", 512, 0.9, 0.6), ("sarathi", 1024, 0.97, 0.8))
#: Rates that are tried, in parts of the capacity, and which of them hold.
TRIED = ((0.5, True), (0.75, True), (1.0, True), (1.02, False), (1.5, False))
ABOUT = {
    "version": "0.1.0",
    "space": {
        "fields": {"model": ["m"], "tensor_parallel": [1, 2, 4]},
        "kinds": {
            "scheduler": [{"name": "vllm_v1", "options": {}}, {"name": "sarathi", "options": {"chunk_size": [512]}}]
        },
        "gpus": [],
    },
    "slo": [
        {"metric": "scheduling_delay_s", "quantile": "p99", "limit": 5.0},
        {"metric": "attainment", "quantile": "", "limit": 0.9},
    ],
    "strategy": "exhaustive",
    "tolerance": 0.02,
    "workloads": {"chat": "hash of chat", "code": "hash of code"},
}


def _at(rate: float, capacity: float, row: dict[str, Any], slower: float) -> dict[str, float]:
    """Latencies [s], which grow with the load."""
    load = rate / capacity
    ttft = 1.6 / _SPEED[row["device"]] / row["tensor_parallel"] ** 0.7 / slower / (1.15 - min(load, 1.1))
    ttft *= 1.5 if row["max_num_seqs"] == 64 else 1.0
    tpot = (
        slower * 0.1 / _SPEED[row["device"]] * (0.4 + load * row["max_num_seqs"] / 256) / row["tensor_parallel"] ** 0.5
    )
    return {
        "ttft_p50_s": ttft,
        "ttft_p90_s": 2 * ttft,
        "ttft_p99_s": 4 * ttft,
        "tpot_p50_s": tpot,
        "tpot_p90_s": 1.5 * tpot,
        "tpot_p99_s": 2 * tpot,
        "e2e_p50_s": ttft + 200 * tpot,
        "scheduling_delay_p99_s": 5 * load if load <= 1 else 40.0,
        "mfu": 0.4 * load,
    }


def search_frames() -> tuple[pl.DataFrame, pl.DataFrame]:
    """configurations.parquet and probes.parquet: on a100_sxm a batch of 256 does not fit on one GPU."""
    rows: list[dict[str, Any]] = []
    probes: list[dict[str, Any]] = []
    space = itertools.product(PRICES, (1, 2, 4), _SCHEDULERS, (64, 256))
    for number, (device, tp, (scheduler, chunk, faster, slower), batch) in enumerate(space):
        for w, workload in enumerate(WORKLOADS):
            axes = {
                "model": "m",
                "device": device,
                "tensor_parallel": tp,
                "scheduler": scheduler,
                "scheduler.chunk_size": chunk,
                "max_num_seqs": batch,
            }
            fits = not (device == "a100_sxm" and tp == 1 and batch == 256)
            # Long prompts favour more GPUs.
            rate = _SPEED[device] * faster * tp ** (0.8 if w == 0 else 1.1) * (1.0 if batch == 64 else 1.3) / (1 + w)
            price = PRICES[device] * tp
            named = {"config_id": f"id{number:02}", "workload": workload}
            told = {"status": "ok", "reason": "", "capacity_qps": rate, "qps_low": rate, "qps_high": 1.02 * rate}
            if not fits:
                told = {"status": "does_not_fit", "reason": "needs 90 GB of 80 GB"}
            row = named | axes | {"gpus": tp, "price_per_hour": price} | told
            if fits:
                row |= {"qps_per_dollar": rate * 3600 / price, **_at(rate, rate, row, slower)}
                row |= {"binding": "p99 of scheduling delay", "long_enough": True, "probes": len(TRIED)}
                row |= {"simulated_requests": 5000, "wall_s": 0.1}
                for share, holds in TRIED:
                    probed = _at(share * rate, rate, row, slower)
                    probes.append(named | {"qps": share * rate, "holds": holds} | _dotted(probed))
            rows.append(row)
    return pl.DataFrame(rows, infer_schema_length=None), pl.DataFrame(probes)


def _dotted(latencies: dict[str, float]) -> dict[str, float]:
    """Named as a probe's metrics are: ``ttft_p90_s`` is ``ttft_s.p90``."""
    named = {}
    for name, value in latencies.items():
        metric, _, quantile = name.removesuffix("_s").rpartition("_")
        named[f"{metric}_s.{quantile}" if metric else name] = value
    return named


def write_search(path: Path, change: dict[str, Any] | None = None) -> Path:
    """Write the directory of a search, and return its path; ``change`` replaces keys of its search.json."""
    path.mkdir(parents=True)
    configurations, probes = search_frames()
    configurations.write_parquet(path / "configurations.parquet")
    probes.write_parquet(path / "probes.parquet")
    (path / "search.json").write_text(json.dumps(ABOUT | (change or {})))
    return path
