"""Trace files too large to be held: our Parquet files, some rows at a time."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from traces.bounded import MAX_FILE_BYTES
from traces.errors import TraceError, whole_number
from traces.files import NEW_COPY, file_error, sha256_of
from traces.parquet import MAGIC, REQUIRED, beside_of, check_columns, numbers
from traces.parquet_sizes import group_sizes
from traces.stream import CHUNK_REQUESTS, WorkloadStream
from traces.workload import Workload

if TYPE_CHECKING:
    import polars as pl

#: The columns that are read, where they are there.
_READ: Final = (*REQUIRED, "request_class")
#: Rows that are read at a time, and the bytes that those of a row group may take.
_ROWS: Final = 1 << 20
_MOST_BYTES: Final = MAX_FILE_BYTES // 4


class UnscannableError(TraceError):
    """A good file, but one whose requests must be held in memory."""


@dataclass(eq=False, kw_only=True)
class ScannedStream(WorkloadStream):
    """The requests of a Parquet file of ours.

    Attributes:
        path: the file, which must not change meanwhile.
        columns: those that are read.
        rows: how many it has.
        longest: most tokens of a prompt and its output together.
        highest_class: of all requests.
    """

    path: Path
    columns: tuple[str, ...]
    rows: int
    longest: int = 0
    highest_class: int = 0

    def __len__(self) -> int:
        """Number of requests."""
        return self.rows

    @property
    def most_tokens(self) -> int:
        """Most tokens of a prompt and its output together."""
        return self.longest

    @property
    def has_classes(self) -> bool:
        """Whether requests are of other classes than 0."""
        return self.highest_class > 0

    def __iter__(self) -> Iterator[Workload]:
        """Read the chunks, in order."""
        latest_s, first = 0.0, 0
        for frame in self._frames():
            try:
                columns = {name: numbers(self.path, frame[name]) for name in self.columns}
                chunk = Workload.from_arrays(**columns, provenance=self.provenance)
            except TraceError as error:
                problem = f"has something wrong in rows {first + 1:,} to {first + frame.height:,} ({error})"
                raise file_error(self.path, problem, "mend it there, counting from the first of these") from error
            first += frame.height
            if chunk.notes or chunk.arrival_s[0] < latest_s:
                problem = f"is {str(self.path)!r}, which is not in order of arrival"
                mend = "sort it by arrival_s, or read it whole (Workload.read)"
                raise UnscannableError("path", str(self.path), problem, mend)
            latest_s = float(chunk.arrival_s[-1])
            yield chunk

    def _frames(self) -> "Iterator[pl.DataFrame]":
        """The rows of each chunk; many are read at a time, as a row group is read whole for any of its rows."""
        import polars as pl

        at_once = max(_ROWS // self.chunk_requests, 1) * self.chunk_requests
        lazy = pl.scan_parquet(self.path, glob=False).select(self.columns)
        for first in range(0, self.rows, at_once):
            try:
                frame = lazy.slice(first, at_once).collect()
            except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
                raise _damaged(self.path, error) from error
            yield from frame.iter_slices(self.chunk_requests)


def scan(path: str | os.PathLike[str], *, chunk_requests: int = CHUNK_REQUESTS) -> ScannedStream:
    """The requests of one of our Parquet files, to be read while they are used.

    All of it is read once before, to check it: what a simulation then finds is good.

    Args:
        path: the file, see `traces.parquet`, in order of arrival, without sessions and block ids.
        chunk_requests: requests of each chunk, at least 1; nothing else depends on it.

    Raises:
        UnscannableError: its requests are tied to each other, or not in order of arrival.
        TraceError: it is another file, or a bad one.
    """
    import polars as pl

    file, size = Path(path), whole_number("chunk_requests", chunk_requests, 1)
    rows = count_rows(file)
    if rows == 0:
        raise file_error(file, "is no Parquet file with requests", "make one of it with fastsim traces convert")
    try:
        names, texts = pl.read_parquet_schema(file), pl.read_parquet_metadata(file)
        digest = sha256_of(file)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise _damaged(file, error) from error
    check_columns(file, list(names), rows)
    _check_ties(file, list(names))
    beside = beside_of(file, texts)
    provenance: dict[str, Any] = {"file": file.name, "format": "fastsim", "sha256": digest}
    if beside["provenance"]:
        provenance["of"] = beside["provenance"]
    given_notes = beside["notes"]
    if beside["objectives"]:
        given_notes += ("the objectives of its classes are left out: of a stream those of the configuration count",)
    columns = tuple(name for name in _READ if name in names)
    stream = ScannedStream(
        chunk_requests=size, provenance=provenance, given_notes=given_notes, path=file, columns=columns, rows=rows
    )
    for chunk in stream:
        stream.longest = max(stream.longest, int((chunk.prompt_tokens + chunk.output_tokens).max()))
        stream.highest_class = max(stream.highest_class, int(chunk.request_class.max()))
    return stream


def count_rows(path: str | os.PathLike[str]) -> int:
    """Number of rows of a Parquet file; 0 of any other.

    Raises:
        TraceError: it cannot be read, is damaged, or one of its row groups takes more memory than is given to one.
    """
    try:
        with open(path, "rb") as opened:
            if opened.read(len(MAGIC)) != MAGIC:
                return 0
            with mmap(opened.fileno(), 0, access=ACCESS_READ) as content:
                groups = group_sizes(content)
    except OSError as error:
        reason = error.strerror or error
        raise file_error(path, f"cannot be read ({reason})", "give the path of a trace file") from error
    except ValueError as error:
        raise _damaged(path, error) from error
    largest = max((size for _, size in groups), default=0)
    if largest > _MOST_BYTES:
        problem = f"has a row group of {largest:,} bytes of values, of which {_MOST_BYTES:,} are read at most"
        raise file_error(path, problem, "write it anew with smaller row groups")
    return sum(rows for rows, _ in groups)


def _check_ties(path: Path, names: list[str]) -> None:
    """Refuse requests that are tied to others, which may be far from them in the file."""
    import polars as pl

    ties = {"session": pl.col("session").ge(0).any(), "think_s": pl.col("think_s").is_finite().any()}
    asked = {name: tie for name, tie in ties.items() if name in names}
    try:
        lazy = pl.scan_parquet(path, glob=False).select(rows=pl.len(), **asked)
        found = lazy.collect(engine="streaming").row(0, named=True)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise _damaged(path, error) from error
    for name in (*(name for name in asked if found[name]), *({"block_ids"} & set(names))):
        problem = f"ties requests of {path} to each other, which cannot be streamed"
        raise UnscannableError(name, None, problem, "read it whole (Workload.read)")


def _damaged(path: str | os.PathLike[str], error: BaseException) -> TraceError:
    reason = (str(error).splitlines() or ["of an unknown kind"])[0]
    return file_error(path, f"is a damaged Parquet file ({reason})", NEW_COPY)
