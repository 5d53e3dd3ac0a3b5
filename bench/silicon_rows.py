"""The rows that bench/silicon.py reads, and what is no number in them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from fastsim.errors import ConfigError

#: Columns that are read: numbers, and names.
NUMBERS = (
    *("isl", "osl", "batch_size", "tp_size", "pp_size", "attention_dp_size", "moe_ep_size"),
    *("silicon_ttft_ms", "silicon_tpot_ms"),
)
NAMES = (
    *("silicon_data_source", "backend", "backend_version", "model_path", "system", "precision", "mode"),
    "gemm_quant_mode",
)
#: Durations of a request that one waits at most where each client has a seat.
MOST_WAIT = 3.0


def read_rows(path: str) -> list[dict[str, Any]]:
    """The rows of a file; an empty cell is None, and one of a column of numbers that holds none stays text.

    Raises:
        ConfigError: the file is not there, or not of this format.
    """
    mend = "give a table in the format of aiconfigurator's silicon_sample.csv"
    if not Path(path).is_file():
        raise ConfigError("csv", path, "is no file", mend)
    try:
        # All as text: a version such as 0.10 is no number.
        frame = pl.read_csv(path, infer_schema=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ConfigError("csv", path, f"cannot be read ({str(error).splitlines()[0]})", mend) from error
    if missing := [column for column in (*NAMES, *NUMBERS) if column not in frame.columns]:
        raise ConfigError("csv", path, f"lacks the column {', '.join(missing)}", mend)
    if not frame.height:
        raise ConfigError("csv", path, "has no rows", mend)
    return [row | {column: _number(row[column]) for column in NUMBERS} for row in frame.iter_rows(named=True)]


def _number(cell: str | None) -> int | float | str | None:
    try:
        number = float(cell or "")
    except ValueError:
        return cell
    return int(number) if number.is_integer() else number


def count_of(measured: Mapping[str, Any], column: str, default: int | None = None) -> int:
    """A number from 1 on.

    Args:
        measured: a row.
        column: its name.
        default: what an empty cell means; None: nothing.

    Raises:
        ConfigError: it is none.
    """
    value = default if measured[column] is None else measured[column]
    if type(value) is not int or value < 1:
        raise ConfigError(column, value, "is no whole number from 1 on", "give one")
    return value


def check_measured(measured: Mapping[str, Any]) -> None:
    """Refuse measured times that are none; they may be left empty.

    Raises:
        ConfigError: as said.
    """
    for column in ("silicon_tpot_ms", "silicon_ttft_ms"):
        value = measured[column]
        if value is not None and not (isinstance(value, int | float) and 0 < value < float("inf")):
            raise ConfigError(column, value, "is no time above 0 ms", "give one, or leave it empty")


def check_seats(measured: Mapping[str, Any]) -> None:
    """Refuse a row whose clients were more than its engine took.

    An engine with a seat for each client makes nobody wait much longer than a request takes. Some public runs had ten
    requests for each seat and sent them all at once: theirs wait for 4.5 others, on average.

    Raises:
        ValueError: as said.
    """
    ttft_ms, tpot_ms = measured["silicon_ttft_ms"], measured["silicon_tpot_ms"]
    if ttft_ms and tpot_ms and ttft_ms > MOST_WAIT * measured["osl"] * tpot_ms:
        wait = ttft_ms / (measured["osl"] * tpot_ms)
        raise ValueError(f"requests waited for {wait:.1f} others: how many the engine took at a time is not recorded")


def repeated(rows: Sequence[Mapping[str, Any]]) -> list[int | None]:
    """For each row the number, from 1, of the earlier one of the same configuration and figures; None without one."""
    seen: dict[tuple[object, ...], int] = {}
    result: list[int | None] = []
    for number, row in enumerate(rows, start=1):
        key = tuple(_rounded(value) for name, value in row.items() if name not in ("id", "silicon_data_source"))
        first = seen.setdefault((is_inferencemax(row), *key), number)
        result.append(first if first < number else None)
    return result


def _rounded(value: object) -> object:
    """Copies were converted back and forth, so their last digits differ."""
    return float(f"{value:.9g}") if isinstance(value, float) else value


def is_inferencemax(measured: Mapping[str, Any]) -> bool:
    """Whether a row is of the public InferenceMAX runs."""
    return "measured=" in (measured["silicon_data_source"] or "")
