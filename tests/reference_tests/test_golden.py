"""Parity: the reference under parity="vidur" repeats every run of the real Vidur in ../shared/golden."""

import json
import math
from pathlib import Path

import pytest
from reference.vidur_results import VidurResult
from reference_tests.golden import GOLDEN, read_rows, run_folder

TOLERANCE_S = 1e-12
RUNS = sorted(path.parent for path in GOLDEN.glob("*/golden.json"))

if not RUNS:
    pytest.skip("the runs of the real Vidur are not here: ../shared/golden", allow_module_level=True)


@pytest.fixture(scope="module", params=RUNS, ids=lambda path: path.name)
def folder(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.fixture(scope="module")
def result(folder: Path) -> VidurResult:
    return run_folder(folder)


def test_every_column_of_every_request(folder: Path, result: VidurResult) -> None:
    rows = read_rows(folder / "request_state.csv.gz")
    assert len(rows) == len(result.requests)
    for row, request in zip(rows, result.requests, strict=True):
        assert (int(float(row["replica_id"])) if row["replica_id"] else None) == request.replica
        whole = {
            "num_restarts": request.preemptions,
            "final_num_prefill_tokens": request.prefill_tokens,
            "final_num_decode_tokens": request.prompt_tokens + request.output_tokens - request.prefill_tokens,
            "final_num_processed_tokens": request.processed_tokens,
        }
        assert {name: int(row[name]) for name in whole} == whole
        assert row["completed"] == str(request.finished)
        seconds = {
            "arrived_at": request.arrival_s,
            "scheduled_at": request.scheduled_s or 0.0,
            "scheduling_delay": 0.0 if request.scheduled_s is None else request.scheduled_s - request.arrival_s,
            "prefill_completed_at": request.first_token_s,
            "completed_at": request.completed_s,
            "ttft": request.first_token_s - request.arrival_s,
            "e2e": request.completed_s - request.arrival_s,
            "execution_time": request.execution_s,
            "model_execution_time": request.model_execution_s,
            "preempted_time": request.preempted_s,
        }
        for name, value in seconds.items():
            assert math.isclose(float(row[name]), value, rel_tol=0.0, abs_tol=TOLERANCE_S), (request.request_id, name)


def test_counts_of_batches_stages_and_events(folder: Path, result: VidurResult) -> None:
    summary = json.loads((folder / "golden.json").read_text())["summary"]
    counts = (result.num_batches, len(result.stages), result.num_events)
    assert counts == (summary["batches"], summary["stages"], summary["events"])
    assert sum(request.preemptions for request in result.requests) == summary["restarts"]


@pytest.mark.parametrize(
    "folder",
    [folder for folder in RUNS if (folder / "batch_stages.csv.gz").exists()],
    indirect=True,
    ids=lambda path: path.name,
)
def test_every_stage_of_every_batch(folder: Path, result: VidurResult) -> None:
    rows = read_rows(folder / "batch_stages.csv.gz")
    assert len(rows) == len(result.stages)
    for row, stage in zip(rows, result.stages, strict=True):
        whole = {
            "batch_id": stage.batch,
            "replica_id": stage.replica,
            "stage_id": stage.stage,
            "size": stage.num_requests,
            "total_tokens": stage.num_tokens,
            "prefill_tokens": stage.num_prefill_tokens,
            "num_prefill_requests": stage.num_chunks,
            "num_decode_requests": stage.num_decodes,
            "decode_avg_kv_rounded": stage.decode_kv,
            "prefill_agg_kv": stage.prefill_kv,
            "prefill_agg_chunk": stage.prefill_chunk,
            "allocated_blocks_at_stage_schedule": stage.blocks_used,
        }
        assert {name: int(row[name]) for name in whole} == whole
        seconds = {
            "batch_scheduled_at": stage.formed_s,
            "stage_scheduled_at": stage.start_s,
            "stage_completed_at": stage.end_s,
            "total_time_s": stage.total_s,
            "model_time_s": stage.model_s,
        }
        for name, value in seconds.items():
            assert math.isclose(float(row[name]), value, rel_tol=0.0, abs_tol=TOLERANCE_S), (stage.batch, name)
