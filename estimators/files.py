"""Where cached files are kept, writing files in one step, and locks between processes."""

from __future__ import annotations

import io
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, cast


def cache_root() -> Path:
    """Where fastsim keeps what it can make again: ``$XDG_CACHE_HOME/fastsim``, by default under ``~/.cache``."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "fastsim"


def replace_file(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write ``path`` so that a reader sees the old file or the whole new one, even after a kill or a power cut.

    Directories that are missing are made, a link goes on to point where it does, and a device or a pipe is written
    into.

    Args:
        path: the file.
        write: is given the open file. When it fails, ``path`` is as it was and nothing else is left behind.

    Raises:
        OSError: it cannot be written; with its ``errno`` and ``filename``, whoever wrote.
    """
    replace_files({path: write})


def replace_files(files: Mapping[Path, Callable[[IO[bytes]], object]], gone: Iterable[Path] = ()) -> None:
    """Write files that belong together, each as `replace_file` does; one that is there proves those before it.

    All are written before the first takes its place: where the disk is full, the old ones stay. The last one that was
    there is removed first and takes its place last, so that it never stands beside files of another time.

    Args:
        files: by path, in order, what writes it.
        gone: files of an earlier time that are to be none now.
    """
    targets = [Path(os.path.realpath(path)) for path in files]
    with ExitStack() as stack:
        ready = [_written(path, write, stack) for path, write in zip(targets, files.values(), strict=True)]
        if len(targets) > 1:
            targets[-1].unlink(missing_ok=True)
        for path in gone:
            path.unlink(missing_ok=True)
        for temporary, path in zip(ready, targets, strict=True):
            if temporary is not None:
                os.replace(temporary, path)


def _written(path: Path, write: Callable[[IO[bytes]], object], stack: ExitStack) -> Path | None:
    """A whole file beside ``path``, removed with the stack unless it was moved; None if ``path`` is a device."""
    path.parent.mkdir(parents=True, exist_ok=True)
    device = path.exists() and not path.is_file()
    place = path if device else path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    if not device:
        stack.callback(place.unlink, missing_ok=True)
    with errors_of(path), place.open("wb") as file:
        telling = _Telling(file)
        try:
            write(cast(IO[bytes], telling))
        except Exception:
            if telling.error is not None:
                raise telling.error from None
            raise
        file.flush()
        if not device:
            os.fsync(file.fileno())
    return None if device else place


@contextmanager
def errors_of(path: Path) -> Iterator[None]:
    """Errors of the operating system name this file: not none, nor one beside it that nobody asked for."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            error.filename = os.fspath(path)
        raise


class _Telling(io.RawIOBase):
    """A file that keeps the error of a failed write: libraries raise one of their own, without saying which it was."""

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


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock that ``path`` stands for, which one thread of one process has at a time; others wait.

    Where there are no such locks, or nothing can be written, nobody waits.
    """
    with ExitStack() as stack:
        with suppress(ImportError, OSError):
            import fcntl  # not on Windows

            path.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(path.open("ab"))
            fcntl.flock(file, fcntl.LOCK_EX)
            # Closing is not enough: a process forked meanwhile has the file open as well.
            stack.callback(fcntl.flock, file, fcntl.LOCK_UN)
        yield
