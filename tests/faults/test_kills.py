"""Killed at any moment, fastsim leaves nothing that passes for whole and is not, and goes on to the same outcome."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import victims

ROOT = Path(__file__).resolve().parents[2]
PATHS = (ROOT, ROOT / "tests", ROOT / "tests" / "fastsim")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
@pytest.mark.parametrize(
    "victim",
    [
        victims.tables,
        victims.keeping,
        victims.operators,
        victims.run,
        victims.search,
        victims.profile,
        victims.trace,
        victims.stream,
    ],
    ids=lambda make: make.__name__,
)
def test_a_kill_leaves_nothing_that_passes_for_whole(victim, tmp_path: Path):
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, PATHS)),
        "NUMBA_DISABLE_JIT": "1",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    words = [sys.executable, "-m", "killing", f"victims:{victim.__name__}", str(tmp_path)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    killed, steps = map(int, done.stdout.split()[-2:])
    assert killed >= 6
    assert steps > 20
