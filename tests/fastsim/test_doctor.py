"""`fastsim doctor` tells what is there and what is broken, and changes nothing."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_calls import Cli
from roofline_estimators import build_small

from estimators.cache import cache_directory as tables_directory
from fastsim import __version__, doctor
from fastsim.kernel import jit
from traces.catalog import CATALOG
from traces.catalog import cache_directory as traces_directory

SECTIONS = ["versions", "extras", "machine", "processor", "language", "environment", "space"]
SECTIONS += ["kernels", "tables", "traces"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user whose cache is empty."""
    home = tmp_path / "secret name"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CACHE_HOME")
    kernels = home / ".cache" / "fastsim" / "jit" / "0123"
    kernels.mkdir(parents=True)
    monkeypatch.setattr(jit, "cache_directory", lambda: kernels)
    return home


def examined(cli: Cli) -> dict:
    outcome = cli("doctor", "--json")
    assert outcome.code == 0
    return json.loads(outcome.out)


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_every_section_is_told_in_words_too(cli: Cli):
    found = examined(cli)
    assert list(found) == SECTIONS
    assert not any("error" in facts for facts in found.values())
    assert found["versions"]["fastsim"] == __version__
    assert found["versions"]["numpy"] == np.__version__
    assert found["processor"]["cores"] == os.cpu_count()
    lines = cli("doctor").out.splitlines()
    assert [line for line in lines if line and not line.startswith(" ")] == SECTIONS
    assert f"fastsim {__version__}" in {" ".join(line.split()) for line in lines}


def test_the_home_directory_is_not_told(cli: Cli, home: Path):
    build_small(cache=True)
    for words in (("doctor",), ("doctor", "--json")):
        out = cli(*words).out
        assert "secret name" not in out
        assert "~/.cache/fastsim/tables" in out


def test_variables_that_do_not_matter_are_not_told(cli: Cli, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TOKEN_OF_SOMETHING", "hush")
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    assert examined(cli)["environment"]["TZ"] == "Asia/Kathmandu"
    assert "hush" not in cli("doctor").out


def test_damaged_tables_are_named_and_stay(cli: Cli):
    build_small(cache=True)
    build_small(cache=True, tp=2)
    assert examined(cli)["tables"]["whole"] == 2
    first, second = sorted(tables_directory().glob("*.json"))
    values = first.with_suffix(".npy")
    values.write_bytes(values.read_bytes()[:-1])
    second.unlink()
    (tables_directory() / "x.operators").write_bytes(bytes(40))
    (tables_directory() / "y.npy.0.tmp").write_bytes(b"half")
    before = contents(tables_directory())
    found = examined(cli)["tables"]
    assert found["whole"] == 0
    assert found["damaged, to be built again"] == [first.stem, "x.operators"]
    assert found["unfinished, never used"] == [second.with_suffix(".npy").name, "y.npy.0.tmp"]
    assert (found["files"], found["bytes"]) == (len(before), sum(map(len, before.values())))
    assert contents(tables_directory()) == before


def test_of_many_damaged_entries_some_are_named(cli: Cli):
    tables_directory().mkdir(parents=True)
    for number in range(9):
        (tables_directory() / f"{number}.json").write_text("{}")
    assert examined(cli)["tables"]["damaged, to be built again"] == ["0", "1", "2", "3", "4", "and 4 more"]


def test_a_damaged_trace_is_named(cli: Cli):
    name, trace = next((name, trace) for name, trace in CATALOG.items() if trace.sha256)
    traces_directory().mkdir(parents=True)
    (traces_directory() / trace.file_name).write_bytes(b"half")
    found = examined(cli)["traces"]
    assert (found["whole"], found["damaged, to be fetched again"]) == (0, [name])


def test_compiled_kernels_are_told_and_which_are_damaged(cli: Cli):
    whole = hashlib.sha256(b"machine code").digest() + b"machine code"
    for name, content in (("loop.run-0a", whole), ("orca.schedule-1b", whole[:-1])):
        (jit.cache_directory() / f"{name}.kernel").write_bytes(content)
    other = jit.cache_directory().parent / "4567"
    other.mkdir()
    (other / "loop.run-2c.kernel").write_bytes(b"old")
    found = examined(cli)["kernels"]
    assert found["compiled"] == ["loop.run"]
    assert found["damaged, to be compiled again"] == ["orca.schedule-1b"]
    assert (found["of other versions"], found["bytes of other versions"]) == (1, 3)


@pytest.mark.parametrize(("module", "distribution"), [("yaml", "pyyaml"), ("tomli_w", "tomli-w")])
def test_a_package_that_cannot_be_imported_is_a_line(cli: Cli, monkeypatch: pytest.MonkeyPatch, module, distribution):
    monkeypatch.setitem(sys.modules, module, None)
    assert "which cannot be imported (ModuleNotFoundError" in examined(cli)["versions"][distribution]


def test_a_package_that_is_not_there_is_a_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(doctor.NEEDED, "no_such_module", "no-such-distribution")
    found = doctor.versions()["no-such-distribution"]
    assert found.startswith("not installed, which cannot be imported (ModuleNotFoundError: No module named")


def test_where_numba_is_broken_the_rest_is_told(tmp_path: Path):
    (tmp_path / "numba.py").write_text("raise OSError('cannot load libLLVM')")
    root = Path(doctor.__file__).resolve().parents[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(root)))}
    command = [sys.executable, "-m", "fastsim", "doctor", "--json"]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found = json.loads(process.stdout)
    assert process.stderr == ""
    assert "which cannot be imported (OSError: cannot load libLLVM)" in found["versions"]["numba"]
    assert found["processor"] == found["kernels"] == {"error": "OSError: cannot load libLLVM"}
    assert found["tables"]["whole"] == 0


def test_a_cache_that_is_a_file_is_told(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    found = examined(cli)
    assert not found["space"]["cache can be written"]
    assert found["tables"]["files"] == 0
