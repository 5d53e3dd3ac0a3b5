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
from traces.files import NEW_COPY, check_header, file_error

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Format:
    """A trace format.

    Attributes:
        name: its name in a workload's provenance.
        arrival: the column of arrivals, or None where a file has lengths only.
        prompt: the column of prompt tokens.
        output: the column of output tokens.
        arrival_wanted: what an arrival cell holds, for messages.
        from_earliest: whether arrivals count from the earliest.
        session: a column of texts that name conversations, which a file may have.
        with_failures: whether requests without tokens are failures, which are left out.
    """

    name: str
    arrival: str | None
    prompt: str
    output: str
    arrival_wanted: str = "a finite number of seconds of at least 0"
    from_earliest: bool = False
    session: str | None = None
    with_failures: bool = False

    @property
    def required(self) -> tuple[str, ...]:
        """The columns that a file must have."""
        return (*(() if self.arrival is None else (self.arrival,)), self.prompt, self.output)

    def columns_in(self, names: list[str]) -> dict[str, str]:
        """What each field of a workload is called in a file with a header of these names, the arrival first."""
        found = {} if self.arrival is None else {"arrival_s": self.arrival}
        found |= {"prompt_tokens": self.prompt, "output_tokens": self.output}
        found |= {name: name for name in DEFAULTS if name in names}
        return found | ({"session": self.session} if self.session in names else {})


AZURE: Final = Format(
    "azure",
    "TIMESTAMP",
    "ContextTokens",
    "GeneratedTokens",
    "a UTC time such as 2023-11-16 18:15:46.6805900",
    from_earliest=True,
)
VIDUR: Final = Format("vidur", "arrived_at", "num_prefill_tokens", "num_decode_tokens")
BURSTGPT: Final = Format(
    "burstgpt",
    "Timestamp",
    "Request tokens",
    "Response tokens",
    from_earliest=True,
    session="Session ID",
    with_failures=True,
)
SARATHI: Final = Format("sarathi", None, "num_prefill_tokens", "num_decode_tokens")
FORMATS: Final = (AZURE, VIDUR, BURSTGPT, SARATHI)
NO_ARRIVALS: Final = "the file has no arrivals: all requests arrive at time 0"


def parse(path: str | os.PathLike[str], text: bytes) -> tuple[str, dict[str, Any]]:
    """The name of the format of a text, and the arguments of `Workload.from_arrays`.

    Raises:
        TraceError: the header is not known, or a cell is bad: one sentence with the file, line and column.
    """
    header, _, body = text.partition(b"\n")
    check_header(path, header)
    names = [name.strip() for name in header.decode("utf-8", "replace").split(",")]
    trace_format = _recognise(path, names)
    body = body.rstrip()
    if not body:
        raise file_error(path, "has a header but no requests", NEW_COPY)
    return trace_format.name, _columns(path, body, names, trace_format)


def _recognise(path: str | os.PathLike[str], names: list[str]) -> Format:
    """The format whose columns a header has."""
    for candidate in FORMATS:
        missing = [column for column in candidate.required if column not in names]
        if not missing:
            return candidate
    for candidate in FORMATS:
        if [column for column in candidate.required if column not in names] == [candidate.arrival]:
            problem = f"has lengths but no arrivals (no column {candidate.arrival})"
            raise file_error(
                path, problem, f"add that column, or call the others {SARATHI.prompt} and {SARATHI.output}"
            )
    known = " or ".join(",".join(candidate.required) for candidate in FORMATS)
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
    if "session" in wanted and wanted["session"] == trace_format.session:
        parsed["session"] = _numbered(cells["session"])
    values = frame.select(**parsed)
    empty = frame.select(**{name: cell.is_null() | (cell == "") for name, cell in cells.items()})
    least = {"prompt_tokens": 0, "output_tokens": 0} if trace_format.with_failures else {}
    good = values.select(
        *(_is_time(name) for name in wanted if name == "arrival_s"),
        *(
            pl.col(name).is_between(least.get(name, RANGES[name][0]), RANGES[name][1])
            & (pl.col(name) == pl.col(name).floor())
            for name in wanted
            if name in RANGES
        ),
        *(empty[name] | _is_time(name) for name in wanted if name == "think_s"),
        complete=frame[columns[-1]].is_null(),
    ).fill_null(False)
    bad_rows = good.select((~pl.all_horizontal(pl.all())).arg_true()).to_series()
    if len(bad_rows):
        row = int(bad_rows[0])
        text = next(islice(io.BytesIO(body), row, None)).decode("utf-8", "replace")
        raise _cell_error(f"on line {row + 2} of {path}", text, names, trace_format, good.row(row))
    notes: tuple[str, ...] = ()
    if trace_format.with_failures:
        num_rows, values = values.height, values.filter((pl.col("prompt_tokens") > 0) & (pl.col("output_tokens") > 0))
        if num_failed := num_rows - values.height:
            notes = (f"{num_failed} of {num_rows} requests failed (they have no tokens) and were left out",)
        if num_failed == num_rows:
            raise file_error(path, "holds failed requests only", "give another file")
    arrays: dict[str, NDArray[Any]] = {name: values[name].to_numpy() for name in values.columns}
    if trace_format.arrival is None:
        arrays["arrival_s"] = np.zeros(values.height)
        notes = (NO_ARRIVALS,)
    elif trace_format.from_earliest:
        units_per_s = 1e9 if trace_format is AZURE else 1.0
        arrays["arrival_s"] = (arrays["arrival_s"] - arrays["arrival_s"].min()) / units_per_s
    if "think_s" in arrays:
        _check_think_times(path, arrays)
    return {**arrays, "notes": notes}


def _is_time(name: str) -> "pl.Expr":
    """Whether cells are finite and not negative."""
    import polars as pl

    return (pl.col(name) >= 0) & (pl.col(name) < float("inf"))


def _numbered(name: "pl.Expr") -> "pl.Expr":
    """A number from 0 on for each of the texts, the same for the same; -1 for an empty one."""
    import polars as pl

    return (pl.when(name != "").then(name).rank("dense").cast(pl.Int64) - 1).fill_null(-1)


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
    low = 0 if trace_format.with_failures and name in ("prompt_tokens", "output_tokens") else low
    return TraceError(column, cell, problem, f"give a whole number from {low} to {high}")
