"""Where there is no room, a command ends with one sentence, and what was there before is as it was."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from cli_calls import Cli
from limits import largest_file
from polars.testing import assert_frame_equal
from roofline_estimators import RooflineEstimators, build_small

import fastsim
from fastsim import SimulationConfig, Workload
from fastsim.searching.journal import NAME

RUN = ("run", "--requests", 400, "--lengths", "fixed", "--lengths.prompt", 40, "--lengths.output", 2)
NO_ROOM, TOO_LARGE = os.strerror(errno.ENOSPC), os.strerror(errno.EFBIG)


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.csv"
    lines = ["arrived_at,num_prefill_tokens,num_decode_tokens"]
    lines += [f"{i / 7},{i * 7919 % 4099 + 1},{i * 104729 % 499 + 1}" for i in range(20000)]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_run_on_a_full_disk_keeps_the_run_before(cli: Cli, small_disk: Path):
    out = small_disk / "out"
    few = ("run", "--requests", 5, "--lengths", "fixed", "--lengths.prompt", 40, "--lengths.output", 2)
    assert cli(*few, "--out", out).code == 0
    before = contents(small_disk)
    cli(*RUN, "--out", out).assert_refused("out", str(out), NO_ROOM)
    assert contents(small_disk) == before


def test_a_run_whose_files_would_be_too_large_writes_none(cli: Cli, tmp_path: Path):
    cli(*RUN, "--json")  # tables and kernels are kept
    with largest_file(4096):
        outcome = cli(*RUN, "--out", tmp_path / "out")
    outcome.assert_refused("out", TOO_LARGE)
    assert contents(tmp_path) == {}


def test_an_event_trace_is_written_whole_or_not_at_all(cli: Cli, tmp_path: Path):
    cli(*RUN, "--json")
    with largest_file(4096):
        outcome = cli(*RUN, "--event-trace", tmp_path / "events.jsonl")
    outcome.assert_refused("event_trace", TOO_LARGE)
    assert contents(tmp_path) == {}


def test_a_trace_is_converted_whole_or_not_at_all(cli: Cli, small_disk: Path, trace: Path):
    path = small_disk / "trace.parquet"
    path.write_bytes(b"the old one")
    cli("traces", "convert", trace, path).assert_refused(str(path), NO_ROOM)
    assert contents(small_disk) == {"trace.parquet": b"the old one"}


def test_rows_of_a_stream_are_written_whole_or_not_at_all(small_disk: Path):
    path, config = small_disk / "requests.parquet", SimulationConfig(engine="ideal", max_model_len=64)
    path.write_bytes(b"the old one")
    lengths = {"lengths": "fixed", "length_options": {"prompt": 9, "output": 2}, "max_total_tokens": 64}
    stream = Workload.stream(num_requests=1200, qps=900.0, chunk_requests=400, **lengths)
    with pytest.raises((OSError, ValueError), match=f"{path}.*{NO_ROOM}|{NO_ROOM}.*{path}"):
        fastsim.simulate(config, stream, requests_file=path)
    assert contents(small_disk) == {"requests.parquet": b"the old one"}


def test_a_picture_is_drawn_whole_or_not_at_all(cli: Cli, tmp_path: Path, trace: Path):
    path = tmp_path / "picture.html"
    with largest_file(1024):
        outcome = cli("traces", "describe", trace, "--plot", path)
    assert outcome.code == 2
    assert outcome.err == f"fastsim: file {str(path)!r} cannot be used ({TOO_LARGE}); {_RAISE}.\n"
    assert not path.exists()
    assert list(tmp_path.iterdir()) == [trace]


_RAISE = "raise the limit of the size of a file, or choose another place"

SPACE = """
[space]
tensor_parallel = [1, 2]
gpus = 2
max_model_len = 512
num_kv_blocks = 200
[workload]
requests = 40
[workload.lengths]
name = "fixed"
prompt = 30
output = 2
[search]
tolerance = 0.3
threads = 1
"""


def test_a_search_on_a_full_disk_says_how_to_go_on_and_does(cli: Cli, tmp_path: Path):
    space, out, alone = tmp_path / "space.toml", tmp_path / "out", tmp_path / "alone"
    space.write_text(SPACE)
    assert cli("search", space, "--out", alone).code == 0
    header = (alone / NAME).read_bytes().splitlines(keepends=True)[0]
    with largest_file(len(header) + 100):
        outcome = cli("search", space, "--out", out)
    assert outcome.code == 2
    *_, hint, sentence = outcome.err.splitlines()
    assert hint == f"fastsim: what has ended is kept; go on with: fastsim search {space} --out {out} --resume"
    assert sentence == f"fastsim: file '{out / NAME}' cannot be used ({TOO_LARGE}); {_RAISE}."
    assert set(contents(out)) == {NAME}
    assert cli("search", space, "--out", out, "--resume").code == 0
    assert contents(out)["configurations.parquet"][:4] == b"PAR1"
    found, expected = (pl.read_parquet(each / "configurations.parquet").drop("wall_s") for each in (out, alone))
    assert_frame_equal(found, expected)


def test_a_cache_without_room_is_done_without(small_disk: Path, monkeypatch: pytest.MonkeyPatch):
    expected = build_small(cache=False).hash
    monkeypatch.setenv("XDG_CACHE_HOME", str(small_disk))
    for _ in range(2):
        known = RooflineEstimators()
        with pytest.warns(UserWarning, match=f"not kept.*{NO_ROOM}"):
            assert build_small(known, cache=True).hash == expected
        assert known.calls
    assert contents(small_disk) == {}


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no /dev/full")
@pytest.mark.parametrize("words", [("--help",), ("traces", "list")], ids=" ".join)
def test_output_that_cannot_be_printed_is_one_sentence(words: tuple[str, ...]):
    command, environment = [sys.executable, "-m", "fastsim", *words], {**os.environ, "PYTHONUNBUFFERED": ""}
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment, check=False)
    assert done.returncode == 2
    assert done.stderr == f"fastsim: standard output, or a file, cannot be used ({NO_ROOM}); {_ROOM}.\n"


_ROOM = "make room there, or choose another place"
