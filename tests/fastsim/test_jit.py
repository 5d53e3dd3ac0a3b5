"""The project's one jit decorator."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numba
import pytest
from cli_calls import REPOSITORY

from fastsim.kernel.jit import DISABLED, cache_directory, jit


def identity(x):
    return x


@pytest.mark.skipif(DISABLED, reason="nothing is compiled")
def test_decorating_on_several_threads_leaves_numbas_setting_alone():
    before = numba.config.CACHE_DIR
    with ThreadPoolExecutor(8) as pool:
        functions = list(pool.map(lambda _: jit("int64(int64)")(identity), range(24)))
    assert before == numba.config.CACHE_DIR
    assert {function.stats.cache_path.startswith(str(cache_directory())) for function in functions} == {True}


#: Waits for its turn, and prints whether it had to compile.
COMPILE = """
import sys
from fastsim.kernel.slots import READ_REQUESTS, compiled
print("ready", flush=True)
sys.stdin.readline()
print(sum(compiled("columns:read_requests", READ_REQUESTS).stats.cache_misses.values()))
"""


@pytest.mark.skipif(DISABLED, reason="nothing is compiled")
def test_of_two_processes_one_compiles_a_kernel(tmp_path: Path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", COMPILE],
            env=os.environ | {"PYTHONPATH": str(REPOSITORY), "XDG_CACHE_HOME": str(tmp_path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 2
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    assert sorted(process.communicate()[0] for process in processes) == ["0\n", "1\n"]
