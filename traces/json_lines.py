"""Traces with one JSON object per line; see `traces.readers`."""

import json
import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from traces.block_ids import MAX_ID, max_blocks, offsets_of
from traces.errors import MAX_TOKENS, TraceError, is_number, shown
from traces.files import NEW_COPY, file_error

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class JsonFormat:
    """A trace format of JSON lines.

    Attributes:
        name: its name in a workload's provenance.
        arrival: key of the arrival.
        units_per_s: units of that time in a second.
        prompt: key of the prompt tokens.
        output: key of the output tokens.
        block_ids: key of the block ids; either all lines have it or none has.
        block_tokens: tokens of a block.
        distinction: another key that tells the format from one with the same keys.
    """

    name: str
    arrival: str
    units_per_s: float
    prompt: str
    output: str
    block_ids: str
    block_tokens: int
    distinction: str | None = None

    @property
    def required(self) -> tuple[str, str, str]:
        """The keys that every line has."""
        return self.arrival, self.prompt, self.output


#: Mooncake's keys, but other units, and a key that tells it apart.
BAILIAN: Final = JsonFormat(
    "bailian", "timestamp", 1.0, "input_length", "output_length", "hash_ids", 16, "parent_chat_id"
)
MOONCAKE: Final = JsonFormat("mooncake", "timestamp", 1e3, "input_length", "output_length", "hash_ids", 512)
LLMSERVINGSIM: Final = JsonFormat(
    "llmservingsim", "arrival_time_ns", 1e9, "input_toks", "output_toks", "prompt_block_ids", 16
)
JSON_FORMATS: Final = (BAILIAN, MOONCAKE, LLMSERVINGSIM)


def parse(path: str | os.PathLike[str], text: bytes) -> tuple[str, dict[str, Any]]:
    """The name of the format of a text that begins with ``{``, and the arguments of `Workload.from_arrays`.

    Raises:
        TraceError: the keys are of no known format, or a line is bad: one sentence with the file, line and key.
    """
    import polars as pl

    trace_format = _recognise(path, text)
    keys = trace_format.required
    schema: dict[str, Any] = {
        keys[0]: pl.Float64,
        keys[1]: pl.Int64,
        keys[2]: pl.Int64,
        trace_format.block_ids: pl.List(pl.Int64),
    }
    try:
        columns = _columns(pl.read_ndjson(text, schema=schema), trace_format)
        reason = "a value out of place"
    except pl.exceptions.PolarsError as error:
        columns, reason = None, str(error).partition("\n")[0]
    if columns is None:
        _find_fault(path, text, trace_format)
        raise file_error(path, f"cannot be read as JSON lines ({reason})", NEW_COPY)
    return trace_format.name, columns


def _recognise(path: str | os.PathLike[str], text: bytes) -> JsonFormat:
    """The format whose keys the first line has."""
    first = _object(path, 1, text.partition(b"\n")[0])
    for candidate in JSON_FORMATS:
        if set(candidate.required) <= set(first) and (candidate.distinction is None or candidate.distinction in first):
            return candidate
    known = " or ".join(",".join(candidate.required) for candidate in (MOONCAKE, LLMSERVINGSIM))
    raise file_error(path, f"has the keys {shown(','.join(first))} on line 1", f"give a file with the keys {known}")


def _columns(frame: "pl.DataFrame", trace_format: JsonFormat) -> dict[str, Any] | None:
    """Arguments of `Workload.from_arrays`, or None where a cell is bad."""
    import polars as pl

    arrival, prompt, output = (pl.col(key) for key in trace_format.required)
    good = frame.select(
        (arrival >= 0) & (arrival < float("inf")),
        *(tokens.is_between(1, MAX_TOKENS) for tokens in (prompt, output)),
    ).fill_null(False)
    if not all(column.all() for column in good):
        return None
    arrays = [frame[key].to_numpy() for key in trace_format.required]
    columns = dict(zip(("arrival_s", "prompt_tokens", "output_tokens"), arrays, strict=True))
    columns["arrival_s"] = columns["arrival_s"] / trace_format.units_per_s
    lists = frame[trace_format.block_ids]
    if lists.null_count() == len(lists):
        return columns
    if lists.null_count():
        return None
    counts = lists.list.len().to_numpy().astype("int64")
    ids = lists.filter(counts > 0).explode()
    most = max_blocks(columns["prompt_tokens"] + columns["output_tokens"], trace_format.block_tokens)
    if not ids.is_between(0, MAX_ID).fill_null(False).all() or (counts > most).any():
        return None
    blocks = {"block_ids": ids.to_numpy(), "block_offsets": offsets_of(counts)}
    return columns | blocks | {"block_tokens": trace_format.block_tokens}


def _find_fault(path: str | os.PathLike[str], text: bytes, trace_format: JsonFormat) -> None:
    """Raise the error about the first bad line; line by line, so for texts known to have one."""
    with_ids = f'"{trace_format.block_ids}"'.encode() in text
    for number, line in enumerate(text.rstrip().split(b"\n"), start=1):
        if not line.strip():  # polars passes over it
            continue
        cells = _object(path, number, line)
        where = f"on line {number} of {path}"
        for key in trace_format.required:
            if key == trace_format.arrival:
                good, wanted = _is_time(cells.get(key)), "finite number of at least 0"
            else:
                good, wanted = _is_whole(cells.get(key), 1, MAX_TOKENS), f"whole number from 1 to {MAX_TOKENS}"
            if not good:
                raise _cell_error(key, cells, where, f"give a {wanted}")
        if with_ids:
            total_tokens = cells[trace_format.prompt] + cells[trace_format.output]
            _check_ids(trace_format, cells, where, total_tokens)


def _check_ids(trace_format: JsonFormat, cells: dict[str, Any], where: str, total_tokens: int) -> None:
    """Raise the error about the block ids of a line, if they are bad."""
    key, mend = trace_format.block_ids, f"give a list of whole numbers from 0 to {MAX_ID}"
    ids = cells.get(key)
    if not isinstance(ids, list):
        raise _cell_error(key, cells, where, mend)
    for value in ids:
        if not _is_whole(value, 0, MAX_ID):
            raise TraceError(key, value, f"has the element {shown(value)} {where}", mend)
    most = max_blocks(total_tokens, trace_format.block_tokens)
    if len(ids) > most:
        problem = f"has {len(ids)} elements {where}, for a prompt and output of {total_tokens} tokens"
        raise TraceError(key, len(ids), problem, f"give at most {most}, one per {trace_format.block_tokens} tokens")


def _is_time(value: object) -> bool:
    return is_number(value) and 0 <= value < math.inf


def _is_whole(value: object, low: int, high: int) -> bool:
    """Whether a JSON value is an integer in a closed range; polars takes no floats for integers, such as 1e2."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _cell_error(key: str, cells: dict[str, Any], where: str, mend: str) -> TraceError:
    problem = f"is {shown(cells[key])}" if key in cells else "is missing"
    return TraceError(key, cells.get(key), f"{problem} {where}", mend)


def _object(path: str | os.PathLike[str], number: int, line: bytes) -> dict[str, Any]:
    """The JSON object on a line."""
    try:
        cells = json.loads(line)
    except (ValueError, RecursionError):
        cells = None
    if not isinstance(cells, dict):
        text = line.decode("utf-8", "replace").strip()
        raise file_error(
            path,
            f"has {shown(text)} on line {number} where a JSON object is wanted",
            f"correct or remove that line, or {NEW_COPY}",
        )
    return cells
