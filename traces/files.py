"""Contents of files, plain or gzip, and the errors about a file."""

import gzip
import os
import zlib
from pathlib import Path
from typing import Final

from traces.errors import TraceError

_GZIP_MAGIC: Final = b"\x1f\x8b"
NEW_COPY: Final = "fetch the file again"


def file_error(path: str | os.PathLike[str], problem: str, mend: str) -> TraceError:
    """The error about a whole file."""
    return TraceError("path", str(path), f"is {str(path)!r}, which {problem}", mend)


def contents(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a file."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise file_error(path, f"cannot be read ({error.strerror})", "give the path of a trace file") from error


def decompressed(path: str | os.PathLike[str], raw: bytes) -> bytes:
    """The text of a file, still encoded."""
    try:
        text = gzip.decompress(raw) if raw.startswith(_GZIP_MAGIC) else raw
    except EOFError as error:
        num_lines = zlib.decompressobj(wbits=31).decompress(raw).count(b"\n")
        raise file_error(path, f"is a gzip file that is cut short after line {num_lines}", NEW_COPY) from error
    except (OSError, zlib.error) as error:
        raise file_error(path, f"is a damaged gzip file ({error})", NEW_COPY) from error
    if not text:
        raise file_error(path, "is empty", NEW_COPY)
    return text
