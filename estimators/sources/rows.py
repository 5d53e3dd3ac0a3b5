"""Checks of the rows of a measured table that name the file, the row and the column of what is wrong."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from estimators.errors import EstimatorError
from estimators.tables_of_files import csv_frame, parquet_frame

if TYPE_CHECKING:
    import polars

#: Operations per second of a product on a GPU: catalogues hold 1.4e12 (a row on an L40S) to 6.5e15 (nvfp4 on a GB300).
SLOWEST_GPU, _FASTEST = 5e11, 3e16
SLOWEST_CPU = 1e8  #: of one core that multiplies in a type which it has no instructions for, a tenth
LARGE = 1e10  #: operations from which on a product keeps a GPU busy
_MOST = 2.0**53  # up to which floats hold every whole number
ROW = "row"  #: a column that counts the rows of the file, as an editor does, where some were left out


def find_csv(folder: Path, name: str) -> Path | None:
    """``NAME.csv`` in a folder, or ``NAME.csv.gz``."""
    return next((path for end in ("csv", "csv.gz") if (path := folder / f"{name}.{end}").is_file()), None)


def read_text(path: Path) -> polars.DataFrame:
    """All columns of a file of CSV, gzipped or not, as text; an empty cell is null.

    Raises:
        EstimatorError: when it cannot be read.
    """
    try:
        return csv_frame(path)
    except (OSError, ValueError) as error:
        raise EstimatorError(str(path), None, f"cannot be read ({error})", "give a table of CSV") from error


def read_table(path: str | os.PathLike[str] | bytes, place: str) -> tuple[polars.DataFrame, dict[str, Any]]:
    """The table of a Parquet file, and the texts beside it.

    Args:
        path: the file, or its bytes.
        place: what the message calls it.

    Raises:
        EstimatorError: when it cannot be read.
    """
    try:
        return parquet_frame(path)
    except (OSError, ValueError) as error:
        raise EstimatorError(place, None, f"cannot be read ({error})", "give a table of Parquet") from error


def require_columns(place: str, frame: polars.DataFrame, columns: Sequence[str]) -> None:
    """Refuse a table without rows or without one of the columns.

    Raises:
        EstimatorError: naming ``place``.
    """
    for column in columns:
        if column not in frame.columns:
            wrong = f"has no column {column!r}"
            raise EstimatorError(place, None, wrong, f"give the columns {', '.join(columns)}")
    if frame.height == 0:
        raise EstimatorError(place, None, "has no rows", "give one for each measurement")


def numbers(place: str, frame: polars.DataFrame, column: str, least: int | None) -> polars.Series:
    """A column as finite numbers: whole ones from ``least`` on, or where that is None times above 0.

    Args:
        place: the file, for the message.
        frame: text or numbers, and optionally ``ROW``.
        column: which.
        least: the smallest of the whole numbers.

    Returns:
        int64, or float64 where ``least`` is None.

    Raises:
        EstimatorError: naming the file, the first row that is wrong and the column.
    """
    import polars as pl

    cells = frame[column]
    refuse_rows(place, frame, column, cells.is_null(), "is empty")
    values = floats(place, frame, column)
    finite = values.is_finite().fill_null(False)
    if least is None:
        refuse_rows(place, frame, column, ~(finite & (values > 0)), "is not a number above 0")
        return values
    whole = finite & (values == values.round()) & (values >= least) & (values <= _MOST)
    refuse_rows(place, frame, column, ~whole, "is not a whole number" + (f" from {least} on" if least else ""))
    return values.cast(pl.Int64)


def floats(place: str, frame: polars.DataFrame, column: str) -> polars.Series:
    """A column of text or numbers as float64; null where a text is no number.

    Raises:
        EstimatorError: for a column of anything else.
    """
    import polars as pl

    cells = frame[column]
    if not (cells.dtype.is_numeric() or cells.dtype in (pl.String, pl.Null)):
        raise EstimatorError(f"{place}: column {column!r}", str(cells.dtype), "is of no numbers", "give numbers")
    text = cells.str.strip_chars() if cells.dtype == pl.String else cells
    return text.cast(pl.Float64, strict=False)


def refuse_rows(
    place: str,
    frame: polars.DataFrame,
    column: str,
    bad: polars.Series,
    wrong: str,
    mend: str = "mend the row or leave it out",
) -> None:
    """Raise for the first row that is bad, if there is one."""
    if bad.any():
        first = int(bad.arg_true()[0])
        number = frame[ROW][first] if ROW in frame.columns else first + 2  # an editor counts the header
        raise EstimatorError(f"{place}: row {number}, column {column!r}", frame[column][first], wrong, mend)


def check_unit(place: str, products: polars.DataFrame, unit: str, slowest: float = SLOWEST_GPU) -> None:
    """Refuse times of products that no device has: a file cannot say its unit, but its times show a wrong one.

    Args:
        place: the file, for the message.
        products: m, n, k and seconds.
        unit: what its times are to be in.
        slowest: least operations per second of a large product; by default of a GPU.

    Raises:
        EstimatorError: when one is faster than the fastest known by far, or a large one slower than the slowest.
    """
    import polars as pl

    work = 2.0 * pl.col("m") * pl.col("n") * pl.col("k")
    rated = products.with_columns(work=work, rate=work / pl.col("seconds"))
    slow = (pl.col("work") >= LARGE) & (pl.col("rate") < slowest)
    bad = rated.filter(slow | (pl.col("rate") > _FASTEST))
    if bad.height:
        one = bad.row(0, named=True)
        field = f"{place}: the product with m={one['m']}, n={one['n']}, k={one['k']}"
        wrong = f"takes {one['seconds']:.3g} s, as on no {'CPU' if slowest == SLOWEST_CPU else 'GPU'}"
        raise EstimatorError(field, None, wrong, f"give times in {unit}")
