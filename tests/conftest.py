"""What all tests share."""

import os
import tempfile

import pytest
from hypothesis import HealthCheck, settings

# Examples are the same in every run: what CI proves today it proves tomorrow, and a failure can be repeated.
# None of them is timed: a busy machine is no reason to fail.
settings.register_profile(
    "fastsim", deadline=None, derandomize=True, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("fastsim")

# Tests must not depend on what a user's cache holds, nor fill it; compiled kernels are kept between runs all the same.
_CACHE = os.path.join(tempfile.gettempdir(), f"fastsim-tests-{os.getuid()}")
os.environ["XDG_CACHE_HOME"] = _CACHE
# Tests run side by side, on all cores already; torch's threads would spend their time waiting for each other.
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session", autouse=True)
def kernels_in_the_shared_cache() -> None:
    """A process chooses their place once; a test with a cache of its own must not be the first to ask."""
    from fastsim.kernel.jit import cache_directory

    cache_directory()
