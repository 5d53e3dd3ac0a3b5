"""Interrupts, readers that leave, and locales: files are the same under all, and no traceback is printed."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_calls import without_speed

ROOT = Path(__file__).resolve().parents[2]
#: Variables of the environment that are set; None for those that are not.
LOCALES = {
    "plain": {},
    "C, and Python keeps to it": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "Turkish, and no time zone": {"LC_ALL": "tr_TR.UTF-8", "TZ": ":no/such/zone", "PYTHONIOENCODING": "latin-1"},
}


def fastsim(*words: object, **changes: str) -> subprocess.Popen[bytes]:
    """The command in a process of its own, with kernels in plain Python."""
    environment = {name: value for name, value in os.environ.items() if name not in ("LANG", "TZ", "LC_ALL")}
    environment |= {"PYTHONPATH": str(ROOT), "NUMBA_DISABLE_JIT": "1", "PYTHONUNBUFFERED": "", **changes}
    command = [sys.executable, "-m", "fastsim", *map(str, words)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_files_are_the_same_under_every_locale(tmp_path: Path):
    trace = tmp_path / "trace.jsonl"
    lines = [{"timestamp": 200 * i, "input_length": 30 + i, "output_length": 3} for i in range(20)]
    trace.write_text("".join(json.dumps(line) + "\n" for line in lines))
    kept = set()
    for number, changes in enumerate(LOCALES.values()):
        # The name of a directory that no locale can spell, and that is no UTF-8 either.
        out = os.fsencode(tmp_path / str(number)) + "/Résultat-İ".encode() + b"-\xff"
        words = ("run", "--trace", trace, "--out", os.fsdecode(out), "--trace-window", ":", "--record-batches")
        process = fastsim(*words, **changes)
        printed, told = process.communicate(timeout=120)
        assert process.returncode == 0, told
        assert b"Traceback" not in told
        assert b"written to" in printed
        summary = without_speed(json.loads(Path(os.fsdecode(out + b"/summary.json")).read_bytes()))
        files = {name: Path(os.fsdecode(out), name).read_bytes() for name in sorted(os.listdir(os.fsdecode(out)))}
        del files["summary.json"]
        assert len(files) == 5
        kept.add(repr((summary, files)))
    assert len(kept) == 1


def test_a_reader_that_has_seen_enough_gets_no_traceback():
    for words in (("--help",), ("run", "--help"), ("run", "--requests", 5)):
        process = fastsim(*words)
        process.stdout.close()
        told = process.stderr.read()
        assert process.wait(timeout=120) == 0, told
        assert b"Error" not in told
        process.stderr.close()


def interrupted(process: subprocess.Popen[bytes], line: bytes) -> str:
    """What the command tells when it is interrupted once it has said something; its exit code is 130."""
    before = b""
    for told in process.stderr:
        before += told
        if line in told:
            break
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    try:
        printed, rest = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130, before + rest
    assert printed == b""
    assert b"Traceback" not in rest
    return rest.decode()


def test_an_interrupted_run_says_so_and_writes_nothing(tmp_path: Path):
    words = ("run", "--requests", 100_000, "--out", tmp_path / "out")
    told = interrupted(fastsim(*words), b"simulating 100,000 requests")
    assert told.splitlines()[-1] == "fastsim: interrupted"
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


# Many short runs: one that has begun is ended.
SPACE = f"""
[[space.scheduler]]
name = "vllm_v1"
max_num_seqs = {list(range(16, 416))}
[workload]
requests = 50
"""


def test_an_interrupted_search_says_how_to_go_on(tmp_path: Path):
    (tmp_path / "space.toml").write_text(SPACE)
    process = fastsim("search", tmp_path / "space.toml", "--out", tmp_path / "out", "--threads", 1)
    hint, last = interrupted(process, b" of 400 runs").splitlines()[-2:]
    assert re.fullmatch("fastsim: what has ended is kept; go on with: fastsim search .* --resume", hint)
    assert last == "fastsim: interrupted"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["journal.jsonl"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes with names")
def test_a_device_is_written_into_and_stays(tmp_path: Path):
    trace = tmp_path / "trace.csv"
    trace.write_text("arrived_at,num_prefill_tokens,num_decode_tokens\n0,1,1\n1,2,2\n")
    process = fastsim("run", "--trace", trace, "--json", "--event-trace", os.devnull)
    printed, told = process.communicate(timeout=120)
    assert process.returncode == 0, told
    assert json.loads(printed)
    assert not Path(os.devnull).is_file()
