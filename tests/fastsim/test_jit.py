"""The project's one jit decorator."""

from concurrent.futures import ThreadPoolExecutor

import numba
import pytest

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
