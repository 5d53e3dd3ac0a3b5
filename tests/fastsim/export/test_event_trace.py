"""``--event-trace``: JSON lines, an event each."""

import json
from pathlib import Path

import pytest
from simulate_calls import run, some_workload

import fastsim
from fastsim.export.event_trace import KINDS, write_event_trace
from fastsim.export.window import Window

_KEYS = ["id", "kind", "start_s", "duration_s", "replica", "stage", "request", "batch"]


def lines(result: fastsim.SimulationResult, path: Path, window: Window | None = None) -> list[dict]:
    count = write_event_trace(result, path, window or Window())
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(found) == count
    return found


@pytest.mark.parametrize("stages", [1, 2])
def test_every_event_of_a_run(stages: int, tmp_path: Path):
    result = run(some_workload(50), record_batches=True, pipeline_parallel=stages, replicas=2)
    events = lines(result, tmp_path / "events.jsonl")
    assert [event["id"] for event in events] == list(range(len(events)))
    assert all(list(event) == _KEYS for event in events)
    starts = [event["start_s"] for event in events]
    assert starts == sorted(starts)
    by_kind = {kind: [event for event in events if event["kind"] == kind] for kind in KINDS}
    assert result.batches is not None
    assert len(by_kind["batch"]) == len(result.batches)
    assert sum(event["duration_s"] for event in by_kind["batch"]) == pytest.approx(
        (result.batches["end_s"] - result.batches["start_s"]).sum()
    )
    assert len({(event["batch"], event["stage"]) for event in by_kind["batch"]}) == len(by_kind["batch"])
    assert {event["stage"] for event in by_kind["batch"]} == set(range(stages))
    assert result.requests is not None
    for row in result.requests.iter_rows(named=True):
        durations = [
            event["duration_s"]
            for kind in ("queued", "prefill", "decode")
            for event in by_kind[kind]
            if event["request"] == row["request_id"]
        ]
        assert sum(durations) == pytest.approx(row["e2e_s"], abs=1e-8)


def test_a_window(tmp_path: Path):
    result = run(some_workload(100), record_batches=True)
    events = lines(result, tmp_path / "events.jsonl", Window(1.0, 2.0))
    assert events
    assert all(event["start_s"] < 2.0 and event["start_s"] + event["duration_s"] > 1.0 - 1e-8 for event in events)
    assert len(events) < len(lines(result, tmp_path / "events.jsonl"))


def test_engines_of_a_replica_are_told_apart(tmp_path: Path):
    result = run(some_workload(50), record_batches=True, data_parallel=2, record_metrics=True)
    events = lines(result, tmp_path / "events.jsonl")
    assert {(event["replica"], event["engine"]) for event in events} == {(0, 0), (0, 1)}
