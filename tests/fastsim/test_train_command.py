"""``fastsim estimators train``: which profiles it learns from, and what comes of them."""

import itertools
import json
from pathlib import Path

import polars as pl
import pytest
from cli_calls import Cli

from estimators.profiles import Profiles
from estimators.sources.own import own_path, write_profiles

PROVENANCE = {"device": "toy", "driver": "1", "libraries": {}, "date": "2026-01-01", "repeats": 3}


def write_own(directory: Path, dtype: str = "bf16") -> Path:
    """All-reduces that take a microsecond and one for each 1000 numbers."""
    rows = [(gpus, 2**size) for gpus, size in itertools.product((2, 4, 8), range(8, 24))]
    frame = pl.DataFrame(rows, schema=["gpus", "elements"], orient="row")
    frame = frame.with_columns(seconds=1e-6 + pl.col("elements") * 1e-9)
    profiles = Profiles("h100_sxm", "all_reduce", dtype, frame, "", "toy engine", "MIT", ("toy",), 0, 0, 0, 0)
    directory.mkdir(parents=True, exist_ok=True)
    write_profiles(own_path(directory, "all_reduce", dtype), profiles, PROVENANCE)
    return directory


def test_a_zoo_of_ones_own_measurements_is_trained_and_shown(cli: Cli, tmp_path: Path):
    own, zoo, page = write_own(tmp_path / "own"), tmp_path / "zoo", tmp_path / "page.html"
    words = ("--device", "h100_sxm", "--source", "own", "--directory", own, "--kind", "linear")
    trained = cli("estimators", "train", *words, "--out", zoo, "--plot", page)
    assert trained.code == 0, trained.err
    assert "toy engine: 48 rows used" in trained.out
    assert page.read_text().count("<svg") == 1
    assert cli("estimators", "list", "--zoo", zoo).out.split() == ["h100_sxm", "bf16"]
    assert cli("estimators", "show", "--zoo", zoo).out == trained.out
    report = json.loads(cli("estimators", "show", "--zoo", zoo, "--json").out)["h100_sxm bf16"]["all_reduce"]
    assert report["regressor"]["kind"] == "linear"
    assert report["held_out_errors"]["shapes"]["mean"] < 1


def test_measurements_of_another_gpu_are_refused(cli: Cli, tmp_path: Path):
    own, out = write_own(tmp_path / "own"), tmp_path / "zoo"
    run = cli("estimators", "train", "--device", "l40s", "--source", "own", "--directory", own, "--out", out)
    assert (run.code, "give h100_sxm" in run.err) == (2, True)


def test_a_zoo_that_is_not_there_is_told(cli: Cli, tmp_path: Path):
    run = cli("estimators", "list", "--zoo", tmp_path / "none")
    assert (run.code, "is no directory" in run.err) == (2, True)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list:
    """Stands in for training; the list has what it was called with."""
    calls: list = []

    def train(*arguments):
        calls.append(arguments)
        return {"gemm": {"source": "toy", "engine": "toy", "rows": {"used": 1}, "held_out_errors": {}}}

    monkeypatch.setattr("estimators.train.train", train)
    return calls


def test_flags_reach_training(cli: Cli, trained: list, tmp_path: Path):
    words = ("--device", "b200_sxm", "--dtype", "nvfp4", "--backend", "trtllm", "--version", "1.0", "--seed", 7)
    assert cli("estimators", "train", *words, "--kind", "auto", "--out", tmp_path).code == 0
    device, dtype, out, seed, _, *rest = trained[0]
    assert (device, dtype, out, seed, rest) == ("b200_sxm", "nvfp4", tmp_path, 7, ["trtllm", "1.0", "auto", None])


def test_vidurs_profiles_are_read_as_far_as_there_are_any(cli: Cli, trained: list, tmp_path: Path):
    network = tmp_path / "network" / "h100_dgx"
    network.mkdir(parents=True)
    header = "num_workers,devices_per_node,size,time_stats.all_reduce.median"
    (network / "all_reduce.csv").write_text(
        f"{header},collective\n2,2,2048,0.01,all_reduce\n2,2,4096,0.011,all_reduce\n"
    )
    words = ("--device", "h100_sxm", "--source", "vidur", "--directory", tmp_path, "--out", tmp_path / "zoo")
    outcome = cli("estimators", "train", *words)
    assert outcome.code == 0, outcome.err
    assert [(one.operator, one.frame.height) for one in trained[0][-1]] == [("all_reduce", 2)]
    (network / "all_reduce.csv").write_text(f"{header},collective\n2,2,2048,,all_reduce\n")
    cli("estimators", "train", *words).assert_refused("all_reduce.csv", "time_stats.all_reduce.median")
    cli("estimators", "train", *words, "--dtype", "fp8").assert_refused("all_reduce.csv")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--source", "hearsay"], ["source 'hearsay'", "aiconfigurator, vidur, layerwise, own"]),
        (["--source", "own"], ["directory", "is not given"]),
        (["--source", "own", "--directory", "."], ["has no own profiles in bf16"]),
        (["--source", "own", "--directory", ".", "--version", "1.0"], ["version '1.0'", "source own"]),
        (["--directory", "."], ["directory '.'", "source aiconfigurator", "vidur"]),
        (["--tp", "2"], ["tensor_parallel '2'", "source aiconfigurator", "layerwise"]),
        (["--source", "layerwise", "--directory", "."], ["model", "train MODEL"]),
        (["--source", "vidur", "--directory", "."], ["hold no mlp.csv of h100"]),
        (["--kind", "guess"], ["kind 'guess'", "forest"]),
        (["--plot", "a.png"], ["plot", "no HTML file"]),
    ],
)
def test_what_cannot_be_trained_is_refused(
    cli: Cli, tmp_path: Path, monkeypatch, words: list[str], expected: list[str]
):
    monkeypatch.chdir(tmp_path)
    cli("estimators", "train", "--device", "h100_sxm", "--out", "zoo", *words).assert_refused(*expected)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_no_regressor_takes(cli: Cli, tmp_path: Path, seed: int):
    words = ("--device", "h100_sxm", "--source", "own", "--directory", write_own(tmp_path / "own"))
    run = cli("estimators", "train", *words, "--out", tmp_path / "zoo", "--seed", seed)
    assert run.code == 2
    assert f"seed {seed} is no seed of a regressor" in run.err
