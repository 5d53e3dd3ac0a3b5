"""``trace.json.gz``: by the rules of its format, and of what happened."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from plain_tables import plain_config, plain_tables
from simulate_calls import run, some_workload
from trace_rules import check_trace

import fastsim
from fastsim.errors import ConfigError
from fastsim.export.chrome_trace import write_trace
from fastsim.export.window import Window

#: Runs that differ in who is when in which batch.
CASES = {
    "plain": {},
    "replicas": {"replicas": 3},
    "stages": {"pipeline_parallel": 2},
    "engines": {"data_parallel": 2, "record_metrics": True},
    "engines of whom nobody knows who served": {"data_parallel": 2},
    "ahead": {"engine": "vllm-0.19"},
    "preempting": {"num_kv_blocks": 40, "max_model_len": 400},
    "front end": {"engine_options": {"ingress_s": 0.01, "egress_s": 0.02}},
}


def trace(result: fastsim.SimulationResult, path: Path, window: Window | None = None) -> list[dict]:
    count = write_trace(result, path, window or Window())
    whole = json.loads(gzip.decompress(path.read_bytes()))
    assert whole["displayTimeUnit"] == "ms"
    assert len(whole["traceEvents"]) == count
    return whole["traceEvents"]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("window", [Window(), Window(1.0, 1.5)])
def test_every_trace_keeps_the_rules_of_the_format(name: str, window: Window, tmp_path: Path):
    result = run(some_workload(60), record_batches=True, **CASES[name])
    by_phase = check_trace(trace(result, tmp_path / "trace.json.gz", window))
    assert by_phase["X"]
    assert by_phase["b"]
    assert by_phase["C"]


@pytest.mark.parametrize("name", [name for name in CASES if "nobody" not in name])
def test_every_request_is_followed_from_its_first_batch_to_its_last(name: str, tmp_path: Path):
    result = run(some_workload(60), record_batches=True, **CASES[name])
    events = trace(result, tmp_path / "trace.json.gz")
    begins = {event["id"]: event for event in events if event["ph"] == "b" and event["name"].startswith("request")}
    ends = {event["id"]: event for event in events if event["ph"] == "e" and event["name"].startswith("request")}
    assert len(begins) == len(ends) == 60
    flows = {}
    for event in events:
        if event["ph"] in "stf":
            flows.setdefault(event["id"], []).append(event)
    requests = result.requests
    assert requests is not None
    for row in requests.iter_rows(named=True):
        number = str(row["request_id"])
        assert begins[number]["ts"] == pytest.approx(row["arrival_s"] * 1e6, abs=1e-3)
        assert ends[number]["ts"] == pytest.approx(row["completed_s"] * 1e6, abs=1e-3)
        if row["output_tokens"] > 1:
            assert flows[number][0]["ts"] >= row["scheduled_s"] * 1e6
            assert flows[number][-1]["ts"] <= row["completed_s"] * 1e6
            assert len(flows[number]) in (2, 3)


def test_a_run_of_one_request_in_full(tmp_path: Path):
    workload = fastsim.Workload.from_arrays([2.0], [100], [3])
    result = run(workload, record_batches=True)
    events = trace(result, tmp_path / "trace.json.gz")
    slices = [event for event in events if event["ph"] == "X"]
    assert [event["name"] for event in slices] == ["prefill", "decode", "decode"]
    # An iteration takes 10 ms, and 10 us for each token.
    assert [event["ts"] for event in slices] == pytest.approx([2e6, 2_011_000, 2_021_010])
    assert [event["dur"] for event in slices] == pytest.approx([11_000, 10_010, 10_010])
    assert slices[0]["args"] == {
        "batch": 0,
        "decodes": 0,
        "prefills": 1,
        "prefill_tokens": 100,
        "decode_kv_tokens": 0,
        "kv_blocks": 7,
        "preempted": 0,
    }
    flow = [(event["ph"], event["ts"]) for event in events if event["ph"] in "stf"]
    assert flow == [("s", pytest.approx(2_005_500)), ("f", pytest.approx(2_026_015))]
    running = [event["args"] for event in events if event["ph"] == "C" and event["name"] == "requests"]
    assert running == [{"waiting": 0, "running": 1}, {"waiting": 0, "running": 0}]
    tokens = [event["args"] for event in events if event["ph"] == "C" and event["name"] == "tokens of the batch"]
    assert tokens[0] == {"decode": 0, "prefill": 100}
    assert tokens[-1] == {"decode": 0, "prefill": 0}


def test_a_window_has_the_same_batches_whether_or_not_all_were_kept(tmp_path: Path):
    config = plain_config(16, 128)
    tables = plain_tables(config, 0.01, 1e-5)
    workload = some_workload(200)
    window = Window(2.0, 3.0)
    whole = fastsim.simulate(config.with_fields(record_batches=True), workload, tables)
    part = fastsim.simulate(config, workload, tables, batch_window=window)
    assert part.batches is None
    assert "record_batches" in part.summary["config"]
    assert not part.summary["config"]["record_batches"]
    traces = [trace(result, tmp_path / "trace.json.gz", window) for result in (whole, part)]
    assert traces[0] == traces[1]
    slices = [event for event in traces[0] if event["ph"] == "X"]
    assert min(event["ts"] + event["dur"] for event in slices) > 2e6
    assert max(event["ts"] for event in slices) < 3e6


def test_a_log_of_a_window_stays_short():
    from fastsim.kernel.prepare import with_longer_log

    result = run(some_workload(100), record_batches=True)
    state = result.state
    used = int(state.cluster["num_batches"][0])
    full = state._replace(batches=state.batches[:used].copy(), cluster=state.cluster.copy())
    kept = full.batches[full.batches["start_s"] < 1.0]
    assert 0 < len(kept) < used / 4
    shorter = with_longer_log(full, (0.0, 1.0))
    assert len(shorter.batches) == used
    assert int(shorter.cluster["num_batches"][0]) == len(kept)
    assert (np.asarray(shorter.batches[: len(kept)]) == np.asarray(kept)).all()


def test_counts_of_requests_at_the_beginning_of_a_window_include_those_before_it(tmp_path: Path):
    workload = fastsim.Workload.from_arrays([0.0, 0.0, 5.0], [10, 10, 10], [20, 99, 5])
    result = run(workload, record_batches=True)
    events = trace(result, tmp_path / "trace.json.gz", Window(0.5, 0.7))
    counts = [(event["ts"], event["args"]) for event in events if event["ph"] == "C" and event["name"] == "requests"]
    assert counts == [(500_000, {"waiting": 0, "running": 1})]


def test_equal_runs_give_equal_files(tmp_path: Path):
    paths = [tmp_path / "a.json.gz", tmp_path / "b.json.gz"]
    for path in paths:
        write_trace(run(some_workload(30), record_batches=True), path)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_run_without_its_batch_log_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="record_batches"):
        write_trace(run(some_workload(10)), tmp_path / "trace.json.gz")
    assert not list(tmp_path.iterdir())
