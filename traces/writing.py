"""Writing a file in one step. `estimators.files` does the same: the two packages do not know each other."""

import io
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, cast


class _Telling(io.RawIOBase):
    """A file that keeps the error of a failed write: Polars raises one of its own, without saying which it was."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.error: OSError | None = None

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise


def replace_file(path: str | os.PathLike[str], write: Callable[[IO[bytes]], object]) -> None:
    """Write ``path`` so that a reader sees the old file or the whole new one, even after a kill or a power cut.

    A link goes on to point where it does, and a device or a pipe is written into.

    Args:
        path: the file, in a directory that exists.
        write: is given the open file. When it fails, ``path`` is as it was and nothing else is left behind.

    Raises:
        OSError: it cannot be written.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        _write(target, write)
        return
    temporary = target.with_name(f"{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        _write(temporary, write)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _write(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    with path.open("wb") as file:
        telling = _Telling(file)
        try:
            write(cast(IO[bytes], telling))
        except Exception:
            if telling.error is not None:
                raise telling.error from None
            raise
        file.flush()
        if path.is_file():
            os.fsync(file.fileno())
