"""Searches on a real Ray cluster of two worker processes on this machine."""

import gc
import json
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from simulate_calls import SMALL, some_workload

import fastsim
from fastsim import SimulationConfig
from fastsim.searching import ray_executor
from fastsim.searching.limits import read_limits
from fastsim.searching.ray_executor import RayExecutor
from fastsim.searching.runner import search
from fastsim.searching.shared import SharedTables
from fastsim.searching.tasks import FAILED, OK, REFUSED, Outcome, Task, run_task

OPTIONS = {"name": "vllm_v1", "max_num_seqs": [4, 16], "max_num_batched_tokens": [64, 128]}
SPACE = {"max_model_len": 512, "num_kv_blocks": 200, "scheduler": OPTIONS}
SLO = {"ttft_s": {"p90": 0.5}}
#: Longer than anybody waits for a worker [s].
PATIENCE_S = 120.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Two workers of one core each; processes and files of Ray are gone afterwards."""
    ray = pytest.importorskip("ray", reason="the extra ray is not installed")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    for attempt in reversed(range(3)):  # Ray waits for itself for half a minute, beside whatever else runs
        try:
            ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=1 << 27)
            break
        except Exception:
            leave(ray)
            if not attempt:
                raise
    yield
    leave(ray)


def leave(ray) -> None:
    """End all processes of Ray, which lets go of them while the last still end."""
    ray.shutdown()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def a_task(config: SimulationConfig, name: str = "short") -> Task:
    return Task(config, name, read_limits(SLO), 0.1)


def tasks(*sequences: int) -> list[Task]:
    options = SMALL["scheduler_options"]
    return [
        a_task(SimulationConfig(**SMALL | {"scheduler_options": options | {"max_num_seqs": most}}))
        for most in sequences
    ]


def without_time(outcome: Outcome) -> dict:
    """All but wall times, as a journal has it."""
    told = json.loads(json.dumps(outcome.as_dict()))
    for probe in (told["capacity"] or {"probes": [], "at_capacity": {}})["probes"]:
        probe.pop("wall_s")
    if told["capacity"] is not None:
        told["capacity"]["at_capacity"].pop("wall_s")
    return told | {"wall_s": 0.0}


def kill_the_worker_that_writes(path: Path) -> None:
    """As soon as it has written its number."""
    for _ in range(int(PATIENCE_S / 0.05)):
        if path.exists():
            os.kill(int(path.read_text()), signal.SIGKILL)
            return
        time.sleep(0.05)


def test_with_a_worker_killed_in_the_middle_the_frame_is_that_of_threads(cluster: None, tmp_path: Path):
    in_the_middle, again = tmp_path / "worker", tmp_path / "again"

    def stops_once(task, workload, tables):
        """Hold still, once, in the middle of a task, until somebody kills this process."""
        outcome = run_task(task, workload, tables)
        if task.config.batch_policy.max_num_batched_tokens == 128 and task.config.batch_policy.max_num_seqs == 4:
            if not in_the_middle.exists():
                (tmp_path / "writing").write_text(str(os.getpid()))
                (tmp_path / "writing").rename(in_the_middle)
                time.sleep(PATIENCE_S)
            again.write_text(str(os.getpid()))
        return outcome

    workloads = {"short": some_workload(60), "long": some_workload(120, seed=1)}
    killer = threading.Thread(target=kill_the_worker_that_writes, args=(in_the_middle,))
    killer.start()
    frame = search(
        SPACE,
        workloads,
        SLO,
        tolerance=0.1,
        executor=lambda given: RayExecutor(given, stops_once),
        directory=tmp_path / "search",
    )
    killer.join()
    assert again.read_text() != in_the_middle.read_text()
    by_threads = search(SPACE, workloads, SLO, tolerance=0.1, threads=2)
    assert set(frame["status"]) == {OK}
    assert frame.drop("wall_s").equals(by_threads.drop("wall_s"))
    # The journal is here, and whole: nothing is left to run.
    resumed = search(SPACE, workloads, SLO, tolerance=0.1, executor="ray", directory=tmp_path / "search", resume=True)
    assert resumed.equals(frame)


def test_a_task_that_kills_every_worker_fails_alone(cluster: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ray_executor, "RETRIES", 1)
    deadly, harmless = tasks(4, 16)

    def dies(task, workload, tables):
        if task.config_id == deadly.config_id:
            os.kill(os.getpid(), signal.SIGKILL)
        return run_task(task, workload, tables)

    workloads, found = {"short": some_workload(60)}, {}
    executor = RayExecutor(workloads, dies)
    executor.run([deadly, harmless], lambda outcome: found.update({outcome.config_id: outcome}))
    executor.close()
    assert found[deadly.config_id].status == FAILED
    assert "WorkerCrashedError" in found[deadly.config_id].reason
    here = run_task(harmless, workloads["short"], SharedTables())
    assert without_time(found[harmless.config_id]) == without_time(here)


def test_what_cannot_have_tables_is_refused_by_the_driver(cluster: None, monkeypatch: pytest.MonkeyPatch):
    def none_there(*_) -> None:
        raise fastsim.ConfigError("device", "h100_sxm", "has no tables", "choose another")

    executor, found = RayExecutor({"short": some_workload(60)}), []
    monkeypatch.setattr(executor.tables, "of", none_there)
    executor.run(tasks(4), found.append)
    executor.close()
    assert found[0].status == REFUSED
    assert "has no tables" in found[0].reason


def test_what_done_raises_ends_the_run(cluster: None):
    executor, seen = RayExecutor({"short": some_workload(60)}), []

    def full(outcome: Outcome) -> None:
        seen.append(outcome)
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space left"):
        executor.run(tasks(4, 8, 16), full)
    executor.close()
    assert len(seen) == 1


def test_a_worker_of_another_version_does_not_answer(monkeypatch: pytest.MonkeyPatch):
    task = tasks(4)[0]
    outcome = ray_executor._on_worker(run_task, task, some_workload(5), None, "0.0.1")
    assert (outcome.key, outcome.status) == (task.key, FAILED)
    assert f"the worker has fastsim {fastsim.__version__}, and the driver 0.0.1" in outcome.reason


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(fastsim.ConfigError, match=r"pip install 'fastsim-llm\[ray\]'"):
        RayExecutor({})
