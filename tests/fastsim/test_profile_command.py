"""``fastsim profile``: what it refuses, what it prints, and a whole profile of this machine's CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_calls import REPOSITORY, Cli, process
from fake_device import TINY

from estimators import IterationTables
from estimators.profiler import Limits, OperatorReport, ProfileReport, Progress

WORDS = ("profile", "--model", TINY, "--device", "cpu", "--max-tokens", 16, "--max-num-seqs", 4, "--max-model-len", 32)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], ["model is not given", "write --model"]),
        (["--model", TINY], ["out is not given", "--out my-gpu"]),
        (["--model", "no-such", "--out", "x"], ["model 'no-such'"]),
        (["--model", TINY, "--out", "x", "--budget", "soon"], ["budget 'soon'", "300, 300s, 5m or 1h"]),
        (["--model", TINY, "--out", "x", "--budget", "0"], ["budget '0'"]),
        (["--model", TINY, "--out", "x", "--target", "500%"], ["target '500%'", "5% or 0.05"]),
        (["--model", TINY, "--out", "x", "--tp", "two"], ["tensor_parallel 'two'"]),
        (["--model", TINY, "--out", "x", "--tp", "3"], ["tp 3"]),
        (["--model", TINY, "--out", "x", "--max-num-seqs", "0"], ["max_num_seqs 0", "give 1 or more"]),
        (["--model", TINY, "--out", "x", "--max-tokens", "8"], ["max_tokens 8", "max_num_seqs"]),
        (["--model", TINY, "--out", "x", "--seed", "-1"], ["seed -1"]),
        (["--model", TINY, "--out", "x", "--engine", "none.py:Engine"], ["engine", "names no file"]),
        (["--model", TINY, "--out", TINY], ["out", "is not a directory"]),
    ],
)
def test_what_cannot_be_profiled_is_refused(cli: Cli, tmp_path: Path, monkeypatch, words: list, expected: list[str]):
    monkeypatch.chdir(tmp_path)
    cli("profile", *words).assert_refused(*expected)
    assert list(tmp_path.iterdir()) == []


def test_a_device_that_is_none_is_refused(cli: Cli, tmp_path: Path):
    pytest.importorskip("torch", reason="the profiler measures with torch")
    cli("profile", "--model", TINY, "--out", tmp_path / "x", "--device", "tpu").assert_refused(
        "device 'tpu'", "auto, cpu"
    )


def test_an_engine_without_host_times_is_refused(cli: Cli, tmp_path: Path):
    (tmp_path / "mine.py").write_text("class Engine:\n    pass\n")
    words = ("--model", TINY, "--out", tmp_path / "x", "--engine", f"{tmp_path / 'mine.py'}:Engine")
    cli("profile", *words).assert_refused("has no host_times", "FILE.py:NAME")


def test_without_torch_it_says_how_to_install_it(cli: Cli, tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [name for name in sys.modules if name.startswith("estimators.profiler.")]:
        monkeypatch.delitem(sys.modules, name)
    cli(*WORDS, "--out", tmp_path / "x").assert_refused("torch is not installed", "pip install 'fastsim-llm[profile]'")


def test_its_help_and_its_package_import_neither_torch_nor_training():
    code = (
        "import sys; from fastsim.cli import main\n"
        "try: main(['profile', '--help'])\n"
        "except SystemExit: pass\n"
        "light = not {'torch', 'tqdm', 'sklearn', 'numba', 'polars'} & set(sys.modules)\n"
        "import estimators.profiler\n"
        "print(light, not {'torch', 'tqdm', 'sklearn', 'polars', 'onnxruntime'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "True True", done.stdout + done.stderr
    assert "usage: fastsim profile" in done.stdout


def report(**changes) -> ProfileReport:
    measured = OperatorReport("gemm", "fp32", 30, 300, 0, 0.012, 0.02, 0.031, True, "forest", ("torch_linear",))
    noisy = OperatorReport("norm", "fp32", 20, 70, 1, 0.001, 0.09, 0.12, False, "linear", ("torch",))
    nothing = OperatorReport("rope", "fp32", 0, 70, 70, 0.0, 0.0, None, False, "", ())
    fields = {"directory": Path("my cpu"), "device": "cpu", "model": "toy", "dtypes": ("fp32",), "tp": (2,)}
    fields |= {"operators": (measured, noisy, nothing), "target": 0.05, "spent_s": 61.2, "trained_s": 8.0}
    fields |= {"resumed": 12, "yardstick_s": 4e-3, "notes": ("Attention ran as toy.",)}
    return ProfileReport(**{**fields, **changes})


@pytest.fixture
def profiled(monkeypatch: pytest.MonkeyPatch) -> list:
    """Stands in for profiling; the list has what it was called with."""
    calls: list = []

    def profile(*words, progress, **options):
        calls.append((words, options))
        if progress is not None:
            progress(Progress(1.0, 60.0, 24))
            progress(Progress(2.0, 60.0, 48, "gemm fp32", 0.08))
        return report()

    monkeypatch.setattr("estimators.profiler.profile", profile)
    return calls


def test_flags_reach_the_profiler(cli: Cli, profiled: list, tmp_path: Path):
    words = ("--dtype", "bf16,fp8", "--tp", "1,2", "--budget", "2m", "--target", "3%", "--seed", 7, "--block-size", 32)
    assert cli("profile", "--model", "toy", "--out", tmp_path / "x", *words).code == 0
    ((model, out), options) = profiled[0]
    assert (model, out, options.pop("limits")) == ("toy", tmp_path / "x", Limits(block_size=32))
    assert options.pop("target") == pytest.approx(0.03)
    assert options == {
        "device": "auto", "tp": [1, 2], "dtypes": ["bf16", "fp8"], "budget_s": 120.0, "seed": 7, "engine": None
    }  # fmt: skip


ENGINE = """
from __future__ import annotations
from dataclasses import dataclass

STEP_S = 0.5

@dataclass
class Engine:
    steps: int = 0

    def host_times(self, batch, repeats):
        return {"schedule": [STEP_S * batch] * repeats}

def make():
    return Engine()

ready = make()
"""


@pytest.mark.parametrize("name", ["Engine", "make", "ready"])
def test_an_engine_is_an_object_or_what_makes_one(cli: Cli, profiled: list, tmp_path: Path, name: str):
    (tmp_path / "mine.py").write_text(ENGINE)
    words = ("--out", tmp_path / "x", "--engine", f"{tmp_path / 'mine.py'}:{name}")
    assert cli("profile", "--model", "toy", *words).code == 0
    assert profiled[0][1]["engine"].host_times(3, 2) == {"schedule": [1.5, 1.5]}


@pytest.mark.parametrize(("budget", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("5min", 300), ("1h", 3600)])
def test_budgets(cli: Cli, profiled: list, tmp_path: Path, budget: str, seconds: float):
    assert cli("profile", "--model", "toy", "--out", tmp_path / "x", "--budget", budget).code == 0
    assert profiled[0][1]["budget_s"] == seconds


def test_the_report_says_points_errors_notes_and_what_comes_next(cli: Cli, profiled: list, tmp_path: Path):
    run = cli("profile", "--model", "toy.json", "--out", tmp_path / "x")
    assert "toy on cpu: 50 of 440 points in 61 s, 12 of them by earlier runs; trained in 8 s" in run.out
    (gemm,) = [line for line in run.out.splitlines() if line.startswith("gemm")]
    assert gemm.split() == ["gemm", "fp32", "30", "of", "300", "12.0", "ms", "2.0%", "3.1%", "███"]
    assert "above the target" in run.out
    assert "rope fp32                        0 of 70   not measured" in run.out
    assert "note: Attention ran as toy." in run.out
    assert run.out.splitlines()[-1] == ("next: fastsim run --model toy.json --device 'my cpu' --dtype fp32 --tp 2")


def test_json_is_one_object_and_there_is_no_bar(cli: Cli, profiled: list, tmp_path: Path):
    run = cli("profile", "--model", "toy", "--out", tmp_path / "x", "--json")
    assert run.summary["operators"][0]["points"] == 30
    assert run.summary["directory"] == "my cpu"
    assert run.err == ""


def test_an_interrupt_says_how_to_go_on(cli: Cli, monkeypatch, tmp_path: Path):
    def interrupted(*words, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("estimators.profiler.profile", interrupted)
    run = cli("profile", "--model", "a toy", "--out", tmp_path / "x")
    assert (run.code, run.out) == (130, "")
    (sentence,) = run.err.strip().splitlines()
    assert sentence.startswith(f"fastsim: interrupted; what was measured is kept in {tmp_path / 'x'}, and ")
    assert f"fastsim profile --model 'a toy' --out {tmp_path / 'x'} goes on from there." in sentence


def test_this_cpu_is_profiled_and_can_be_tabulated(tmp_path: Path):
    pytest.importorskip("torch", reason="the profiler measures with torch")
    out = tmp_path / "cpu"
    words = (*WORDS[:-6], "--max-tokens", 8, "--max-num-seqs", 2, "--max-model-len", 16, "--out", out, "--json")
    run = process(*words, "--budget", "100s", "--target", "99%")
    assert run.code == 0, run.err
    operators = {(each["operator"], each["dtype"]) for each in run.summary["operators"]}
    assert {("gemm", "fp32"), ("norm", "fp32"), ("decode_attention", "fp32"), ("sampling", "fp32")} <= operators
    assert all(each["points"] for each in run.summary["operators"])
    assert json.loads((out / "device.json").read_text())["device"]["name"] == "cpu"
    sizes = {"max_tokens": 8, "max_sequences": 2, "max_kv": 32, "max_model_len": 16, "cache": False}
    tables = IterationTables.build(TINY, str(out), dtype="fp32", **sizes)
    assert 0 < tables.iteration_time_s(2, 2, 2, 16) < 1
    assert tables.provenance["outside_profiles"] == []
