"""Traces with a header and one request per line, with commas between the cells; see `traces.readers`."""

import io
import os
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from traces.columns import DEFAULTS, NOTHING_TO_WAIT_FOR, RANGES, nothing_to_wait_for
from traces.errors import TraceError, shown
from traces.files import NEW_COPY, file_error

if TYPE_CHECKING:
    import polars as pl


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


def parse(path: str | os.PathLike[str], text: bytes) -> tuple[str, dict[str, Any]]:
    """The name of the format of a text, and the arguments of `Workload.from_arrays`.

    Raises:
        TraceError: the header is not known, or a cell is bad: one sentence with the file, line and column.
    """
    header, _, body = text.partition(b"\n")
    names = [name.strip() for name in header.decode("utf-8", "replace").split(",")]
    trace_format = _recognise(path, names)
    body = body.rstrip()
    if not body:
        raise file_error(path, "has a header but no requests", NEW_COPY)
    return trace_format.name, _columns(path, body, names, trace_format)


def _recognise(path: str | os.PathLike[str], names: list[str]) -> Format:
    """The format whose columns a header has."""
    for candidate in FORMATS:
        missing = [column for column in candidate.columns if column not in names]
        if not missing:
            return candidate
        if missing == [candidate.columns[0]]:
            problem = f"has lengths but no arrivals (no column {missing[0]})"
            mend = "add that column, or take the lengths to Workload.from_arrays with arrivals from traces.arrivals"
            raise file_error(path, problem, mend)
    known = " or ".join(",".join(candidate.columns) for candidate in FORMATS)
    mend = f"give a file with the header {known}, or one of JSON lines"
    raise file_error(path, f"starts with {shown(','.join(names))} on line 1", mend)


def _columns(path: str | os.PathLike[str], body: bytes, names: list[str], trace_format: Format) -> dict[str, Any]:
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
    empty = frame.select(**{name: cell.is_null() | (cell == "") for name, cell in cells.items()})
    good = values.select(
        (pl.col("arrival_s") >= 0) & (pl.col("arrival_s") < float("inf")),
        *(
            pl.col(name).is_between(*RANGES[name]) & (pl.col(name) == pl.col(name).floor())
            for name in wanted
            if name in RANGES
        ),
        *(empty[name] | ((pl.col(name) >= 0) & (pl.col(name) < float("inf"))) for name in wanted if name == "think_s"),
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
    if "think_s" in arrays:
        _check_think_times(path, arrays)
    return arrays


def _check_think_times(path: str | os.PathLike[str], arrays: dict[str, NDArray[Any]]) -> None:
    """Raise TraceError where a request has a think time but none of its session before it."""
    order = np.argsort(arrays["arrival_s"], kind="stable")
    think_s, session = arrays["think_s"][order], arrays.get("session", np.full(len(order), -1))[order]
    rows = order[nothing_to_wait_for(think_s, session)]
    if len(rows):
        row = int(rows.min())
        value = float(arrays["think_s"][row])
        problem = f"is {value:g} on line {row + 2} of {path}, which has no request of its session before it"
        raise TraceError("think_s", value, problem, NOTHING_TO_WAIT_FOR)


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
        return TraceError(last, cells[-1], problem, f"correct or remove that line, or {NEW_COPY}")
    name, column = list(trace_format.columns_in(names).items())[good.index(False)]
    cell = cells[names.index(column)]
    problem = f"is {shown(cell) if cell else 'empty'} {where}"
    if name == "think_s":
        return TraceError(column, cell, problem, "give a finite number of seconds of at least 0, or nothing")
    if name not in RANGES:
        return TraceError(column, cell, problem, f"give {trace_format.arrival_wanted}")
    low, high = RANGES[name]
    return TraceError(column, cell, problem, f"give a whole number from {low} to {high}")
