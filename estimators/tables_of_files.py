"""Tables of numbers in files of strangers, as frames or arrays, none larger than is sensible for measurements."""

from __future__ import annotations

import functools
import io
import math
import os
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from estimators.bounded import is_packed, read_bounded, text_of, unpacked
from estimators.parquet_sizes import check_sizes

if TYPE_CHECKING:
    import polars

MAX_TABLE_BYTES: Final = 1 << 30
"""Largest table of measurements that is read, unpacked."""
MAX_YAML_BYTES: Final = 4 << 20
"""Largest file of YAML, which takes a second for each MiB."""
_MAX_COLUMNS: Final = 2000
_MAX_ARRAYS: Final = 1000
_MAX_DIGITS: Final = 100


def csv_frame(path: str | os.PathLike[str]) -> polars.DataFrame:
    """All columns of a file of CSV, gzipped or not, as text.

    Raises:
        OSError, ValueError: it cannot be read, with a clause that says why.
    """
    import polars as pl

    text = csv_bytes(path)
    header = text.partition(b"\n")[0]
    if header.count(b",") >= _MAX_COLUMNS:
        raise ValueError(f"it has {header.count(b',') + 1:,} columns, more than {_MAX_COLUMNS:,}")
    if is_packed(text):  # polars would unpack it, whatever its size
        raise ValueError("it is compressed twice, or not by gzip")
    try:
        return pl.read_csv(text, infer_schema=False)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise ValueError(first_line(error)) from error


def csv_bytes(path: str | os.PathLike[str]) -> bytes:
    """The text of a file, gzipped or not, still encoded.

    Raises:
        OSError, ValueError: it cannot be read, or is damaged.
    """
    try:
        return unpacked(read_bounded(path, MAX_TABLE_BYTES), MAX_TABLE_BYTES)
    except (EOFError, zlib.error) as error:
        raise ValueError(f"it is a damaged gzip file: {error}") from error


def parquet_frame(path: str | os.PathLike[str] | bytes) -> tuple[polars.DataFrame, dict[str, Any]]:
    """The table of a Parquet file, or of the bytes of one, and the texts beside it, by their keys.

    Raises:
        OSError, ValueError: it cannot be read, with a clause that says why.
    """
    import polars as pl

    content = path if isinstance(path, bytes) else read_bounded(path, MAX_TABLE_BYTES)
    check_sizes(content, MAX_TABLE_BYTES)
    try:
        return pl.read_parquet(io.BytesIO(content)), pl.read_parquet_metadata(io.BytesIO(content))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise ValueError(first_line(error)) from error


def npz_arrays(path: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    """The arrays of numbers of an ``.npz`` file by their names.

    Raises:
        OSError, ValueError: it cannot be read, or an array is of objects, which only pickle could read.
    """
    content = read_bounded(path, MAX_TABLE_BYTES)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            if len(members) > _MAX_ARRAYS or sum(member.file_size for member in members) > MAX_TABLE_BYTES:
                raise ValueError(f"it claims more than {_MAX_ARRAYS:,} arrays or {MAX_TABLE_BYTES:,} bytes")
            return {member.filename.removesuffix(".npy"): _array(archive, member) for member in members}
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"it is a damaged archive: {first_line(error)}") from error


def mapped_array(path: Path) -> NDArray[Any]:
    """An ``.npy`` file of numbers as a read-only map: only what is looked at takes memory.

    Raises:
        OSError, ValueError: it cannot be read, or is none.
    """
    try:
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError):
        raise
    except Exception as error:  # numpy has Python's parser read the header, which fails in many ways
        raise ValueError(f"its header is none: {first_line(error)}") from error


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    """An array, whose header may claim no other size than the file has: numpy would believe it."""
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError("it is not compressed as numpy does it")
    with archive.open(member) as file:
        content = file.read(member.file_size)
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, by_columns, dtype = read(stream)
    except Exception as error:  # numpy has Python's parser read the header, which fails in many ways
        raise ValueError(f"{member.filename[:60]!r} in it is no array") from error
    count = math.prod(shape)
    if dtype.kind not in "iufb" or min(shape, default=0) < 0 or count * dtype.itemsize != len(content) - stream.tell():
        raise ValueError(f"{member.filename[:60]!r} in it is no array of as many numbers as it claims")
    flat = np.frombuffer(content, dtype, count, stream.tell())
    return flat.reshape(shape, order="F" if by_columns else "C")


def yaml_table(content: bytes) -> Any:
    """What a YAML file says, of 64-bit integers.

    No part of it may stand for another, by which a small file can mean a huge one.

    Raises:
        ValueError: it cannot be read, with a clause that says why.
    """
    import yaml

    text = text_of(content)
    try:
        return yaml.load(text, _safe_loader())
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except (yaml.YAMLError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(" ".join(str(error).split())) from error


@functools.cache
def _safe_loader() -> Any:
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise ValueError("it has an alias, which is not read")
            return super().compose_node(parent, index)

        def whole(self, node: Any) -> int:
            value: int = self.construct_yaml_int(self._short(node))
            if abs(value) >= 2**63:
                raise ValueError("an integer of it has more than 64 bits")
            return value

        def fraction(self, node: Any) -> float:
            value: float = self.construct_yaml_float(self._short(node))
            return value

        def _short(self, node: Any) -> Any:
            if len(node.value) > _MAX_DIGITS:  # in YAML 1:30 is ninety, so that time grows with the square of the parts
                raise ValueError(f"a number of it has {len(node.value)} digits")
            return node

    Loader.add_constructor("tag:yaml.org,2002:int", Loader.whole)
    Loader.add_constructor("tag:yaml.org,2002:float", Loader.fraction)
    return Loader


def first_line(error: BaseException) -> str:
    """The first line of what an error of a library says."""
    return (str(error).splitlines() or [type(error).__name__])[0]
