"""``fastsim search``: what it reads, prints, writes and refuses."""

import json
from pathlib import Path

import polars as pl
import pytest
from cli_calls import Cli

from fastsim.commands import search_line
from fastsim.commands.search_line import SearchLine, describe
from fastsim.searching import runner
from fastsim.searching.evaluator import Progress

FILE = """
[space]
tensor_parallel = [1, 2]
max_model_len = 512
num_kv_blocks = 200
[[space.scheduler]]
name = "vllm_v1"
max_num_seqs = [9, 16]
max_num_batched_tokens = 128
[[space.scheduler]]
name = "sarathi"
max_num_seqs = 16
chunk_size = 96
[workload]
lengths = { name = "uniform", prompt_min = 10, prompt_max = 200, output_min = 5, output_max = 80 }
requests = 150
[slo]
ttft_s = { p90 = "500ms" }
[search]
tolerance = 0.05
threads = 1
"""

# Warnings become notes on stderr, as in a process of their own; under the "error" of the other tests they would raise.
pytestmark = pytest.mark.filterwarnings("default::UserWarning")


@pytest.fixture
def space(tmp_path: Path) -> Path:
    path = tmp_path / "space.toml"
    path.write_text(FILE)
    return path


def test_a_search_prints_the_best_and_where_its_files_are(cli: Cli, space: Path, tmp_path: Path):
    out = tmp_path / "out"
    done = cli("search", space, "--out", out)
    assert done.code == 0, done.err
    frame = pl.read_parquet(out / "configurations.parquet")
    best = frame.sort("qps_per_dollar", descending=True).to_dicts()[0]
    told = " ".join(done.out.split())
    assert f"[{best['config_id']}]" in told
    assert "tp 1" in told
    assert f"held back by {best['binding']}" in told
    assert "workload: the best 6 of 6" in told
    assert f"written to {out}" in done.out
    assert max(map(len, done.out.splitlines())) < 200
    record = json.loads((out / "search.json").read_text())
    assert record["slo"] == [{"metric": "ttft_s", "quantile": "p90", "limit": 0.5}]
    assert (record["tolerance"], record["strategy"]) == (0.05, "exhaustive")
    assert record["workloads"]["workload"]["requests"] == 150
    assert record["findings"]["cases"][0]["best"]["config_id"] == best["config_id"]
    again = cli("search", space, "--out", out)
    assert again.code == 2
    assert "already holds a search, of which 6 runs have ended" in again.err
    resumed = cli("search", space, "--out", out, "--resume", "--json")
    assert json.loads(resumed.out)["counts"]["resumed"] == 6
    assert json.loads(resumed.out)["best"] == record["best"]


def test_flags_go_before_the_file(cli: Cli, space: Path):
    done = cli("search", space, "--slo", "tpot_p99=1s,ttft=400ms,attainment=90%", "--strategy", "halving", "--json")
    assert done.code == 0, done.err
    record = json.loads(done.out)
    assert [limit["metric"] for limit in record["slo"]] == ["tpot_s", "attainment"]
    assert record["space"]["fields"]["slo"] == [{"ttft_s": 0.4}]
    assert record["strategy"] == "halving"


def test_several_workloads_and_what_does_not_fit(cli: Cli, tmp_path: Path):
    path = tmp_path / "space.toml"
    path.write_text(
        FILE.replace("[workload]", "[workloads.chat]").replace("num_kv_blocks = 200", "num_kv_blocks = [3, 200]")
        + "requests = 60\n[workloads.short]\nlengths = { name = 'fixed', prompt = 20, output = 10 }\n"
    )
    done = cli("search", path)
    assert done.code == 0, done.err
    assert "chat: the best " in done.out
    assert "short: the best " in done.out
    assert "what is the best for another" in done.out
    assert "6 of 24 do not fit:" in done.out
    assert "num_kv_blocks 3 holds" in done.out


def test_windows_of_a_workload_are_workloads(cli: Cli, tmp_path: Path, space: Path):
    path = tmp_path / "windows.toml"
    path.write_text(space.read_text().replace("[workload]", "[workload]\nwindows = '4s'"))
    done = cli("search", path, "--json")
    assert done.code == 0, done.err
    record = json.loads(done.out)
    assert list(record["workloads"])[:2] == ["0-4 s", "4-8 s"]
    assert sum(one["requests"] for one in record["workloads"].values()) == 150
    assert record["findings"]["regret"][0]["regret"] >= 0
    path.write_text(space.read_text().replace("[workload]", "[workloads.day]\nwindows = 'often'"))
    assert "length 'often' is not a time" in cli("search", path).err


def test_the_longest_request_of_a_trace_makes_room_for_itself(cli: Cli, tmp_path: Path, make_trace):
    trace = make_trace("0.0,9000,10", "1.0,20,10", "2.0,20,10")
    path = tmp_path / "space.toml"
    path.write_text(f"[space]\nnum_kv_blocks = 2000\n[workload]\ntrace = '{trace}'\n[search]\ntrials = 2\n")
    done = cli("search", path)
    assert done.code == 2
    assert "note: max_model_len raised from 8192 to 9010" in done.err
    assert "trials 2 means nothing to strategy exhaustive" in done.err


def test_an_interrupt_says_how_to_go_on(cli: Cli, space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupted(*_, **__) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "run_search", interrupted)
    done = cli("search", space, "--out", tmp_path / "out")
    assert done.code == 130
    assert f"go on with: fastsim search {space} --out {tmp_path / 'out'} --resume" in done.err


BAD = [
    ("not toml", ["is not TOML"]),
    ("[spce]\n", ["spce", "[space], [workload], [workloads], [slo], [search]"]),
    ("space = 3\n", ["space 3", "section [space]"]),
    ("[workload]\n", ["has no space"]),
    ("[space]\nchips = 3\n", ["space.chips 3", "model, device"]),
    ("[space]\ntensor_parallel = []\n", ["space.tensor_parallel []", "has no values"]),
    ("[space]\ntensor_parallel = ['many']\n", ["tensor_parallel 'many'", "whole number"]),
    ("[space]\nmodel = ['Llama-9']\n", ["'Llama-9'"]),
    ("[space]\ndevice = ['abacus']\n[workload]\nrequests = 5\n", ["'abacus'"]),
    ("[space]\n[workload]\nqqs = 3\n", ["qqs 3", "workload", "qps"]),
    ("[space]\n[workload]\nrequests = 0\n", ["requests 0"]),
    ("[space]\n[workload]\n[workloads.a]\n", ["workloads", "beside [workload]"]),
    ("[space]\n[workloads]\na = 5\n", ["workloads.a 5", "section [workloads.a]"]),
    ("[space]\n[slo]\nttft_s = 3\n", ["slo.ttft_s 3", "names no quantile"]),
    ("[space]\n[slo]\nspeed = { p90 = 3 }\n", ["slo 'speed'"]),
    ("[space]\n[search]\nspeed = 3\n", ["search.speed 3", "strategy, tolerance"]),
    ("[space]\n[search]\nstrategy = 'luck'\n", ["strategy 'luck'", "exhaustive, halving, tpe"]),
    ("[space]\n[search]\nseed = 'x'\n", ["seed 'x'", "whole number"]),
]


@pytest.mark.parametrize(("text", "words"), BAD)
def test_a_bad_file_is_refused_in_one_sentence(cli: Cli, tmp_path: Path, text: str, words: list[str]):
    path = tmp_path / "space.toml"
    path.write_text(text)
    done = cli("search", path)
    assert done.code == 2, done
    assert done.out == ""
    complaint = done.err.splitlines()[-1]
    assert complaint.startswith("fastsim: ")
    assert all(word in complaint for word in words), complaint


def test_bad_flags_are_refused(cli: Cli, space: Path, tmp_path: Path):
    assert "space is missing" in cli("search").err
    assert "cannot be read (No such file or directory)" in cli("search", tmp_path / "none.toml").err
    assert "resume True has no journal" in cli("search", space, "--resume").err
    assert "slo 'fast' is not a list of limits" in cli("search", space, "--slo", "fast").err
    assert "threads 'few' is not a whole number" in cli("search", space, "--threads", "few").err


def test_progress_in_words():
    assert describe(Progress(0, 0, 40), 3.0) == f"[{'':20}] 0 of 40 runs, building tables"
    assert describe(Progress(30, 10, 40), 4.0) == f"[{'#' * 15:20}] 30 of 40 runs, 5 a second, 2 s to go"
    assert describe(Progress(1, 0, 1001), 2.0).endswith("0.5 a second, 33 min to go")


def test_the_line_speaks_once_it_takes_long(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    monkeypatch.setattr(search_line.progress, "PATIENCE_S", 0.0)
    with SearchLine() as line:
        line.tell(Progress(1, 0, 2))
        while "1 of 2 runs" not in capsys.readouterr().err:
            pass
    capsys.readouterr()  # the end of its line, which is written after the words
    monkeypatch.setattr(search_line.progress, "PATIENCE_S", 1e6)
    with SearchLine() as line:
        line.tell(Progress(1, 0, 2))
    assert capsys.readouterr().err == ""
