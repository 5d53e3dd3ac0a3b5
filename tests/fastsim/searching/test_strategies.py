"""Strategies against trying everything."""

import functools

import pytest
from search_cases import SLO, SPACE, Oracle, search_workload

from fastsim import ConfigError, SimulationConfig
from fastsim.searching.runner import SearchResult, run_search
from fastsim.searching.strategies import rungs
from fastsim.searching.tasks import Task

MODEL = SimulationConfig.model
#: 96 configurations in a made-up order, see `qps_of`.
LARGE = {
    "tensor_parallel": [1, 2, 4, 8],
    "scheduler": [
        {"name": "sarathi", "max_num_seqs": [32, 64, 128, 256], "chunk_size": [128, 256, 512, 1024]},
        {"name": "vllm_v1", "max_num_seqs": [32, 64, 128, 256, 512, 1024, 2048, 16]},
    ],
}


def qps_of(task: Task) -> float:
    """A made-up capacity: smooth, and for short runs a little too high and not quite in order."""
    config = task.config
    policy = config.batch_policy
    chunk = getattr(policy, "chunk_size", 2048)
    per_gpu = 10 + policy.max_num_seqs**0.5 / 4 - abs(config.tensor_parallel - 4) - abs(chunk - 512) / 256
    noise = 1 + (0.04 * (hash((config.tensor_parallel, chunk)) % 3) if task.requests is not None else 0.0)
    return max(per_gpu, 1.0) * config.tensor_parallel * noise


def searched(strategy: str, workloads=None, **more) -> SearchResult:
    oracle = functools.partial(Oracle, qps_of)
    return run_search(LARGE, workloads or search_workload(1800), strategy=strategy, executor=oracle, **more)


@pytest.fixture(scope="module")
def exhaustive() -> SearchResult:
    return searched("exhaustive")


def test_halving_finds_the_best_with_a_third_of_the_work(exhaustive: SearchResult):
    found = searched("halving")
    assert found.record["best"] == exhaustive.record["best"]
    assert found.record["counts"]["simulated_requests"] < 0.5 * exhaustive.record["counts"]["simulated_requests"]
    assert len(found.frame) == len(exhaustive.frame)
    dropped = found.frame.filter(found.frame["status"] == "dropped")
    assert len(dropped) > 0.5 * len(found.frame)
    assert set(dropped["reason"]) <= {f"dropped after a run of {length} requests" for length in (200, 600)}
    # What was not dropped had runs as long as everything has in an exhaustive search.
    whole = found.frame.filter(found.frame["status"] == "ok")
    assert set(whole["requests"]) == {1800}


def test_halving_keeps_what_cannot_be_told_from_the_last_of_the_best_third():
    found = run_search(
        {"seed": list(range(9))},
        search_workload(1800),
        strategy="halving",
        executor=functools.partial(Oracle, lambda task: 5.0 + (task.config.seed > 6) - (task.config.seed == 0)),
    )
    # Two are better, six are equal, one of them the third of nine, and one is worse.
    assert [row["seed"] for row in found.frame.to_dicts() if row["requests"] == 200] == [0]
    assert sum(row["status"] == "dropped" for row in found.frame.to_dicts()) >= 1


def test_short_workloads_have_fewer_rungs_and_each_workload_its_own():
    assert rungs(1800) == [200, 600, None]
    assert rungs(400) == [133, None]
    assert rungs(200) == [None]
    workloads = {"long": search_workload(1800), "short": search_workload(200)}
    found = searched("halving", workloads)
    assert set(found.record["best"]) == {"long", "short"}
    short = found.frame.filter(found.frame["workload"] == "short")
    assert set(short["status"]) == {"ok"}
    assert set(short["requests"]) == {200}


def test_tpe_comes_near_the_best_with_fewer_runs(exhaustive: SearchResult):
    pytest.importorskip("optuna")
    found = searched("tpe", trials=32)
    assert found.record["counts"]["runs"] == 32
    assert found.frame["config_id"].n_unique() == len(found.frame)
    best, most = (one.record["best"]["workload"][MODEL]["qps_per_dollar"] for one in (found, exhaustive))
    assert best >= 0.95 * most
    assert searched("tpe", trials=32).frame.equals(found.frame)
    other = searched("tpe", trials=32, seed=1)
    assert other.frame["config_id"].to_list() != found.frame["config_id"].to_list()


def test_tpe_stays_within_a_small_space_and_passes_over_what_cannot_run():
    pytest.importorskip("optuna")
    oracle = functools.partial(Oracle, lambda task: 1.0)
    space = {"model": ["meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-70B"], "tensor_parallel": [1, 8]}
    found = run_search(space, search_workload(), strategy="tpe", executor=oracle)
    assert sorted(found.frame["status"]) == ["does_not_fit", "ok", "ok", "ok"]


def test_tpe_without_optuna_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    import sys

    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"strategy 'tpe' needs optuna; pip install 'fastsim-llm\[optuna\]'"):
        searched("tpe")


def test_strategies_agree_on_a_space_that_is_simulated():
    workload = search_workload(900)
    everything = run_search(SPACE, workload, SLO, threads=1)
    halved = run_search(SPACE, workload, SLO, strategy="halving", threads=2)
    assert halved.record["best"] == everything.record["best"]
    pytest.importorskip("optuna")
    proposed = run_search(SPACE, workload, SLO, strategy="tpe", trials=8, threads=2)
    assert proposed.record["best"] == everything.record["best"]


@pytest.mark.parametrize("strategy", ["halving", "tpe"])
def test_models_are_not_compared_with_each_other(strategy: str):
    pytest.importorskip("optuna")
    models = ["meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.2-1B"]
    oracle = functools.partial(Oracle, lambda task: (1.0 if "8B" in task.config.model else 9.0) + task.config.replicas)
    space = {"model": models, "replicas": list(range(1, 10)), "price_per_hour": 0.0}
    found = run_search(space, search_workload(900), strategy=strategy, executor=oracle)
    assert {model: one["capacity_qps"] for model, one in found.record["best"]["workload"].items()} == {
        models[0]: 10.0,
        models[1]: 18.0,
    }
