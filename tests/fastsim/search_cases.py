"""Small spaces, and an executor that knows capacities without simulating."""

from collections.abc import Callable, Mapping, Sequence

import polars as pl
from simulate_calls import some_workload

from fastsim import Workload
from fastsim.searching.tasks import OK, Outcome, Task

#: Its eight configurations share two tables, which are built in a moment.
SPACE = {
    "tensor_parallel": [1, 2],
    "gpus": 2,
    "max_model_len": 512,
    "num_kv_blocks": 200,
    "scheduler": [
        {"name": "vllm_v1", "max_num_seqs": [9, 16], "max_num_batched_tokens": 128},
        {"name": "sarathi", "max_num_seqs": 16, "chunk_size": [96, 128]},
    ],
}
SLO = {"ttft_s": {"p90": 0.5}}


def search_workload(n: int = 200, seed: int = 0) -> Workload:
    return some_workload(n, seed=seed)


def without_wall_time(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.drop("wall_s")


def made_up_capacity(qps: float, requests: int = 100) -> dict:
    """As `Capacity.as_dict` gives it, after two probes."""
    metrics = {"ttft_s.p90": 0.5, "tpot_s.p90": 0.02, "mfu": 0.3}
    probes = [
        {
            "qps": rate,
            "holds": rate <= qps,
            "stopped_early": False,
            "binding": "p90 TTFT 0.5 s, at most 0.5 s",
            "metrics": metrics,
            "requests": requests,
            "wall_s": 0.01,
        }
        for rate in (qps, qps * 1.02)
    ]
    return {
        "qps": qps,
        "bracket": [qps, qps * 1.02],
        "tolerance": 0.02,
        "probes": probes,
        "long_enough": True,
        "why": "long enough",
        "binding": "p90 TTFT 0.51 s, at most 0.5 s",
        "at_capacity": probes[0],
    }


class Oracle:
    """An executor that asks a function for capacities [requests/s]; `run_keys` are those of what it was asked."""

    def __init__(self, qps_of: Callable[[Task], float], workloads: Mapping[str, Workload]) -> None:
        self.qps_of, self.workloads = qps_of, workloads
        self.run_keys: list[tuple] = []
        self.closed = False

    def run(self, tasks: Sequence[Task], done: Callable[[Outcome], None]) -> None:
        for task in reversed(tasks):  # any order will do
            self.run_keys.append(task.key)
            requests = task.requests or len(self.workloads[task.workload_name])
            done(Outcome(*task.key, OK, "", made_up_capacity(self.qps_of(task), requests), 0.01))

    def close(self) -> None:
        self.closed = True
