"""Searches: what the frame says, that it depends on nothing else, and that no kill loses what has ended."""

import functools
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from search_cases import SLO, SPACE, Oracle, made_up_capacity, search_workload, without_wall_time

import fastsim
from fastsim import ConfigError, SimulationConfig
from fastsim.searching.evaluator import Progress
from fastsim.searching.frames import axes_of
from fastsim.searching.journal import NAME
from fastsim.searching.runner import run_search
from fastsim.searching.space import Space
from fastsim.searching.tasks import FAILED, Outcome, Task


@pytest.fixture(scope="module")
def undisturbed() -> pl.DataFrame:
    return fastsim.search(SPACE, search_workload(), SLO, threads=1)


def test_the_frame_says_what_capacity_says(undisturbed: pl.DataFrame):
    assert undisturbed["status"].to_list() == ["ok"] * 8
    assert axes_of(undisturbed) == list(Space.read(SPACE).axes)
    for candidate, row in zip(Space.read(SPACE).candidates()[::3], undisturbed.to_dicts()[::3], strict=True):
        found = fastsim.capacity(candidate.config, search_workload(), SLO, tolerance=0.02)
        assert row["config_id"] == candidate.id
        assert (row["capacity_qps"], row["qps_low"], row["qps_high"]) == (found.qps, *found.bracket)
        assert row["ttft_p90_s"] == found.at_capacity.metrics["ttft_s.p90"] <= 0.5
        assert (row["binding"], row["long_enough"]) == (found.binding, found.long_enough)
        assert row["probes"] == len(found.probes)
        assert row["simulated_requests"] == sum(probe.requests for probe in found.probes)


def test_money_is_that_of_the_whole_deployment(undisturbed: pl.DataFrame):
    from estimators import load_device

    assert set(undisturbed["gpus"]) == {2}
    assert set(undisturbed["price_per_hour"]) == {2 * load_device("h100_sxm").price_per_hour}
    row = undisturbed.to_dicts()[0]
    assert row["qps_per_dollar"] == pytest.approx(row["capacity_qps"] * 3600 / row["price_per_hour"])
    oracle = functools.partial(Oracle, lambda task: 1.0)
    free = fastsim.search({"price_per_hour": 0.0}, search_workload(), executor=oracle)
    assert free["qps_per_dollar"].to_list() == [None]


def test_the_same_frame_on_any_number_of_threads(undisturbed: pl.DataFrame):
    several = fastsim.search(SPACE, search_workload(), SLO, threads=2)
    assert_frame_equal(without_wall_time(several), without_wall_time(undisturbed))


def test_files_say_the_same(undisturbed: pl.DataFrame, tmp_path: Path):
    workloads = {"chat": search_workload(), "code": search_workload(seed=1)}
    told: list[Progress] = []
    result = run_search(SPACE, workloads, SLO, threads=1, directory=tmp_path, progress=told.append)
    assert_frame_equal(pl.read_parquet(tmp_path / "configurations.parquet"), result.frame)
    chat = result.frame.filter(pl.col("workload") == "chat").drop("workload")
    assert_frame_equal(without_wall_time(chat), without_wall_time(undisturbed.drop("workload")))
    record = json.loads((tmp_path / "search.json").read_text())
    assert record == result.record
    assert record["axes"] == axes_of(result.frame)
    assert record["workloads"]["code"]["hash"] == workloads["code"].hash
    best = record["best"]["code"][SimulationConfig.model]
    code = result.frame.filter(pl.col("workload") == "code")
    assert best["qps_per_dollar"] == code["qps_per_dollar"].max()
    config = SimulationConfig.from_dict(best["config"])
    assert fastsim.capacity(config, workloads["code"], SLO, tolerance=0.02).qps == best["capacity_qps"]
    probes = pl.read_parquet(tmp_path / "probes.parquet")
    assert len(probes) == result.frame["probes"].sum() == record["counts"]["probes"]
    assert probes["requests"].sum() == record["counts"]["simulated_requests"]
    held = probes.filter("holds").group_by("config_id", "workload").agg(pl.col("qps").max())
    both = result.frame.join(held, on=["config_id", "workload"])
    assert both["qps"].to_list() == both["capacity_qps"].to_list()
    assert [(told[0].ended, told[-1].ended, told[-1].expected)] == [(0, 16, 16)]


#: A search in a process of its own; it ends only where nobody kills it.
_ALONE = """
import sys
sys.path[:0] = {paths!r}
from search_cases import SLO, SPACE, search_workload
import fastsim
if __name__ == "__main__":
    fastsim.search(SPACE, search_workload(4000), SLO, threads=2, directory=sys.argv[1], resume=True)
"""


def test_a_kill_at_any_moment_loses_only_what_was_in_flight(tmp_path: Path):
    """Four kills, each once the journal has grown by a few lines and at some moment after that."""
    root = Path(__file__).resolve().parents[3]
    paths = [str(root), str(root / "tests"), str(root / "tests" / "fastsim")]
    words = [sys.executable, "-c", _ALONE.format(paths=paths), str(tmp_path)]
    draw, kept, killed = random.Random(time.time_ns()), 0, 0
    while True:
        process = subprocess.Popen(words, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"})
        aim = kept + draw.randrange(3)
        while process.poll() is None and lines_of(tmp_path) <= aim:
            time.sleep(0.001)
        time.sleep(draw.random() * 0.02)
        if killed < 4 and process.poll() is None:
            process.send_signal(signal.SIGKILL)
            killed += 1
        _, complaint = process.communicate(timeout=300)
        assert process.returncode in (0, -signal.SIGKILL), complaint.decode()
        assert lines_of(tmp_path) >= kept  # nothing that had ended is lost
        kept = lines_of(tmp_path)
        if process.returncode == 0:
            break
    assert killed > 0
    expected = fastsim.search(SPACE, search_workload(4000), SLO, threads=2)
    found = pl.read_parquet(tmp_path / "configurations.parquet")
    assert_frame_equal(without_wall_time(found), without_wall_time(expected))


def lines_of(directory: Path) -> int:
    path = directory / NAME
    return path.read_bytes().count(b"\n") if path.exists() else 0


class Interrupted(Oracle):
    """An executor whose user has seen enough after a few runs."""

    def run(self, tasks, done) -> None:
        super().run(tasks[:3], done)
        raise KeyboardInterrupt


def test_an_interrupted_search_goes_on_where_it_was(tmp_path: Path):
    qps_of = lambda task: 1.0 + len(task.config.scheduler)  # noqa: E731
    with pytest.raises(KeyboardInterrupt):
        run_search(SPACE, search_workload(), directory=tmp_path, executor=functools.partial(Interrupted, qps_of))
    assert lines_of(tmp_path) == 4
    assert not (tmp_path / "search.json").exists()
    made: list[Oracle] = []

    def make(workloads) -> Oracle:
        made.append(Oracle(qps_of, workloads))
        return made[0]

    result = run_search(SPACE, search_workload(), directory=tmp_path, executor=make, resume=True)
    assert len(made[0].run_keys) == 5
    assert made[0].closed
    assert result.record["counts"]["resumed"] == 3
    alone = run_search(SPACE, search_workload(), executor=functools.partial(Oracle, qps_of))
    assert_frame_equal(result.frame, alone.frame)


class Failing(Oracle):
    """An executor whose runs fail."""

    def run(self, tasks, done) -> None:
        for task in tasks:
            done(Outcome(*task.key, FAILED, "MemoryError: none left", None, 0.1))


def test_what_failed_is_told_and_run_again_on_resuming(tmp_path: Path):
    made = functools.partial(Failing, None)
    failed = run_search(SPACE, search_workload(), directory=tmp_path, executor=made)
    assert set(failed.frame["status"]) == {"failed"}
    assert set(failed.frame["reason"]) == {"MemoryError: none left"}
    assert failed.record["best"] == {}
    working = functools.partial(Oracle, lambda task: 2.0)
    again = run_search(SPACE, search_workload(), directory=tmp_path, executor=working, resume=True)
    assert set(again.frame["status"]) == {"ok"}


def test_what_cannot_run_is_pruned_with_its_reason_before_anything_runs():
    space = {
        "model": ["meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-70B"],
        "tensor_parallel": [1, 8, 3],
        "max_model_len": [128, 8192],
    }
    ran: list[Task] = []
    oracle = functools.partial(Oracle, lambda task: ran.append(task) or 1.0)
    frame = fastsim.search(space, search_workload(), executor=oracle)
    by = {(row["model"], row["tensor_parallel"], row["max_model_len"]): row for row in frame.to_dicts()}
    small, large = space["model"]
    assert by[large, 1, 8192]["status"] == "does_not_fit"
    assert "give tensor_parallel = 2 or pipeline_parallel = 2" in by[large, 1, 8192]["reason"]
    assert by[small, 3, 8192]["status"] == "refused"
    assert by[small, 1, 128]["status"] == "refused"
    assert "max_model_len 128 is shorter than request" in by[small, 1, 128]["reason"]
    assert by[small, 1, 8192]["status"] == by[large, 8, 8192]["status"] == "ok"
    assert {(task.config.model, task.config.tensor_parallel) for task in ran} == {(small, 1), (small, 8), (large, 8)}
    pruned = frame.filter(pl.col("status") != "ok")
    assert pruned["capacity_qps"].null_count() == pruned["probes"].null_count() == len(pruned)


def test_no_rate_that_holds_is_a_capacity_of_nothing_with_its_reason():
    class Hopeless(Oracle):
        def run(self, tasks, done) -> None:
            for task in tasks:
                capacity = made_up_capacity(0.0) | {"why": "no rate holds: even at 0.1 requests/s p90 TTFT 9 s"}
                done(Outcome(*task.key, "ok", "", capacity, 0.1))

    result = run_search({}, search_workload(), executor=functools.partial(Hopeless, None))
    row = result.frame.to_dicts()[0]
    assert (row["status"], row["capacity_qps"], row["ttft_p90_s"]) == ("ok", 0.0, None)
    assert row["reason"].startswith("no rate holds")
    assert result.record["best"] == {}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"strategy": "luck"}, ["strategy 'luck'", "exhaustive, halving, tpe"]),
        ({"executor": "cloud"}, ["executor 'cloud'", "threads, ray"]),
        ({"threads": 0}, ["threads 0"]),
        ({"trials": 3}, ["trials 3", "strategy exhaustive"]),
        ({"resume": True}, ["resume", "give the directory"]),
        ({"tolerance": "loose"}, ["tolerance 'loose'"]),
        ({"tolerance": 0.9}, ["tolerance 0.9", "0.0001 to 0.5"]),
        ({"slo": {"speed": {"p90": 1}}}, ["slo 'speed'"]),
        ({"workload": {}}, ["workload", "is none"]),
        ({"workload": {"chat": 5}}, ["workload 'chat'"]),
    ],
)
def test_refusals(arguments: dict, words: list[str]):
    with pytest.raises(ConfigError) as caught:
        fastsim.search(**{"space": SPACE, "workload": search_workload()} | arguments)
    assert all(word in str(caught.value) for word in words), caught.value


def test_the_journal_of_another_workload_is_refused(tmp_path: Path):
    oracle = functools.partial(Oracle, lambda task: 1.0)
    fastsim.search(SPACE, search_workload(), directory=tmp_path, executor=oracle)
    with pytest.raises(ConfigError, match="differs in workloads"):
        fastsim.search(SPACE, search_workload(seed=1), directory=tmp_path, executor=oracle, resume=True)
    with pytest.raises(ConfigError, match="differs in slo"):
        fastsim.search(SPACE, search_workload(), SLO, directory=tmp_path, executor=oracle, resume=True)
