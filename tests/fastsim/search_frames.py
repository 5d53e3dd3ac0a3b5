"""Frames as `fastsim.search` returns them, made up."""

import itertools
from typing import Any

import polars as pl

from fastsim.searching.frames import BEFORE, BEHIND

SCHEMA: dict[str, Any] = {name: getattr(pl, of) for name, of in (BEFORE | BEHIND).items()}


def row(config_id: str, qps: float | None, workload: str = "chat", **more: Any) -> dict[str, Any]:
    """A configuration at 2 dollars per hour that holds so many requests per second; None where it does not fit."""
    found: dict[str, Any] = {"config_id": config_id, "workload": workload, "gpus": 1, "price_per_hour": 2.0}
    found |= {"binding": "scheduling delay p99 4.9 s of 5 s", "long_enough": True, "requests": 1000, "probes": 5}
    if qps is None:
        found |= {"status": "does_not_fit", "reason": "weights lack 3 GB"}
    else:
        price = more.get("price_per_hour", 2.0)
        found |= {"status": "ok", "reason": "", "capacity_qps": qps, "qps_low": qps, "qps_high": qps * 1.02}
        found |= {"qps_per_dollar": qps * 3600 / price, "ttft_p90_s": 0.5, "tpot_p90_s": 0.02, "mfu": 0.4}
    return found | more


def frame_of(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """The rows as a frame, knobs behind the workload."""
    knobs = list(dict.fromkeys(name for one in rows for name in one if name not in SCHEMA))
    typed = pl.DataFrame([{name: one.get(name) for name in SCHEMA} for one in rows], SCHEMA)
    named = [pl.Series(name, [one.get(name) for one in rows]) for name in knobs]
    return typed.with_columns(named).select("config_id", "workload", *knobs, *list(SCHEMA)[2:])


def some_frame() -> pl.DataFrame:
    """Two models, two workloads, and a grid of three knobs, of which one combination does not fit."""
    rows = []
    grid = itertools.product(("small", "large"), ("chat", "code"), (1, 2, 4), ("vllm_v1", "sarathi"), (64, 256))
    for model, workload, tp, scheduler, batch in grid:
        config_id = f"{model[0]}{tp}{scheduler[0]}{batch}"
        knobs = {"model": model, "tensor_parallel": tp, "scheduler": scheduler, "scheduler.max_num_seqs": batch}
        long = {"code": 3.0, "chat": 1.0}[workload] if scheduler == "vllm_v1" else 1.2
        qps = (
            10 * tp**0.8 / long * (1.5 if batch == 256 and workload == "chat" else 1.0) / (4 if model == "large" else 1)
        )
        fits = model == "small" or tp > 1
        knobs |= {"gpus": tp, "price_per_hour": 2.0 * tp}
        latencies = {"ttft_p90_s": long / tp, "tpot_p90_s": 0.02 * batch / 64 / tp} if fits else {}
        rows.append(row(config_id, qps if fits else None, workload, **knobs, **latencies))
    return frame_of(rows)
