"""Readers of public trace files.

Known formats, recognised by their header; plain or gzip, whatever the file is called:

- Azure LLM inference trace (2023, and the one-week files of 2024): ``TIMESTAMP,ContextTokens,GeneratedTokens``. Times
  in UTC with up to nine decimals; arrivals count from the earliest.
- Vidur trace: ``arrived_at,num_prefill_tokens,num_decode_tokens``. ``arrived_at`` is the arrival in seconds, taken as
  it is.

Either may have the columns ``request_class`` (0 to 127, smaller is more important) and ``session`` (the number of a
conversation, or -1 for none); see `traces.workload.Workload`.

Columns may come in any order and others are ignored. Files load whole or not at all: a request without prompt or output
tokens is refused like any other bad cell. The published 2023 files hold none (fewest: 2 and 6), and dropping requests
would change the load.
"""

import gzip
import hashlib
import io
import os
import zlib
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from numpy.typing import NDArray

from traces.columns import DEFAULTS, RANGES
from traces.errors import TraceError, shown
from traces.workload import Workload

if TYPE_CHECKING:
    import polars as pl

_GZIP_MAGIC: Final = b"\x1f\x8b"
_NEW_COPY: Final = "fetch the file again"


@dataclass(frozen=True)
class Format:
    """A trace format.

    Attributes:
        name: its name in a workload's provenance.
        columns: the columns of arrival, prompt tokens and output tokens.
        arrival_wanted: what an arrival cell holds, for messages.
    """

    name: str
    columns: tuple[str, str, str]
    arrival_wanted: str

    def columns_in(self, names: list[str]) -> dict[str, str]:
        """What each field of a workload is called in a file with a header of these names, the arrival first."""
        required = dict(zip(("arrival_s", "prompt_tokens", "output_tokens"), self.columns, strict=True))
        return required | {name: name for name in DEFAULTS if name in names}


AZURE: Final = Format(
    "azure", ("TIMESTAMP", "ContextTokens", "GeneratedTokens"), "a UTC time such as 2023-11-16 18:15:46.6805900"
)
VIDUR: Final = Format(
    "vidur", ("arrived_at", "num_prefill_tokens", "num_decode_tokens"), "a finite number of seconds of at least 0"
)
FORMATS: Final = (AZURE, VIDUR)


def read(path: str | os.PathLike[str]) -> Workload:
    """Read a trace file.

    Args:
        path: an Azure or Vidur trace, plain or gzip.

    Returns:
        All requests of the file, in order of arrival.

    Raises:
        TraceError: the file cannot be read, its header is not known, or a cell is bad: one sentence with the file, and
            with line (the header is line 1) and column of the first bad cell.
    """
    raw = _contents(path)
    header, _, body = _decompressed(path, raw).partition(b"\n")
    names = [name.strip() for name in header.decode("utf-8-sig", "replace").split(",")]
    trace_format = _recognise(path, names)
    body = body.rstrip()
    if not body:
        raise _file_error(path, "has a header but no requests", _NEW_COPY)
    columns = _parse(path, body, names, trace_format)
    provenance = {"file": Path(path).name, "format": trace_format.name, "sha256": hashlib.sha256(raw).hexdigest()}
    return Workload.from_arrays(**columns, provenance=provenance)


def _file_error(path: str | os.PathLike[str], problem: str, mend: str) -> TraceError:
    """The error about a whole file."""
    return TraceError("path", str(path), f"is {str(path)!r}, which {problem}", mend)


def _contents(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a file."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise _file_error(path, f"cannot be read ({error.strerror})", "give the path of a trace file") from error


def _decompressed(path: str | os.PathLike[str], raw: bytes) -> bytes:
    """The text of a file, still encoded."""
    try:
        text = gzip.decompress(raw) if raw.startswith(_GZIP_MAGIC) else raw
    except EOFError as error:
        num_lines = zlib.decompressobj(wbits=31).decompress(raw).count(b"\n")
        raise _file_error(path, f"is a gzip file that is cut short after line {num_lines}", _NEW_COPY) from error
    except (OSError, zlib.error) as error:
        raise _file_error(path, f"is a damaged gzip file ({error})", _NEW_COPY) from error
    if not text:
        raise _file_error(path, "is empty", _NEW_COPY)
    return text


def _recognise(path: str | os.PathLike[str], names: list[str]) -> Format:
    """The format whose columns a header has."""
    for candidate in FORMATS:
        missing = [column for column in candidate.columns if column not in names]
        if not missing:
            return candidate
        if missing == [candidate.columns[0]]:
            problem = f"has lengths but no arrivals (no column {missing[0]})"
            mend = "add that column, or take the lengths to Workload.from_arrays with arrivals from traces.arrivals"
            raise _file_error(path, problem, mend)
    known = " or ".join(",".join(candidate.columns) for candidate in FORMATS)
    raise _file_error(path, f"starts with {shown(','.join(names))} on line 1", f"give a file with the header {known}")


def _parse(path: str | os.PathLike[str], body: bytes, names: list[str], trace_format: Format) -> dict[str, Any]:
    """The columns of a workload, each of shape (n,), of the lines below the header."""
    import polars as pl

    # Own names, with one to spare: a cell too many shows, and nothing depends on what the file calls its columns.
    columns = [str(index) for index in range(len(names) + 1)]
    # No quoting: none of the formats quotes, and so row i is line i + 2 whatever the file holds.
    frame = pl.read_csv(
        ",".join(columns).encode() + b"\n" + body,
        infer_schema=False,
        quote_char=None,
        truncate_ragged_lines=True,
        encoding="utf8-lossy",
    )
    wanted = trace_format.columns_in(names)
    cells = {name: pl.col(columns[names.index(column)]).str.strip_chars() for name, column in wanted.items()}
    parsed = {name: cell.cast(pl.Float64, strict=False) for name, cell in cells.items()}
    if trace_format is AZURE:
        parsed["arrival_s"] = _nanoseconds(cells["arrival_s"])
    values = frame.select(**parsed)
    good = values.select(
        (pl.col("arrival_s") >= 0) & (pl.col("arrival_s") < float("inf")),
        *(
            pl.col(name).is_between(*RANGES[name]) & (pl.col(name) == pl.col(name).floor())
            for name in wanted
            if name in RANGES
        ),
        complete=frame[columns[-1]].is_null(),
    ).fill_null(False)
    bad_rows = good.select((~pl.all_horizontal(pl.all())).arg_true()).to_series()
    if len(bad_rows):
        row = int(bad_rows[0])
        text = next(islice(io.BytesIO(body), row, None)).decode("utf-8", "replace")
        raise _cell_error(f"on line {row + 2} of {path}", text, names, trace_format, good.row(row))
    arrays: dict[str, NDArray[Any]] = {name: values[name].to_numpy() for name in values.columns}
    if trace_format is AZURE:
        arrays["arrival_s"] = (arrays["arrival_s"] - arrays["arrival_s"].min()) / 1e9
    return arrays


def _nanoseconds(timestamp: "pl.Expr") -> "pl.Expr":
    """Nanoseconds since 1970; null where a cell is no timestamp."""
    import polars as pl

    text = timestamp.str.strip_suffix("+00:00")
    nanoseconds = text.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="ns", strict=False).cast(pl.Int64)
    # Beyond these years nanoseconds overflow 64 bits.
    in_range = text.str.slice(0, 4).cast(pl.Int32, strict=False).is_between(1970, 2261)
    return pl.when(in_range).then(nanoseconds)


def _cell_error(where: str, text: str, names: list[str], trace_format: Format, good: tuple[bool, ...]) -> TraceError:
    """The error about one line; ``good`` says which of the cells it needs are, in the order of ``columns_in``."""
    cells = [cell.strip() for cell in text.split(",")]
    if len(cells) != len(names):
        last = names[min(len(cells), len(names)) - 1]
        problem = f"is the last column {where}, which has {len(cells)} cells under a header of {len(names)}"
        return TraceError(last, cells[-1], problem, f"correct or remove that line, or {_NEW_COPY}")
    name, column = list(trace_format.columns_in(names).items())[good.index(False)]
    cell = cells[names.index(column)]
    problem = f"is {shown(cell) if cell else 'empty'} {where}"
    if name not in RANGES:
        return TraceError(column, cell, problem, f"give {trace_format.arrival_wanted}")
    low, high = RANGES[name]
    return TraceError(column, cell, problem, f"give a whole number from {low} to {high}")
