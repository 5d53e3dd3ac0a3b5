"""Our own trace file: a Parquet table with a column for each array of a workload, and the rest of it beside them.

Block ids are a column of lists. What does not fit a column (provenance, notes, the tokens of a block, the objectives
of classes) is JSON under the key ``fastsim`` of the file's metadata; a table without it is read all the same, if it has
the columns arrival_s, prompt_tokens and output_tokens.
"""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from traces.bounded import parsed_json
from traces.errors import TraceError, shown
from traces.files import NEW_COPY, file_error, parquet_table
from traces.objectives import Objective
from traces.workload import Workload
from traces.writing import replace_file

MAGIC: Final = b"PAR1"
_KEY: Final = "fastsim"
REQUIRED: Final = ("arrival_s", "prompt_tokens", "output_tokens")
_OPTIONAL: Final = ("request_class", "session", "think_s")


def write(workload: Workload, path: str | os.PathLike[str]) -> None:
    """Write a workload, whole or not at all; `traces.read` gives an equal one back, with the same hash.

    Raises:
        TraceError: the file cannot be written.
    """
    import polars as pl

    columns: dict[str, Any] = {name: getattr(workload, name) for name in (*REQUIRED, *_OPTIONAL)}
    frame = pl.DataFrame(columns)
    if workload.block_tokens:
        counts = workload.blocks.counts
        lists = pl.DataFrame({"row": np.repeat(np.arange(len(counts)), counts), "id": workload.block_ids}).group_by(
            "row", maintain_order=True
        )
        ids = lists.agg(pl.col("id").alias("block_ids")).with_columns(pl.col("row").cast(pl.Int64))
        rows = pl.DataFrame({"row": range(len(counts))}, schema={"row": pl.Int64})
        empty = pl.lit([], pl.List(pl.Int64))
        frame = frame.with_columns(
            rows.join(ids, on="row", how="left", maintain_order="left")["block_ids"].fill_null(empty)
        )
    beside = {
        "provenance": workload.provenance,
        "notes": workload.notes,
        "block_tokens": workload.block_tokens,
        "objectives": [vars(objective) for objective in workload.objectives],
    }
    try:
        replace_file(path, lambda file: frame.write_parquet(file, metadata={_KEY: json.dumps(beside)}))
    except OSError as error:
        mend = "give the path of a file in a directory that exists and has space"
        raise file_error(path, f"cannot be written ({error.strerror})", mend) from error


def parse(path: str | os.PathLike[str], raw: bytes) -> dict[str, Any]:
    """The arguments of `Workload.from_arrays`.

    Raises:
        TraceError: the file is damaged, or lacks a column.
    """
    import polars as pl

    frame, texts = parquet_table(path, raw)
    beside = beside_of(path, texts)
    check_columns(path, frame.columns, frame.height)
    columns: dict[str, Any] = {}
    for name in (*REQUIRED, *(name for name in _OPTIONAL if name in frame.columns)):
        columns[name] = numbers(path, frame[name])
    if "block_ids" in frame.columns:
        lists = frame["block_ids"]
        if lists.dtype != pl.List(pl.Int64) or lists.null_count():
            problem = f"is a column of {lists.dtype} in {path}"
            raise TraceError("block_ids", str(lists.dtype), problem, "give a list of 64-bit integers for each request")
        counts = lists.list.len().to_numpy().astype("int64")
        columns["block_ids"] = lists.filter(counts > 0).explode().to_numpy()
        columns["block_offsets"] = [0, *counts.cumsum().tolist()]
        columns["block_tokens"] = beside.get("block_tokens")
    return columns | {name: beside[name] for name in ("notes", "objectives", "provenance")}


def check_columns(path: str | os.PathLike[str], names: Sequence[str], rows: int) -> None:
    """Refuse a table without one of the columns, or without a row."""
    if not set(REQUIRED) <= set(names):
        raise file_error(path, f"has the columns {shown(','.join(names))}", f"give a file with {','.join(REQUIRED)}")
    if rows == 0:
        raise file_error(path, "holds no requests", "give another file")


def beside_of(path: str | os.PathLike[str], texts: Mapping[str, str]) -> dict[str, Any]:
    """What a file says beside its columns, of the texts in its metadata."""
    try:
        told = parsed_json(texts.get(_KEY, "{}"))
        notes, objectives = told.get("notes", []), told.get("objectives", [])
        if not isinstance(told.get("provenance", {}), dict) or not all(isinstance(note, str) for note in notes):
            raise TypeError
        found = tuple(Objective(**values) for values in objectives)
    except TraceError:
        raise
    except (ValueError, TypeError, AttributeError) as error:
        raise file_error(path, f"has no notes of fastsim's under its key {_KEY!r}", NEW_COPY) from error
    return {"provenance": {}, **told, "notes": tuple(notes), "objectives": found}


def numbers(path: str | os.PathLike[str], column: Any) -> Any:
    """A column as an array."""
    if not column.dtype.is_numeric():
        raise TraceError(column.name, str(column.dtype), f"is a column of {column.dtype} in {path}", "give numbers")
    if column.name == "think_s":
        return column.fill_null(float("nan")).to_numpy()
    if column.null_count():
        index = int(column.is_null().arg_max() or 0)
        raise TraceError(column.name, None, f"is empty in row {index + 1} of {path}", "give a number")
    return column.to_numpy()
