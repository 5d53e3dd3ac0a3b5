"""Reads a folder of ../shared/golden: a run of the real Vidur, its tables and its results."""

import csv
import gzip
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from reference.config import ReferenceConfig
from reference.vidur import simulate_vidur
from reference.vidur_results import VidurResult
from reference.vidur_tables import CPU_OPERATORS, VidurTables

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden"

POLICIES = {"vllm": "vllm_v0"}
"""Vidur's names of batch policies that are not ours."""


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a compressed CSV file."""
    with gzip.open(path, "rt", newline="") as file:
        return list(csv.DictReader(file))


@lru_cache(maxsize=1)
def read_operators(path: Path) -> dict[str, dict[tuple[int, ...], float]]:
    """Milliseconds by key of each operator."""
    arrays = np.load(path)
    names = [name.removesuffix("__ms") for name in arrays.files if name.endswith("__ms")]
    return {
        name: dict(
            zip(map(tuple, arrays[f"{name}__keys"].tolist()), arrays[f"{name}__ms"].tolist(), strict=True),
        )
        for name in names
    }


def run_folder(folder: Path) -> VidurResult:
    """Repeat a run of the real Vidur under parity."""
    golden = json.loads((folder / "golden.json").read_text())
    config = json.loads((folder / "config.json").read_text())
    operators = read_operators(folder.parent / golden["tables"])
    if config["execution_time_predictor_config"]["skip_cpu_overhead_modeling"]:
        operators = {name: table for name, table in operators.items() if name not in CPU_OPERATORS}
    replica = config["cluster_config"]["replica_config"]
    model = replica["model_config"]
    tables = VidurTables(
        operators=operators,
        num_layers=model["num_layers"] // replica["num_pipeline_stages"],
        tensor_parallel=replica["tensor_parallel_size"],
        grouped_query_attention=model["num_kv_heads"] < model["num_q_heads"],
        post_attention_norm=model["post_attn_norm"],
        decode_overhead_fraction=golden["attention_decode_batching_overhead_fraction"],
        prefill_overhead_fraction=golden["attention_prefill_batching_overhead_fraction"],
        launch_overhead_ms=golden["nccl_cpu_launch_overhead_ms"],
        skew_overhead_per_device_ms=golden["nccl_cpu_skew_overhead_per_device_ms"],
        kv_granularity=golden["kv_cache_prediction_granularity"],
    )
    requests = [
        (float(row["arrived_at_s"]), int(row["num_prefill_tokens"]), int(row["num_decode_tokens"]))
        for row in read_rows(folder / "request_list.csv.gz")
    ]
    return simulate_vidur(requests, tables, read_config(config, golden, folder))


def read_config(config: dict[str, Any], golden: dict[str, Any], folder: Path) -> ReferenceConfig:
    """Vidur's configuration in our words."""
    cluster = config["cluster_config"]
    scheduler = cluster["replica_scheduler_config"]
    router = cluster["global_scheduler_config"]["name"]
    choices: tuple[int, ...] = ()
    if router == "random":
        rows = read_rows(folder / "request_state.csv.gz")
        choices = tuple(int(float(row["replica_id"] or 0)) for row in rows)
    # orca and faster_transformer are bounded by what the memory planner found, too.
    for_life = scheduler["name"] in ("orca", "faster_transformer")
    return ReferenceConfig(
        parity="vidur",
        batch_policy=POLICIES.get(scheduler["name"], scheduler["name"]),
        num_usable_blocks=int(golden["num_blocks"][0]),
        block_size=scheduler["block_size"],
        max_num_seqs=int(golden["max_batch_size"][0]) if for_life else scheduler["batch_size_cap"],
        max_num_batched_tokens=scheduler.get("chunk_size") or scheduler.get("max_tokens_in_batch") or 1,
        max_model_len=config["request_generator_config"]["max_tokens"],
        watermark_blocks_fraction=scheduler["watermark_blocks_fraction"],
        max_waiting_iterations=scheduler.get("max_waiting_iters", 0),
        replicas=cluster["num_replicas"],
        num_stages=cluster["replica_config"]["num_pipeline_stages"],
        router=router,
        router_choices=choices,
        time_limit_s=config["time_limit"],
    )
