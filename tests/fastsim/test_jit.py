"""The project's one jit decorator."""

import os
import subprocess
import sys
from pathlib import Path

import numba
import pytest
from cli_calls import REPOSITORY

from fastsim.kernel.jit import DISABLED, bit_length, bits_float, draw, float_bits

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


@pytest.mark.skipif(DISABLED, reason="nothing is compiled")
def test_python_may_call_what_kernels_call():
    assert [bit_length(x) for x in (0, 1, 255)] == [0, 1, 8]
    assert bits_float(float_bits(0.1)) == 0.1


@pytest.mark.skipif(DISABLED, reason="nothing is compiled")
def test_a_users_function_may_call_what_kernels_call():
    @numba.njit
    def twice(x):
        return bit_length(x) + bit_length(x)

    assert twice(255) == 16


#: Another version of numba than those whose insides we know.
OTHER_NUMBA = """
import numba
numba.version_info = numba.version_info._replace(short=(0, 60))
from fastsim.kernel.jit import WHOLE, draw, jit
def drawn(seed):
    return draw(seed, 3, 100)
print(WHOLE, type(draw).__name__, jit("int64(int64)")(drawn)(7), draw(7, 3, 100))
"""


@pytest.mark.skipif(DISABLED, reason="nothing is compiled")
def test_other_versions_of_numba_compile_function_by_function(tmp_path: Path):
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "XDG_CACHE_HOME": str(tmp_path)}
    out = subprocess.run([sys.executable, "-c", OTHER_NUMBA], env=environment, capture_output=True, text=True)
    number = draw(7, 3, 100)
    assert out.stdout == f"False CPUDispatcher {number} {number}\n", out.stderr
