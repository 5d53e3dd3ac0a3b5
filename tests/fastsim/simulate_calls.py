"""Calling fastsim.simulate from tests."""

import numpy as np
from plain_tables import plain_config, plain_tables

import fastsim
from fastsim import Workload

#: Small enough that its tables are built in a moment.
SMALL = {
    "max_model_len": 512,
    "num_kv_blocks": 200,
    "scheduler_options": {"max_num_seqs": 16, "max_num_batched_tokens": 128},
}


def some_workload(n: int = 300, qps: float = 20.0, seed: int = 0, **more) -> Workload:
    rng = np.random.default_rng(seed)
    arrival_s = rng.exponential(1 / qps, n).cumsum()
    return Workload.from_arrays(arrival_s, rng.integers(1, 200, n), rng.integers(1, 100, n), **more)


def run(workload: Workload | None = None, **fields) -> fastsim.SimulationResult:
    config = plain_config(16, 128, **fields)
    return fastsim.simulate(config, workload or some_workload(), plain_tables(config, 0.01, 1e-5))


def without_wall_time(summary: dict) -> dict:
    speed = {"wall_s", "requests_per_s"}
    return summary | {"simulation": {k: v for k, v in summary["simulation"].items() if k not in speed}}
