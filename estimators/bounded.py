"""Files of strangers: their sizes are checked before memory is taken for what they hold.

The packages ``estimators`` and ``traces`` know nothing of each other, so each has this module and `parquet_sizes`; a
test holds the copies to one text. Everything raises OSError or a ValueError whose text is a clause, which a caller
makes a sentence of.
"""

import gzip
import io
import json
import os
import zlib
from typing import Any, Final, NoReturn

MAX_FILE_BYTES: Final = 4 << 30
"""Largest file that is read as a whole, and largest text that is unpacked."""
MAX_SMALL_BYTES: Final = 16 << 20
"""Largest description: of a model, a device or a run."""
_PACKED: Final = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"x\x01", b"x\x5e", b"x\x9c", b"x\xda")
_USUAL_RATIO: Final = 100
_UNSUSPICIOUS_BYTES: Final = 64 << 20
_CHUNK: Final = 1 << 20
_MAX_INTEGER: Final = 2**63 - 1


def read_bounded(path: str | os.PathLike[str], most: int = MAX_SMALL_BYTES) -> bytes:
    """The bytes of a file of at most ``most``.

    Raises:
        OSError: it cannot be read.
        ValueError: it is larger, or the path is none.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        content = b"" if size > most else file.read(most + 1)  # a pipe tells no size
    if max(size, len(content)) > most:
        raise ValueError(f"it has more than the {most:,} bytes that are read")
    return content


def text_of(content: bytes) -> str:
    """The text of a file.

    Raises:
        ValueError: it is not UTF-8.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start:,} is not UTF-8") from None


def is_packed(content: bytes) -> bool:
    """Whether a file is compressed, as gzip, zlib or zstd are recognised."""
    return content.startswith(_PACKED)


def unpacked(content: bytes, most: int = MAX_FILE_BYTES) -> bytes:
    """What a gzip file holds, the same bytes where it is none.

    Raises:
        EOFError, OSError, zlib.error: it is cut short or damaged.
        ValueError: it holds more than ``most`` bytes, or many times more than gzip saves of text.
    """
    if not content.startswith(_PACKED[0]):
        return content
    most = min(most, max(_UNSUSPICIOUS_BYTES, _USUAL_RATIO * len(content)))
    text = io.BytesIO()
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
        while chunk := file.read1(_CHUNK):
            if text.tell() + len(chunk) > most:
                raise ValueError(f"its {len(content):,} bytes unpack to more than {most:,}")
            text.write(chunk)
    return text.getvalue()


def lines_of_torn(content: bytes) -> int:
    """Whole lines of a gzip file that is cut short, in as much as is unpacked of any."""
    try:
        return zlib.decompressobj(wbits=31).decompress(content, _UNSUSPICIOUS_BYTES).count(b"\n")
    except zlib.error:  # cut short within a header
        return 0


def parsed_json(text: bytes | str, *, takes_constants: bool = False) -> Any:
    """What JSON text says, of finite numbers and 64-bit integers, no key of an object given twice.

    Args:
        text: in UTF-8, where it is bytes.
        takes_constants: whether Infinity and NaN may stand for numbers, which JSON lacks but many programs write.

    Raises:
        ValueError: it is no such text, or nested too deeply to be read.
    """
    try:
        return json.loads(
            text_of(text) if isinstance(text, bytes) else text,
            parse_int=_integer,
            parse_float=_finite,
            parse_constant=None if takes_constants else _refuse_constant,
            object_pairs_hook=_object,
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _integer(digits: str) -> int:
    value = int(digits) if len(digits) < 21 else _MAX_INTEGER + 1
    if abs(value) > _MAX_INTEGER:
        raise ValueError(f"an integer has {len(digits)} digits")
    return value


def _finite(digits: str) -> float:
    value = float(digits)
    if value - value != 0:
        raise ValueError("a number is too large")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has a key twice")
    return found
