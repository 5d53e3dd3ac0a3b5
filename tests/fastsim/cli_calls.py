"""Calling the command line from tests."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastsim.cli import main

REPOSITORY = Path(__file__).resolve().parents[2]
TRACES = REPOSITORY.parent / "shared" / "data" / "traces"


@dataclass(frozen=True)
class Outcome:
    """What one call of the command did."""

    code: int
    out: str
    err: str

    @property
    def summary(self) -> dict:
        """The one JSON object on stdout."""
        assert self.code == 0, self.err
        return json.loads(self.out)

    @property
    def notes(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.startswith("fastsim: note: ")]

    def assert_refused(self, *words: str) -> None:
        """Exit code 2, one sentence on stderr beside the notes, nothing on stdout."""
        assert self.code == 2
        assert self.out == ""
        sentences = [line for line in self.err.splitlines() if line not in self.notes]
        assert len(sentences) == 1
        assert sentences[0].startswith("fastsim: ")
        assert sentences[0].endswith(".")
        for word in words:
            assert word in sentences[0]


Cli = Callable[..., Outcome]


def in_this_process(capsys: Any) -> Cli:
    """Calls the command in this process; ``capsys`` is pytest's."""

    def call(*words: object) -> Outcome:
        capsys.readouterr()
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call


def process(*words: object, python: tuple[str, ...] = (), cwd: Path = REPOSITORY) -> Outcome:
    """Call the command in a process of its own."""
    done = subprocess.run(
        [sys.executable, *python, "-m", "fastsim", *map(str, words)],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def without_speed(summary: dict) -> dict:
    """A summary but for how long the simulation took."""
    speed = {"wall_s", "requests_per_s"}
    return summary | {"simulation": {k: v for k, v in summary["simulation"].items() if k not in speed}}
