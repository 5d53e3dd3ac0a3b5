"""Contents of files, plain or gzip, and the errors about a file."""

import hashlib
import os
import zlib
from typing import TYPE_CHECKING, Any, Final

from traces.bounded import MAX_FILE_BYTES, is_packed, lines_of_torn, read_bounded, unpacked
from traces.errors import TraceError
from traces.parquet_sizes import check_sizes

if TYPE_CHECKING:
    import polars as pl

_MAX_COLUMNS: Final = 1000
NEW_COPY: Final = "fetch the file again"


def file_error(path: str | os.PathLike[str], problem: str, mend: str) -> TraceError:
    """The error about a whole file."""
    return TraceError("path", str(path), f"is {str(path)!r}, which {problem}", mend)


def sha256_of(path: str | os.PathLike[str]) -> str:
    """sha256 of the bytes of a file as hexadecimal text, a part at a time."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def contents(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a file, of at most `MAX_FILE_BYTES`."""
    try:
        return read_bounded(path, MAX_FILE_BYTES)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise file_error(path, f"cannot be read ({reason})", "give the path of a trace file") from error


def decompressed(path: str | os.PathLike[str], raw: bytes) -> bytes:
    """The text of a file, still encoded."""
    try:
        text = unpacked(raw)
    except EOFError as error:
        problem = f"is a gzip file that is cut short after line {lines_of_torn(raw)}"
        raise file_error(path, problem, NEW_COPY) from error
    except ValueError as error:
        raise file_error(
            path, f"is a gzip file that is not read ({error})", "unpack it yourself if you trust it"
        ) from error
    except (OSError, zlib.error) as error:
        raise file_error(path, f"is a damaged gzip file ({error})", NEW_COPY) from error
    if not text:
        raise file_error(path, "is empty", NEW_COPY)
    return text


def check_header(path: str | os.PathLike[str], header: bytes) -> None:
    """Refuse the first line of a text where it has more columns than any trace, each of which takes memory.

    Raises:
        TraceError: it has, or the text is compressed a second time.
    """
    if header.count(b",") >= _MAX_COLUMNS:
        problem = f"has {header.count(b',') + 1:,} columns on line 1"
        raise file_error(path, problem, f"give a file of at most {_MAX_COLUMNS:,} columns")
    if is_packed(header):  # polars would unpack it, whatever its size
        raise file_error(path, "is compressed twice, or not by gzip", "unpack it yourself")


def parquet_table(path: str | os.PathLike[str], raw: bytes) -> "tuple[pl.DataFrame, dict[str, Any]]":
    """The table of a Parquet file and the texts beside it, by their keys.

    Raises:
        TraceError: it is damaged, or would take more than `MAX_FILE_BYTES`.
    """
    import io

    import polars as pl

    try:
        check_sizes(raw, MAX_FILE_BYTES)
        return pl.read_parquet(io.BytesIO(raw)), pl.read_parquet_metadata(io.BytesIO(raw))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        reason = (str(error).splitlines() or ["of an unknown kind"])[0]
        raise file_error(path, f"is a damaged Parquet file ({reason})", NEW_COPY) from error
