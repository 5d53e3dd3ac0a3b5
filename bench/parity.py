"""Parity: repeats runs of the real Vidur and prints how far every column of every request is off.

    python bench/parity.py DIR [--json] [--smoke]

DIR holds folders, or is one, each with ``config.json`` and ``golden.json`` (Vidur's resolved configuration, and which
tables file beside the folder), ``request_list.csv.gz`` (input) and ``request_state.csv.gz`` (output). The configuration
goes through the mapping of ``fastsim run --vidur-config``, memory planner included; tables and requests are the
folder's. Rows of columns that are whole numbers hold the largest difference of those. Exits with 1 if any row is above
1e-6, or a run fails.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from common import Row, emit, figure, note, parser

from estimators import load_model
from estimators.vidur_tables import OperatorTables
from fastsim import SimulationConfig, Workload
from fastsim.kernel.vidur.state import State
from fastsim.vidur.config_file import DEVICES, PREDICTOR, VidurFile
from fastsim.vidur.memory import VidurMemory, plan_vidur_memory
from fastsim.vidur.simulate import run_parity

TOLERANCE_S = 1e-6
#: Vidur's columns that are fields of our records; 0 where something never happened, in both.
FIELDS = {
    "arrived_at": "arrival_s",
    "scheduled_at": "scheduled_s",
    "prefill_completed_at": "first_token_s",
    "completed_at": "completed_s",
    "execution_time": "execution_s",
    "model_execution_time": "model_execution_s",
    "preempted_time": "preempted_s",
    "num_restarts": "restarts",
    "final_num_prefill_tokens": "prefill",
    "final_num_decode_tokens": "decode",
    "final_num_processed_tokens": "processed",
}


def configuration(file: VidurFile) -> tuple[SimulationConfig, VidurMemory]:
    """The configuration with the KV blocks that Vidur's planner finds for the file's own GPU."""
    config = SimulationConfig(**file.serving(parity=True))
    memory = plan_vidur_memory(config, load_model(config.model), file.memory_gib)
    options = dict(config.scheduler_options)
    if config.scheduler in ("orca", "faster_transformer"):
        options["max_num_seqs"] = memory.max_micro_batch
    # Times come from the folder: a GPU that we do not know is replaced by one with more memory than any of Vidur's.
    device = config.device if config.device in DEVICES.values() else "h200_sxm"
    return config.with_fields(num_kv_blocks=memory.num_blocks, scheduler_options=options, device=device), memory


def columns(state: State) -> dict[str, np.ndarray]:
    """Vidur's columns from our records, float64 each."""
    requests = state.work.requests
    found = {theirs: np.asarray(requests[ours], np.float64) for theirs, ours in FIELDS.items()}
    scheduled = requests["scheduled"] == 1
    found["scheduling_delay"] = np.where(scheduled, found["scheduled_at"] - found["arrived_at"], 0.0)
    found["ttft"] = found["prefill_completed_at"] - found["arrived_at"]
    found["e2e"] = found["completed_at"] - found["arrived_at"]
    found["completed"] = (requests["processed"] == requests["prefill"] + requests["decode"]).astype(np.float64)
    routed = np.arange(len(requests)) < int(state.cluster["num_routed"][0])
    found["replica_id"] = np.where(routed, requests["replica"], -1).astype(np.float64)
    return found


@dataclass(frozen=True)
class Golden:
    """One run of the real Vidur, ready to be repeated.

    Attributes:
        told: ``golden.json``.
        config: its configuration.
        memory: what Vidur's planner makes of the GPU's memory.
        tables: its per-operator tables.
        workload: its requests, by arrival.
        wanted: what Vidur made of them, by column, float64 (requests,).
    """

    told: dict[str, Any]
    config: SimulationConfig
    memory: VidurMemory
    tables: OperatorTables
    workload: Workload
    wanted: dict[str, np.ndarray]

    def run(self) -> State:
        """Repeat it; a random router's choices are Vidur's."""
        choices = np.maximum(self.wanted["replica_id"], 0).astype(np.int64) if self.config.router == "random" else None
        return run_parity(self.config, self.workload, self.tables, choices)


def read_golden(folder: Path) -> Golden:
    """Read the run of a folder."""
    golden = json.loads((folder / "golden.json").read_text())
    file = VidurFile(folder / "config.json")
    config, memory = configuration(file)
    tables = OperatorTables.read_npz(
        folder.resolve().parent / golden["tables"],
        kv_granularity=config.parity_choice.kv_cache_prediction_granularity,
        cpu_overhead=file.cpu_overhead,
    )
    given = pl.read_csv(folder / "request_list.csv.gz", infer_schema_length=None)
    wanted = _numbers(pl.read_csv(folder / "request_state.csv.gz", infer_schema=False))
    if len(given) != len(wanted["completed"]):
        raise ValueError(f"{len(given)} requests went in and {len(wanted['completed'])} came out")
    order = np.argsort(given["arrived_at_s"].to_numpy(), kind="stable")
    wanted = {name: values[order] for name, values in wanted.items()}
    sizes = (given[name].to_numpy() for name in ("arrived_at_s", "num_prefill_tokens", "num_decode_tokens"))
    workload = Workload.from_arrays(*(column[order] for column in sizes))
    return Golden(golden, config, memory, tables, workload, wanted)


def differences(folder: Path) -> Iterator[tuple[str, float]]:
    """Column and largest absolute difference, for one run."""
    golden = read_golden(folder)
    state = golden.run()
    for name, values in columns(state).items():
        yield name, float(np.abs(values - golden.wanted[name]).max())
    yield from _counts(golden.told, golden.config, golden.memory, state)


def golden_folders(directory: Path) -> list[Path]:
    """The folders of runs in a directory, or itself if it is one."""
    names = ("config.json", "golden.json")
    if any((directory / name).is_file() for name in names):
        return [directory]
    return sorted({path.parent for name in names for path in directory.glob(f"*/{name}")})


def _counts(
    golden: dict[str, Any], config: SimulationConfig, memory: VidurMemory, state: State
) -> Iterator[tuple[str, float]]:
    """What the golden file says beside the requests."""
    cluster, summary = state.cluster[0], golden.get("summary", {})
    ours = {
        "num_blocks": memory.num_blocks,
        "max_batch_size": memory.max_micro_batch,
        "max_blocks_per_sequence": memory.blocks_for_life,
        "watermark_blocks": memory.watermark_blocks,
        "batches": int(cluster["num_batches"]),
        "events": int(cluster["num_events"]),
    } | {name: getattr(config.parity_choice, name) for name in PREDICTOR}
    for name, value in ours.items():
        theirs = golden.get(name, summary.get(name))
        wanted = theirs if isinstance(theirs, list) else [theirs]
        # -1: the policy has no watermark.
        known = [number for number in wanted if number is not None and (name != "watermark_blocks" or number >= 0)]
        if known:
            yield name, max(abs(float(number) - value) for number in known)


def _numbers(frame: pl.DataFrame) -> dict[str, np.ndarray]:
    """Columns as float64; -1 for no replica."""
    frame = frame.with_columns(pl.col("completed").str.to_lowercase().eq("true"))
    return {
        name: frame[name].cast(pl.Float64).fill_null(-1.0 if name == "replica_id" else 0.0).to_numpy()
        for name in frame.columns
    }


def row(run: str, column: str, error: float) -> Row:
    """One row; a difference that is no number is null, with a reason."""
    found: Row = {"run": run, "column": column, "max_abs_error_s": error if np.isfinite(error) else None}
    return found if np.isfinite(error) else found | {"error": "the difference is not a number"}


def record(printed: Row) -> Iterator[Row]:
    """Rows of the record: the largest difference of any column of each run."""
    runs: dict[str, list[float]] = {}
    for one in printed["rows"]:
        runs.setdefault(one["run"], []).append(one["max_abs_error_s"])
    for name, errors in runs.items():
        yield figure("Largest difference of any column of any request", name, "difference", max(errors), "s")
        yield figure("Largest difference of any column of any request", name, "columns", len(errors), "")


def main() -> int:
    """Print the rows; returns the exit code."""
    arguments = parser("parity with runs of the real Vidur")
    arguments.add_argument("directory", type=Path, help="folder of runs, or one run")
    options = arguments.parse_args()
    runs = golden_folders(options.directory)
    if not runs:
        note(f"{options.directory} holds no run: a run is a folder with config.json and golden.json")
        return 2
    rows: list[Row] = []
    for folder in runs[:2] if options.smoke else runs:
        name = folder.resolve().name
        try:
            rows += [row(name, column, value) for column, value in differences(folder)]
        except Exception as error:  # one bad run must not hide the others
            what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            note(f"{name}: {what}")
            rows.append({"run": name, "column": "error", "max_abs_error_s": None, "error": what})
    emit(rows, options.json)
    bad = sorted({row["run"] for row in rows if not (row["max_abs_error_s"] or 0.0) <= TOLERANCE_S or "error" in row})
    note(f"{len(runs)} runs, {len(bad)} of them off by more than {TOLERANCE_S:g} s {', '.join(bad)}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
