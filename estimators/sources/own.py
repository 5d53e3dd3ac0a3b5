"""Operator times measured by fastsim's own profiler: one parquet file per operator and dtype, with its provenance.

The rows are the operator's columns (integers), ``seconds``, the median of one call's repeated measurements, and
optionally ``spread``, their standard deviation over their mean. The file's metadata has under ``"fastsim"`` a JSON
object: ``schema`` (this version), ``system``, ``operator``, ``dtype``, ``unit`` (``"s"``), ``engine``, ``kernels``,
``licence`` and ``provenance``: what the one who measured says of device, driver, libraries, date and repeats.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from estimators.bounded import parsed_json
from estimators.devices import CPU
from estimators.errors import EstimatorError
from estimators.files import replace_file
from estimators.profiles import Profiles, check_operator, columns_of, count_outliers, merge_points
from estimators.sources.rows import (
    ROW,
    SLOWEST_CPU,
    SLOWEST_GPU,
    check_unit,
    floats,
    numbers,
    read_table,
    refuse_rows,
    require_columns,
)

if TYPE_CHECKING:
    import polars

SCHEMA = 1
_KEY = "fastsim"
_SAID = ("system", "operator", "dtype", "engine", "licence")
_PROVENANCE = ("device", "driver", "libraries", "date", "repeats")
_MEND = "measure again, or give a file that fastsim wrote"


def own_path(directory: str | os.PathLike[str], operator: str, dtype: str) -> Path:
    """Where an operator's profile is in a directory of one's own."""
    return Path(directory) / f"{operator}-{dtype}.parquet"


def source_of(provenance: Mapping[str, Any]) -> str:
    """What trained estimators say of where their rows come from."""
    return f"fastsim's profiler, {provenance['device']}, {provenance['date']}"


def write_profiles(path: str | os.PathLike[str], profiles: Profiles, provenance: Mapping[str, Any]) -> None:
    """Write what was measured, in one step: a reader sees no half of a file.

    Args:
        path: the file, such as ``own_path`` tells.
        profiles: its frame may have ``spread``.
        provenance: JSON-able; at least ``device``, ``driver``, ``libraries`` (versions by name), ``date`` and
            ``repeats``.

    Raises:
        EstimatorError: for a provenance that lacks one of these, or a frame that could not be read back.
    """
    check_operator(profiles.operator, profiles.dtype)
    _checked(str(path), profiles.frame, profiles.operator, profiles.system)
    about = {name: getattr(profiles, name) for name in _SAID} | {"kernels": list(profiles.kernels)}
    write_measured(path, profiles.frame, about, provenance)


def read_own(path: str | os.PathLike[str]) -> Profiles:
    """Read a file of ``write_profiles``.

    Raises:
        EstimatorError: when it cannot be read, was not written by fastsim, is of another schema or unit, or a row is
            wrong, naming row and column.
    """
    place = os.fspath(path)
    raw, texts = read_table(path, place)
    about = _about(place, texts, (*_SAID, "kernels"))
    operator, dtype = about["operator"], about["dtype"]
    check_operator(operator, dtype)
    rows = _checked(place, raw, operator, about["system"])
    frame = merge_points(operator, rows)
    provenance = about["provenance"]
    return Profiles(
        system=about["system"],
        operator=operator,
        dtype=dtype,
        frame=frame,
        source=source_of(provenance),
        engine=about["engine"],
        licence=about["licence"],
        kernels=tuple(about["kernels"]),
        rows_read=raw.height,
        rows_dropped=0,
        rows_duplicate=raw.height - frame.height,
        outliers=count_outliers(operator, frame),
    )


def read_provenance(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a file of ``write_profiles`` says of itself.

    Raises:
        EstimatorError: when it cannot be read, says nothing, or is of another schema or unit.
    """
    return read_about(path, (*_SAID, "kernels"))


def write_measured(
    path: str | os.PathLike[str], frame: polars.DataFrame, about: Mapping[str, Any], provenance: Mapping[str, Any]
) -> None:
    """Write a table of seconds with what is to be said of it, in one step; see ``write_profiles``.

    Raises:
        EstimatorError: for a provenance that lacks what makes a measurement one.
    """
    missing = [name for name in _PROVENANCE if name not in provenance]
    if missing:
        wrong = f"does not say {', '.join(missing)}"
        raise EstimatorError("provenance", None, wrong, f"give {', '.join(_PROVENANCE)}")
    told = {"schema": SCHEMA, "unit": "s", **about, "provenance": dict(provenance)}
    metadata = {_KEY: json.dumps(told, sort_keys=True)}
    replace_file(Path(path), lambda file: frame.write_parquet(file, metadata=metadata))


def read_about(path: str | os.PathLike[str], said: Sequence[str]) -> dict[str, Any]:
    """What a file of ``write_measured`` says of itself: ``said``, the names of what it must, and its provenance.

    Raises:
        EstimatorError: when it cannot be read, says less, or is of another schema or unit.
    """
    place = os.fspath(path)
    return _about(place, read_table(path, place)[1], said)


def _about(place: str, texts: Mapping[str, str], said: Sequence[str]) -> dict[str, Any]:
    """The same of the texts beside a table."""
    try:
        about = parsed_json(texts.get(_KEY, "null"))
    except ValueError:
        about = None
    if not isinstance(about, dict):
        raise EstimatorError(place, None, "has no metadata of fastsim's", _MEND)
    for name, wanted in (("schema", SCHEMA), ("unit", "s")):
        if about.get(name) != wanted:
            raise EstimatorError(f"{place}: {name}", about.get(name), f"is not {wanted!r}", _MEND)
    if not isinstance(about.get("provenance", {}), dict):
        raise EstimatorError(f"{place}: provenance", about["provenance"], "is no table", _MEND)
    missing = [name for name in (*said, "provenance") if name not in about]
    missing += [name for name in _PROVENANCE if name not in about.get("provenance", {})]
    if missing:
        raise EstimatorError(place, None, f"does not say {', '.join(missing)}", _MEND)
    for name in said:
        if not isinstance(about[name], list if name == "kernels" else str):
            raise EstimatorError(f"{place}: {name}", about[name], "is no text", _MEND)
    return about


def _checked(place: str, raw: polars.DataFrame, operator: str, system: str) -> polars.DataFrame:
    """The columns of an operator, ``seconds`` and, where given, ``spread``, all of them numbers."""
    import polars as pl

    columns = columns_of(operator)
    require_columns(place, raw, [*columns, "seconds"])
    counted = raw.with_row_index(ROW, offset=1)
    rows = [numbers(place, counted, name, least) for name, least in columns.items()]
    rows.append(numbers(place, counted, "seconds", None))
    if "spread" in raw.columns:
        spread = floats(place, raw, "spread")
        right = spread.is_finite().fill_null(False) & (spread >= 0).fill_null(False)
        refuse_rows(place, counted, "spread", ~right, "is not a number from 0 on")
        rows.append(spread)
    frame = pl.DataFrame(rows)
    if operator == "gemm":
        check_unit(place, frame, "seconds", SLOWEST_CPU if system == CPU else SLOWEST_GPU)
    return frame
