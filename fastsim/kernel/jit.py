"""The project's one jit decorator, and five bit tricks that Python spells differently from machine code.

All jit options live here. Compiled code is cached in a directory named by the hash of every kernel source, so that an
edit to a callee in another file is noticed.
"""

import functools
import hashlib
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba.core.options import DefaultOptions
from numba.cpython.unsafe.numbers import leading_zeros

from estimators.files import cache_root
from fastsim.kernel.disk_cache import KernelCache

_OPTIONS = {"nogil": True, "error_model": "numpy"}
if hasattr(DefaultOptions, "_nrt"):
    # Kernels allocate nothing, so they need no reference counts. With counts, every call that passes an array pays for
    # them: two to three times the run time. The flag also turns an allocation into a compilation error.
    _OPTIONS["_nrt"] = False

#: Nobody calls helpers from C: without the wrapper for that they compile faster.
HELPER: Any = _OPTIONS | {"no_cfunc_wrapper": True}
_KERNEL: Any = dict(_OPTIONS)

#: With NUMBA_DISABLE_JIT=1 the same sources run as plain Python, for branch coverage and debugging.
DISABLED = bool(numba.config.DISABLE_JIT)  # type: ignore[attr-defined]

#: Whether kernels are compiled as a whole: by the versions of numba whose insides `fastsim.kernel.whole_kernel` knows.
#: Others compile them function by function, to the same results, and take several times as long.
WHOLE = not DISABLED and (0, 61) <= numba.version_info.short <= (0, 68)
if WHOLE:
    from fastsim.kernel.whole_kernel import Helper, HelperCompiler, KernelCompiler

    HELPER |= {"pipeline_class": HelperCompiler}
    _KERNEL |= {"pipeline_class": KernelCompiler}


@functools.cache
def cache_directory() -> Path:
    """Directory of the compiled kernels: under the user's cache, one folder per state of the kernel sources."""
    digest = hashlib.sha256(numba.__version__.encode())
    for source in sorted(Path(__file__).parent.glob("**/*.py")):
        digest.update(source.name.encode() + source.read_bytes())
    return cache_root() / "jit" / digest.hexdigest()[:16]


def jit(signature=None, forceinline=False):
    """Compile a kernel function: ``@jit()`` if only kernels call it, ``jit(SIGNATURE)(function)`` if Python does.

    Args:
        signature: numba signature, or None to infer it.
        forceinline: whether every caller gets a copy of the code: for what is called for each request or iteration,
            where the many words that an array argument takes cost more than the work.
    """

    def decorate(function):
        if DISABLED:
            return function
        if signature is None:  # callers hold its code, and are what is kept on disk
            options = HELPER | {"forceinline": forceinline}
            return Helper.of(function, options) if WHOLE else numba.njit(**options)(function)
        kernel = numba.njit(forceinline=forceinline, **_KERNEL)(function)
        kernel._cache = KernelCache(function, cache_directory())
        kernel.compile(signature)
        kernel.disable_compile()
        return kernel

    return decorate


# The mixing function of splitmix64 (Steele et al., 2014) on 63 bits: its increment and its two multipliers.
_MASK, _STEP, _FIRST, _SECOND = 2**63 - 1, 0x1E3779B97F4A7C15, 0x3F58476D1CE4E5B9, 0x14D049BB133111EB

# Fibonacci hashing (Knuth): 2**64 over the golden ratio.
_SPREAD = 0x9E3779B97F4A7C15

if DISABLED:

    def bit_length(x):
        """Number of bits of the integer x >= 0; 0 for 0."""
        return int(x).bit_length()

    def float_bits(x):
        """The 64 bits of the float x as an integer."""
        return int(np.float64(x).view(np.int64))

    def bits_float(x):
        """The float whose 64 bits are the integer x."""
        return np.int64(x).view(np.float64)

    def hash_bits(key):
        """31 bits that depend on all bits of the integer key."""
        x = ((int(key) * _SPREAD) & (2**64 - 1)) >> 33
        return x ^ (x >> 16)

    def draw(seed, counter, n):
        """A number below n that depends on seed and counter >= 0 alone, so that no order of calls matters."""
        x = (int(seed) + (int(counter) + 1) * _STEP) & _MASK
        x = (x ^ (x >> 30)) * _FIRST & _MASK
        x = (x ^ (x >> 27)) * _SECOND & _MASK
        return (x ^ (x >> 31)) % int(n)

else:
    # Unsigned, because signed overflow is undefined in machine code.
    _MASK64, _STEP64, _FIRST64, _SECOND64 = (np.uint64(x) for x in (_MASK, _STEP, _FIRST, _SECOND))
    _SPREAD64 = np.uint64(_SPREAD)

    @jit()
    def bit_length(x):
        """Number of bits of the integer x >= 0; 0 for 0."""
        return 64 - leading_zeros(np.int64(x))

    @jit()
    def float_bits(x):
        """The 64 bits of the float x as an integer."""
        return np.float64(x).view(np.int64)

    @jit()
    def bits_float(x):
        """The float whose 64 bits are the integer x."""
        return np.int64(x).view(np.float64)

    @jit()
    def hash_bits(key):
        """31 bits that depend on all bits of the integer key."""
        x = np.int64((np.uint64(key) * _SPREAD64) >> np.uint64(33))
        return x ^ (x >> 16)

    @jit()
    def draw(seed, counter, n):
        """A number below n that depends on seed and counter >= 0 alone, so that no order of calls matters."""
        x = (np.uint64(seed) + np.uint64(counter + 1) * _STEP64) & _MASK64
        x = ((x ^ (x >> np.uint64(30))) * _FIRST64) & _MASK64
        x = ((x ^ (x >> np.uint64(27))) * _SECOND64) & _MASK64
        return np.int64((x ^ (x >> np.uint64(31))) % np.uint64(n))
