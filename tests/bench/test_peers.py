"""What bench/peers.py writes is the same requests in each format, and what it prints fits them and the page."""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import polars as pl
import pytest
from run_files import REPOSITORY

import traces
from fastsim.cli import main

Script = Callable[[str], ModuleType]
NUMBER = 40


@pytest.fixture(scope="module")
def peers(script: Script) -> ModuleType:
    return script("peers")


@pytest.fixture(scope="module")
def workload(peers: ModuleType) -> traces.Workload:
    return peers.requests_of(NUMBER, 1.2)


@pytest.fixture(scope="module")
def folder(peers: ModuleType, workload: traces.Workload, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("peers") / "new"
    peers.write(workload, out)
    return out


@pytest.mark.parametrize(
    ("name", "most_s"), [("vidur.csv", 0.0), ("llmservingsim.jsonl", 1e-9), ("mooncake.jsonl", 1e-3)]
)
def test_a_file_that_we_read_holds_the_requests(folder: Path, workload: traces.Workload, name: str, most_s: float):
    read = traces.read(folder / name)
    np.testing.assert_array_equal(read.prompt_tokens, workload.prompt_tokens)
    np.testing.assert_array_equal(read.output_tokens, workload.output_tokens)
    np.testing.assert_allclose(read.arrival_s, workload.arrival_s, rtol=0, atol=most_s)
    assert int((workload.prompt_tokens + workload.output_tokens).max()) <= 4096


def test_no_prompts_share_a_prefix(folder: Path):
    assert traces.prefix_reuse(traces.read(folder / "mooncake.jsonl")) == 0.0
    tokens = pl.read_ndjson(folder / "llmservingsim.jsonl")
    assert tokens["input_tok_ids"].list.len().to_list() == tokens["input_toks"].to_list()


def test_splitwise_gets_the_columns_that_it_documents(folder: Path, workload: traces.Workload):
    frame = pl.read_csv(folder / "splitwise.csv")
    assert frame.columns == [
        *("request_id", "request_type", "application_id", "arrival_timestamp", "batch_size", "prompt_size"),
        "token_size",
    ]
    assert frame["arrival_timestamp"].to_list() == workload.arrival_s.tolist()
    assert frame["token_size"].to_list() == workload.output_tokens.tolist()
    assert frame["request_type"].unique().to_list() == [2]


def test_our_own_command_runs_on_the_file(
    peers: ModuleType, folder: Path, workload: traces.Workload, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(folder)
    words = shlex.split(dict(peers.commands(workload))["fastsim"])
    assert words[0] == "fastsim"
    assert main([*words[1:], "--json"]) == 0


def test_the_page_has_the_commands_that_are_printed(peers: ModuleType):
    page = (REPOSITORY / "docs" / "peers.md").read_text(encoding="utf-8")
    blocks = {" ".join(block.replace("\\\n", " ").split()) for block in re.findall(r"```\n(.*?)```", page, re.DOTALL)}
    printed = dict(peers.commands(peers.requests_of(1000, 1.2)))
    told = {name: command for name, command in printed.items() if name not in ("fastsim", "aiconfigurator")}
    assert [name for name, command in told.items() if command not in blocks] == []


def test_every_flag_of_vidur_is_one_that_its_page_maps(peers: ModuleType):
    known = (REPOSITORY / "docs" / "vidur.md").read_text(encoding="utf-8")
    flags = [word for word in shlex.split(peers.COMMANDS["Vidur"]) if word.startswith("--")]
    fields = {re.sub(r"^.*config_(?!type)", "", flag) for flag in flags if not flag.endswith("_type")}
    assert [field for field in sorted(fields) if f"`{field}`" not in known] == []


@pytest.mark.parametrize(("words", "told"), [([], "give --out"), (["--golden", "nowhere"], "holds no run")])
def test_what_cannot_be_done_is_said(words: list[str], told: str):
    command = [sys.executable, "bench/peers.py", *words]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert told in done.stderr
