"""What a Parquet file would take in memory, from its footer and the headers of its pages, before it is read.

Both are structs in Thrift's compact protocol (https://parquet.apache.org/docs/file-format/). A file that lies, such as
one of a few bytes that claims 10**12 rows, would be believed by a reader, which then takes that memory.
"""

from collections.abc import Iterator
from mmap import mmap
from typing import Any, Final

_MAGIC: Final = b"PAR1"
_MAX_FOOTER_BYTES: Final = 8 << 20
_MAX_COLUMNS, _MAX_DEPTH = 2000, 12
_VALUE_BYTES: Final = 8
#: Fields of page headers that say an encoding: of values and of levels, and of a dictionary.
_ENCODINGS: Final = ((5, 2), (5, 3), (5, 4), (7, 2), (8, 4))
_MAX_ENCODING: Final = 9
# Types of Thrift's compact protocol.
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 12
_INTEGERS: Final = (4, 5, 6)


def check_sizes(content: bytes, most: int) -> None:
    """Refuse a Parquet file whose values, at 8 bytes each, and unpacked pages take more than ``most`` bytes.

    Raises:
        ValueError: it does, or footer and pages are not those of a Parquet file.
    """
    needed = sum(size for _, size in group_sizes(content))
    if needed > most:
        raise ValueError(f"it holds {needed:,} bytes of values and at most {most:,} are read")


def group_sizes(content: bytes | mmap) -> list[tuple[int, int]]:
    """Of each row group its rows, and the bytes that its values, at 8 bytes each, and unpacked pages take.

    Raises:
        ValueError: footer and pages are not those of a Parquet file.
    """
    try:
        return [(rows, sum(_column_bytes(content, column) for column in columns)) for rows, columns in _groups(content)]
    except (IndexError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError("its footer or a header of its pages is damaged") from None


def _groups(content: bytes | mmap) -> Iterator[tuple[int, list[dict[int, Any]]]]:
    """Of each row group its rows, and the metadata of its columns."""
    length = int.from_bytes(content[-8:-4], "little")
    if len(content) < 12 or content[:4] != _MAGIC or content[-4:] != _MAGIC or length > len(content) - 12:
        raise ValueError("it does not begin and end as a Parquet file does")
    if length > _MAX_FOOTER_BYTES:
        raise ValueError(f"its footer has {length:,} bytes, more than {_MAX_FOOTER_BYTES:,}")
    footer, _ = _struct(content[-8 - length : -8], 0, 0)
    _check_schema(footer[2])
    groups = footer.get(4, [])
    rows = [group.get(3, -1) for group in groups]
    if min(rows, default=0) < 0 or sum(rows) != footer[3]:
        raise ValueError("its rows are not those of its row groups")
    for group in groups:
        columns = [chunk[3] for chunk in group[1]]
        # A column of lists has a value or more for a row.
        if any(column[5] < group[3] for column in columns):
            raise ValueError("a column has fewer values than rows")
        yield group[3], columns


def _check_schema(elements: list[dict[int, Any]]) -> None:
    """Refuse more columns, or types within types, than a table of ours or of anyone's measurements has."""
    if len(elements) > _MAX_COLUMNS:
        raise ValueError(f"it has {len(elements):,} columns, more than {_MAX_COLUMNS:,}")
    open_children: list[int] = []
    for element in elements:
        while open_children and open_children[-1] == 0:
            open_children.pop()
        if open_children:
            open_children[-1] -= 1
        open_children.append(element.get(5, 0))
        if len(open_children) > _MAX_DEPTH:
            raise ValueError("its types are nested too deeply")


def _column_bytes(content: bytes | mmap, column: dict[int, Any]) -> int:
    """Bytes of the values and of the unpacked pages of one column of a row group."""
    start = min(column[9], column.get(11) or column[9])
    end = start + column[7]
    if not 4 <= start <= end <= len(content):
        raise ValueError("a column lies outside of the file")
    values = unpacked = 0
    while start < end and values < column[5]:
        header, start = _struct(content, start, 0)
        if header[2] < 0 or not 0 <= header[3] <= end - start:
            raise ValueError("a page lies outside of its column")
        start += header[3]
        unpacked += header[2]
        data = header.get(5) or header.get(8)
        values += data[1] if data else 0
        encodings = [part.get(number, 0) for name, number in _ENCODINGS if (part := header.get(name))]
        if not all(0 <= encoding <= _MAX_ENCODING for encoding in encodings):
            raise ValueError("a page has an encoding that there is not")
        if data is None and header.get(7, {}).get(1, 0) > header[2]:
            # A dictionary's entry takes a byte at least.
            raise ValueError("a dictionary has more entries than bytes")
    if values != column[5]:
        raise ValueError("the values of a column are not those of its pages")
    return unpacked + _VALUE_BYTES * values


def _varint(data: bytes | mmap, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise IndexError


def _integer(data: bytes | mmap, at: int) -> tuple[int, int]:
    value, at = _varint(data, at)
    return (value >> 1) ^ -(value & 1), at


def _struct(data: bytes | mmap, at: int, depth: int) -> tuple[dict[int, Any], int]:
    """Fields of a struct by their numbers, and where it ends."""
    found: dict[int, Any] = {}
    number = 0
    while head := data[at]:
        at += 1
        if head >> 4:
            number += head >> 4
        else:
            number, at = _integer(data, at)
        kind = head & 0x0F
        if kind in (_TRUE, _FALSE):
            found[number] = kind == _TRUE
        else:
            found[number], at = _value(data, at, kind, depth + 1)
    return found, at + 1


def _value(data: bytes | mmap, at: int, kind: int, depth: int) -> tuple[Any, int]:
    """A value of a kind, and where it ends."""
    if depth > _MAX_DEPTH:
        raise IndexError
    if kind in _INTEGERS:
        return _integer(data, at)
    if kind == _STRUCT:
        return _struct(data, at, depth)
    if kind == _BINARY:
        length, at = _varint(data, at)
        if length > len(data) - at:
            raise IndexError
        return None, at + length  # no text is needed
    if kind in (_LIST, _SET):
        return _list(data, at, depth)
    if kind not in (_TRUE, _FALSE, _BYTE, _DOUBLE):  # Parquet has no maps
        raise IndexError
    end = at + (8 if kind == _DOUBLE else 1)
    if end > len(data):
        raise IndexError
    return data[at], end


def _list(data: bytes | mmap, at: int, depth: int) -> tuple[list[Any], int]:
    head = data[at]
    length, at = (head >> 4, at + 1) if head >> 4 < 15 else _varint(data, at + 1)
    if length > len(data) - at:  # an element takes a byte at least
        raise IndexError
    found = []
    for _ in range(length):
        element, at = _value(data, at, head & 0x0F, depth + 1)
        found.append(element)
    return found, at
