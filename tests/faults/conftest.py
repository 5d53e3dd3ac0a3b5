"""Fixtures of the tests of faults: a small disk, and one that cannot be written."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli_calls import Cli, in_this_process

from fastsim import progress
from fastsim.commands import parsing


@pytest.fixture
def cli(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Call the command in this process, without progress lines, whose appearance depends on the machine."""
    monkeypatch.setattr(parsing, "PATIENCE_S", 1e6)
    monkeypatch.setattr(progress, "PATIENCE_S", 1e6)
    return in_this_process(capsys)


def mounted(*words: object) -> bool:
    """Whether the system let us mount that."""
    if shutil.which("mount") is None or not hasattr(os, "geteuid") or os.geteuid() != 0:
        return False
    return subprocess.run(["mount", *map(str, words)], capture_output=True, check=False).returncode == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 48 kB."""
    path = tmp_path / "small disk"
    path.mkdir()
    if not mounted("-t", "tmpfs", "-o", "size=48k", "tmpfs", path):
        pytest.skip("a small tmpfs can be mounted by root only, and not in every container")
    yield path
    subprocess.run(["umount", str(path)], check=True)


@pytest.fixture
def read_only() -> Iterator[Callable[[Path], None]]:
    """Makes a directory one in which nothing can be written, until the end of the test."""
    with contextlib.ExitStack() as stack:

        def make(path: Path) -> None:
            if os.geteuid() != 0:
                directories = [path, *(each for each in path.rglob("*") if each.is_dir())]
                for each in directories:
                    each.chmod(0o555)
                    stack.callback(each.chmod, 0o755)
                return
            if not mounted("--bind", path, path):
                pytest.skip("root may write everywhere, and a read-only mount cannot be made here")
            stack.callback(subprocess.run, ["umount", str(path)], check=True)
            assert mounted("-o", "remount,bind,ro", path)

        yield make
