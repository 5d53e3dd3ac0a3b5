import json
from collections import Counter

import pytest
from run_files import REPOSITORY

from fastsim.commands.search_file import read_search_file, read_space, read_workloads
from fastsim.searching.rows import rows_of

FILE = REPOSITORY / "bench" / "paper_search.toml"


@pytest.fixture(scope="module")
def space():
    return read_space(read_search_file(str(FILE)))


def test_the_papers_space_has_its_models_devices_splits_schedulers_and_caps(space):
    assert space.axes == (
        "model",
        "device",
        "tensor_parallel",
        "pipeline_parallel",
        "scheduler",
        "scheduler.max_num_batched_tokens",
        "scheduler.max_num_seqs",
        "scheduler.chunk_size",
    )
    assert space.size == 4 * 2 * 3 * 3 * 5 * 5
    assert read_search_file(str(FILE)).slo == {"scheduling_delay_s": {"p99": "5s"}}


def test_every_configuration_is_built_or_pruned_with_a_reason(space):
    file = read_search_file(str(FILE))
    workloads = read_workloads(file, space, 0)
    assert {name: len(workload) for name, workload in workloads.items()} == dict.fromkeys(
        ("chat-1m", "arxiv-4k", "bwb-4k"), 1000
    )
    candidates = space.candidates()
    assert len(candidates) == space.size
    assert all(candidate.config is not None for candidate in candidates)
    rows = rows_of(candidates, workloads)
    assert Counter(row.status for row in rows).keys() == {"", "does_not_fit"}
    assert all(bool(row.reason) == (row.status == "does_not_fit") for row in rows)
    # Weights alone: 14 GB fit into one GPU of 80 GB and 67 GB do, 138 and 145 GB need two.
    least = {}
    for row in rows:
        if not row.status:
            least[row.candidate.config.model] = min(row.gpus, least.get(row.candidate.config.model, row.gpus))
    assert least == {
        "meta-llama/Llama-2-7b-hf": 1,
        "codellama/CodeLlama-34b-Instruct-hf": 1,
        "meta-llama/Llama-2-70b-hf": 2,
        "Qwen/Qwen-72B": 4,
    }


def test_the_bench_runs_and_says_what_it_took_and_found(script, capsys, monkeypatch):
    search = script("search")
    monkeypatch.setattr(search, "_SMOKE", search._SMOKE | {"tensor_parallel": [1, 2], "scheduler": "sarathi"})
    monkeypatch.setattr("sys.argv", ["search.py", "--smoke", "--json"])
    assert search.main() == 0
    told = json.loads(capsys.readouterr().out)
    (work,) = told["rows"]
    assert work["rows"] == work["capacities"] == 2 * 3
    assert work["simulated_requests"] > 0
    assert work["simulated_configurations_per_s"] == pytest.approx(work["probes"] / work["wall_s"])
    best, mismatch, (findings,) = (told["all"][name] for name in ("best", "mismatch", "findings"))
    assert [row["workload"] for row in best] == ["chat-1m", "arxiv-4k", "bwb-4k"]
    assert all(row["factor"] >= 1 for row in mismatch)
    assert findings["largest_factor"] == max(row["factor"] for row in mismatch)


def test_findings_of_bests_and_mismatches(script):
    search = script("search")
    bests = [
        {"model": "a", "best": "tp 1"},
        {"model": "a", "best": "tp 2"},
        {"model": "b", "best": "tp 1"},
        {"model": "b", "best": "tp 1"},
    ]
    mismatches = [
        {"factor": 1.0, "least_factor": 1.0},
        {"factor": 1.8, "least_factor": 1.2},
        {"factor": None, "least_factor": 1.4},
    ]
    assert search.describe_findings(bests, mismatches) == {
        "models": 2,
        "models_whose_best_depends_on_the_workload": 1,
        "different_bests": 3,
        "largest_factor": 1.8,
        "largest_least_factor": 1.4,
        "without_a_capacity": 1,
    }
