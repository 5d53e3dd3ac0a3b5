import json
import os
import signal
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from roofline_estimators import RooflineEstimators, build_small, random_arrays

import estimators
from estimators.cache import cache_directory
from estimators.errors import EstimatorError
from estimators.tables import IterationTables


@pytest.mark.parametrize("name", ["tables", "Llama-3.1-8B", "sub/deep.er"])
def test_what_is_saved_is_loaded(tmp_path, name):
    tables = IterationTables.from_arrays(**random_arrays(), prefill_rule="equivalent_chunk", provenance={"tp": 2})
    tables.save(tmp_path / name)
    assert (tmp_path / f"{name}.npy").exists()
    for path in (tmp_path / name, f"{tmp_path / name}.npy", f"{tmp_path / name}.json"):
        loaded = IterationTables.load(path)
        assert np.array_equal(loaded.values, tables.values)
        assert (loaded.layout, loaded.prefill_rule) == (tables.layout, tables.prefill_rule)
        assert loaded.provenance == {"tp": 2}
        assert loaded.hash == tables.hash
    assert type(loaded.values) is np.ndarray
    assert not loaded.values.flags.owndata
    assert not loaded.values.flags.writeable
    assert not list(tmp_path.rglob("*.tmp"))


def test_the_hash_follows_values_layout_and_rule():
    tables = IterationTables.from_arrays(**random_arrays())
    changed = random_arrays()
    changed["token_s"][0] += 1e-9
    others = [
        IterationTables.from_arrays(**changed),
        IterationTables.from_arrays(**random_arrays(), prefill_rule="equivalent_chunk"),
        IterationTables(tables.values, replace(tables.layout, max_kv=41)),
    ]
    assert len({tables.hash, *(other.hash for other in others)}) == 4
    assert IterationTables.from_arrays(**random_arrays(), provenance={"note": "other"}).hash == tables.hash


def test_provenance_that_is_not_json_is_refused(tmp_path):
    tables = IterationTables.from_arrays(**random_arrays(), provenance={"bad": object()})
    with pytest.raises(EstimatorError, match="provenance"):
        tables.save(tmp_path / "tables")
    assert not list(tmp_path.glob("tables*"))


def truncate(stem):
    path = Path(f"{stem}.npy")
    path.write_bytes(path.read_bytes()[:-100])


def empty(stem):
    Path(f"{stem}.npy").write_bytes(b"")


def flip(stem):
    path = Path(f"{stem}.npy")
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


def replace_header(stem, **change):
    path = Path(f"{stem}.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))


DAMAGES = {
    "truncated array": truncate,
    "empty array": empty,
    "flipped bit": flip,
    "no array": lambda stem: Path(f"{stem}.npy").unlink(),
    "array of objects": lambda stem: np.save(f"{stem}.npy", np.array([{}]), allow_pickle=True),
    "garbage header": lambda stem: Path(f"{stem}.json").write_bytes(b"\xff{not json"),
    "header of another shape": lambda stem: Path(f"{stem}.json").write_text("[]"),
    "other version": lambda stem: replace_header(stem, version=-1),
    "other layout": lambda stem: replace_header(stem, layout={"max_tokens": 1}),
    "wrong hash": lambda stem: replace_header(stem, sha256="0" * 64),
    "no rule": lambda stem: replace_header(stem, prefill_rule=[]),
    "no provenance": lambda stem: replace_header(stem, provenance=3),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files_are_refused(tmp_path, damage):
    IterationTables.from_arrays(**random_arrays()).save(tmp_path / "tables")
    DAMAGES[damage](tmp_path / "tables")
    with pytest.raises(EstimatorError) as caught:
        IterationTables.load(tmp_path / "tables")
    assert caught.value.field == "path"


def test_missing_files_are_refused(tmp_path):
    with pytest.raises(EstimatorError, match="nowhere"):
        IterationTables.load(tmp_path / "nowhere")


def test_a_second_build_comes_from_the_cache(cache_home):
    known = RooflineEstimators()
    first = build_small(known, cache=True)
    assert cache_directory() == cache_home / "fastsim" / "tables"
    assert len(list(cache_directory().iterdir())) == 2
    asked = len(known.calls)
    # Limits that round to the same layout share the entry.
    second = build_small(known, cache=True, max_tokens=2000, max_model_len=8000)
    assert len(known.calls) == asked
    assert second.hash == first.hash
    assert second.provenance == first.provenance


@pytest.mark.parametrize(
    "change",
    [
        {"estimators": RooflineEstimators("other")},
        {"model": "Mistral-7B-v0.3"},
        {"tp": 2},
        {"dtype": "fp16"},
        {"max_tokens": 4096},
        {"prefill_rule": "equivalent_chunk"},
    ],
)
def test_what_tables_depend_on_is_in_the_key(change):
    build_small(cache=True)
    build_small(cache=True, **change)
    assert len(list(cache_directory().glob("*.json"))) == 2


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_built_again(damage):
    known = RooflineEstimators()
    first = build_small(known, cache=True)
    asked = len(known.calls)
    (header,) = cache_directory().glob("*.json")
    DAMAGES[damage](header.with_suffix(""))
    with pytest.warns(UserWarning, match="built again"):
        second = build_small(known, cache=True)
    assert second.hash == first.hash
    assert len(known.calls) > asked
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert build_small(known, cache=True).hash == first.hash


def test_a_cache_that_cannot_be_written_is_done_without(cache_home):
    cache_home.write_text("a file where the directory should be")
    with pytest.warns(UserWarning, match="not kept"):
        tables = build_small(cache=True)
    assert tables.hash == build_small().hash


def test_without_the_cache_nothing_is_written(cache_home):
    build_small(cache=False)
    assert not cache_home.exists()


def test_the_cache_defaults_to_the_home_directory(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_directory() == Path.home() / ".cache" / "fastsim" / "tables"


PROCESS = """
import sys
from roofline_estimators import RooflineEstimators
from estimators import IterationTables
sys.stdin.read(1)
for _ in range(5):
    tables = IterationTables.build("Llama-3.1-8B", "h100_sxm", max_tokens=512, max_sequences=64, max_kv=2**16,
                                   max_model_len=4096, estimators=RooflineEstimators())
    print(tables.hash)
"""


def python(program):
    """Command and environment of a process that can import the tests' modules."""
    tests, root = Path(__file__).resolve().parents[1], Path(estimators.__file__).resolve().parents[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tests), str(root)])}
    return [sys.executable, "-W", "error::ResourceWarning", "-c", program], environment


def test_two_processes_may_build_at_once():
    command, environment = python(PROCESS)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    with subprocess.Popen(command, **pipes) as first, subprocess.Popen(command, **pipes) as second:
        for process in (first, second):
            process.stdin.write("g")
            process.stdin.flush()
        printed = [process.communicate()[0].split() for process in (first, second)]
    assert first.returncode == second.returncode == 0
    assert [len(lines) for lines in printed] == [5, 5]
    assert len(set(printed[0] + printed[1])) == 1
    assert sorted(path.suffix for path in cache_directory().iterdir()) == [".json", ".npy"]


KILLED = """
import os, signal
import numpy as np
from roofline_estimators import RooflineEstimators, build_small

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

{where}
build_small(cache=True)
"""
# While the array is written, before it takes its place, and between array and header.
MOMENTS = {
    "half an array": "np.save = lambda file, values: (file.write(bytes(1000)), file.flush(), die())",
    "an array that is nowhere": "os.replace = die",
    "an array without a header": "replace = os.replace\nos.replace = lambda a, b: (replace(a, b), die())",
    "while predicting": "RooflineEstimators._decode_attention = staticmethod(die)",
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_process_killed_in_the_middle_leaves_nothing_that_is_used(moment):
    command, environment = python(KILLED.format(where=MOMENTS[moment]))
    assert subprocess.run(command, env=environment, check=False).returncode == -signal.SIGKILL
    assert not list(cache_directory().glob("*.json"))
    known = RooflineEstimators()
    assert build_small(known, cache=True).hash == build_small().hash
    asked = len(known.calls)
    assert asked > 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert build_small(known, cache=True).hash == build_small().hash
    assert len(known.calls) == asked


def test_what_a_killed_process_left_is_cleared_away_some_day(cache_home):
    old, new = (cache_home / "fastsim" / "tables" / f"{age}.npy.1234.tmp" for age in ("old", "new"))
    for path in (old, new):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    build_small(cache=True)
    assert (old.exists(), new.exists()) == (False, True)
