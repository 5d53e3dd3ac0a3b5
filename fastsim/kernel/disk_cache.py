"""Compiled kernels on disk: a file each, which begins with a hash of the rest, so that a torn one is never used.

Numba's own cache unpickles what it finds, does not read where it cannot write, and before it reads makes ready all that
compiling needs: half of the time of a short run.
"""

import functools
import hashlib
import pickle
import sys
import warnings
from pathlib import Path

from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.core.runtime.nrt import rtsys
from numba.core.serialize import dumps

from estimators.files import replace_file

SUFFIX = ".kernel"
_HASH_BYTES = hashlib.sha256().digest_size


class KernelsNotKeptWarning(UserWarning):
    """The next process compiles its kernels anew.

    Attributes:
        directory: where they would be kept.
        reason: why they are not.
    """

    def __init__(self, directory, reason):
        """Build the sentence."""
        self.directory, self.reason = directory, reason
        super().__init__(f"compiled kernels are not kept, since {directory} cannot be written ({reason}).")


class KernelCache(NullCache):
    """What numba asks for the machine code of one function, and gives it to."""

    def __init__(self, function, directory):
        """Keep what is compiled of a function in a directory, which stands for all that the function calls."""
        module = function.__module__.removeprefix("fastsim.kernel.")
        self._name, self._code, self._directory = f"{module}.{function.__name__}", function.__code__, directory

    @property
    def cache_path(self):
        """The directory."""
        return str(self._directory)

    def load_overload(self, sig, target_context):
        """The compiled function for a signature and this processor; None if there is none that is whole."""
        path = self._path(sig, target_context)
        payload = read_whole(path)
        if payload is None:
            if path.exists():
                warnings.warn(f"{path} is damaged; it is compiled again", stacklevel=2)
            return None
        rtsys.initialize(target_context)  # what machine code calls of numba; compiling needs more
        return CompileResult._rebuild(target_context, *pickle.loads(payload))

    def save_overload(self, sig, data):
        """Keep a compiled function; where that cannot be it is this process's alone, with a warning."""
        if data.library.has_dynamic_globals:  # addresses of this process
            return
        payload = dumps(data._reduce())
        try:
            replace_file(
                self._path(sig, data.target_context),
                lambda file: file.write(hashlib.sha256(payload).digest() + payload),
            )
        except OSError as error:
            _tell(self._directory, error.strerror or str(error))

    def _path(self, sig, target_context):
        code = self._code
        key = (
            *(sys.implementation.cache_tag, sig, target_context.codegen().magic_tuple()),
            *(code.co_code, code.co_consts, code.co_names),
        )
        return self._directory / f"{self._name}-{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}{SUFFIX}"


@functools.cache
def _tell(directory, reason):
    """Warn, once for all kernels: Python forgets what it has said whenever numba, to compile, changes a filter."""
    warnings.warn(KernelsNotKeptWarning(directory, reason), stacklevel=2)


def read_whole(path: Path) -> bytes | None:
    """What a file of this cache holds behind its hash; None if it is not there, or damaged."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    kept, payload = content[:_HASH_BYTES], content[_HASH_BYTES:]
    return payload if kept == hashlib.sha256(payload).digest() else None
