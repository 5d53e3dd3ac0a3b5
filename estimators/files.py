"""Where cached files are kept, writing a file in one step, and locks between processes."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO


def cache_root() -> Path:
    """Where fastsim keeps what it can make again: ``$XDG_CACHE_HOME/fastsim``, by default under ``~/.cache``."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "fastsim"


def replace_file(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write ``path`` so that a reader sees the old file or the whole new one; directories that are missing are made.

    Args:
        path: the file.
        write: is given the open file. When it fails, ``path`` is as it was and nothing else is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock that ``path`` stands for, which one thread of one process has at a time; others wait.

    Where the operating system or the file system has no such locks, nobody waits.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            # Closing is not enough: a process forked meanwhile has the file open as well.
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_UN)
