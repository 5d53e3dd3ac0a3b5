"""A cache that cannot be written is read, and odd clocks change nothing."""

import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_calls import Cli, without_speed
from roofline_estimators import RooflineEstimators, build_small

from estimators.cache import cache_directory

#: Seconds since 1970: then, before then, in the year 2446, and one that goes backwards.
CLOCKS: dict[str, Callable[[], Callable[[], float]]] = {
    "1970": lambda: lambda: 0.0,
    "before 1970": lambda: lambda: -1e9,
    "2446": lambda: lambda: 1.5e10,
    "backwards": lambda: iter(range(10**9, 0, -1000)).__next__,
}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def names(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def test_a_cache_that_cannot_be_written_is_read(cache: Path, read_only: Callable[[Path], None]):
    expected, other = build_small(cache=True).hash, build_small(cache=False, tp=2).hash
    before = names(cache)
    read_only(cache)
    known = RooflineEstimators()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert build_small(known, cache=True).hash == expected
    assert not known.calls
    with pytest.warns(UserWarning, match="not kept") as told:
        assert build_small(cache=True, tp=2).hash == other
    assert len(told) == 1
    assert names(cache) == before


def test_a_run_with_a_cache_that_cannot_be_written_is_one_with_notes(
    cli: Cli, cache: Path, tmp_path: Path, read_only: Callable[[Path], None]
):
    words = ("run", "--requests", 20, "--json")
    expected = without_speed(cli(*words).summary)
    read_only(cache)
    kept = cli(*words)
    assert without_speed(kept.summary) == expected
    assert kept.notes == []
    with warnings.catch_warnings():
        warnings.filterwarnings("default", message="tables are not kept")
        new = cli(*words, "--tensor-parallel", 2)
    assert new.code == 0
    assert [("not kept" in note) for note in new.notes] == [True]


def test_results_in_a_directory_that_cannot_be_written_are_refused_at_once(
    cli: Cli, tmp_path: Path, read_only: Callable[[Path], None]
):
    read_only(tmp_path)
    cli("run", "--requests", 20, "--out", tmp_path / "out").assert_refused("out", "cannot be written")


@pytest.mark.parametrize("clock", CLOCKS)
def test_a_clock_that_is_wrong_changes_nothing(cli: Cli, cache: Path, monkeypatch: pytest.MonkeyPatch, clock: str):
    words = ("run", "--requests", 20, "--json")
    expected = without_speed(cli(*words).summary)
    monkeypatch.setattr(time, "time", CLOCKS[clock]())
    fresh = cli(*words, "--seed", 0)
    assert without_speed(fresh.summary) == expected
    assert fresh.notes == []
    build_small(cache=True)
    known = RooflineEstimators()
    build_small(known, cache=True)
    assert not known.calls


@pytest.mark.parametrize("seconds", [0, 2**31 - 1, 1.5e10])
def test_the_age_of_an_entry_does_not_matter(cache: Path, seconds: float):
    build_small(cache=True)
    for path in cache_directory().iterdir():
        os.utime(path, (seconds, seconds))
    known = RooflineEstimators()
    build_small(known, cache=True)
    assert not known.calls


def test_a_writer_whose_file_is_taken_for_abandoned_does_without(cache: Path, monkeypatch: pytest.MonkeyPatch):
    """A clock that leaps ahead while a file is written: another process clears it away."""
    replace = os.replace

    def cleared(source: Path, target: Path) -> None:
        Path(source).unlink()
        replace(source, target)

    monkeypatch.setattr(os, "replace", cleared)
    with pytest.warns(UserWarning, match="not kept"):
        found = build_small(cache=True)
    assert found.hash == build_small(cache=False).hash
    assert list(cache_directory().iterdir()) == []
