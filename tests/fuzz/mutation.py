"""Changes of what is read: of bytes, of the words of a text, of trees such as JSON, and of tables."""

import gzip
import io
import json
import math
import random
import re
from collections.abc import Callable
from typing import Any

import polars as pl

#: Words that readers take apart, or should not.
WORDS = ["", "0", "-1", "1", "2", "0.5", "-0.0", "1e3", "1e300", "1e999", "-1e999", "NaN", "nan", "inf", "Infinity"]
WORDS += ["2147483647", "2147483648", "9007199254740993", "9223372036854775807", "9223372036854775808"]
WORDS += [
    "1" * 30,
    "9" * 400,
    "9" * 5000,
    "null",
    "true",
    "None",
    "[]",
    "{}",
    '""',
    '"',
    "'",
    ",",
    ";",
    "\t",
    "\n",
    "\r\n",
]
WORDS += [
    "\x00",
    "\x1b[31m",
    "\u2028",
    "é",
    "\U0001d7d9",
    "\uff11",
    "<script>",
    "../..",
    "/dev/null",
    "%s",
    "{0}",
    "a" * 300,
    "=",
    "#",
    "-",
]
#: Values that stand where others should.
VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1,
    2,
    3,
    7,
    0.0,
    -0.0,
    0.5,
    1.5,
    1e-9,
    1e300,
    5e-324,
    math.inf,
    -math.inf,
]
VALUES += [
    math.nan,
    2**31 - 1,
    2**31,
    2**53 + 1,
    2**63 - 1,
    2**63,
    -(2**63),
    10**30,
    "",
    "0",
    "1",
    "nan",
    "1e999",
    "a\nb",
]
VALUES += [
    "\x00",
    "é",
    "x" * 300,
    [],
    {},
    [[]],
    [None],
    {"": None},
    [1, 2],
    ["a"],
    {"a": 1},
    "auto",
    "1s",
    "10req",
    "-1s",
]
_SPECIAL = [
    b"\x00",
    b"\xff",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\n",
    b"\r",
    b",",
    b'"',
    b"\x80",
    b"\x7f\xff\xff\xff",
    b"PAR1",
]
_UNCHANGED = 0.15
_TOKEN = re.compile(r"[\w.+-]+")


def mutated_bytes(rng: random.Random, content: bytes) -> bytes:
    """Some bytes with one to six changes, or now and then as they are, as in the other functions here."""
    if rng.random() < _UNCHANGED:
        return content
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        at = rng.randrange(len(data) + 1)
        length = min(rng.choice((1, 2, 4, 8, 32, 200)), len(data) - at)
        kind = rng.randrange(7)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and at < len(data):
            data[at] = rng.randrange(256)
        elif kind == 2:
            del data[at : at + length]
        elif kind == 3:
            data[at:at] = rng.choice(_SPECIAL)
        elif kind == 4:
            data[at:at] = data[at : at + length] * rng.choice((1, 2, 20))
        elif kind == 5:
            del data[at:]
        else:
            data[at : at + length] = rng.randbytes(length)
    return bytes(data)


def mutated_text(rng: random.Random, content: bytes) -> bytes:
    """A text with some of its words replaced, or its lines moved; or else changed as bytes."""
    if rng.random() < 0.3 + _UNCHANGED:
        return mutated_bytes(rng, content)
    text = content.decode("utf-8", "replace")
    for _ in range(rng.choice((1, 1, 2, 4))):
        found = list(_TOKEN.finditer(text))
        lines = text.split("\n")
        kind = rng.randrange(5)
        if kind <= 2 and found:
            word = rng.choice(found[: 60 if rng.random() < 0.5 else None])
            text = text[: word.start()] + rng.choice(WORDS) + text[word.end() :]
        elif kind == 3:
            lines.insert(rng.randrange(len(lines) + 1), rng.choice((*lines, *WORDS)))
            text = "\n".join(lines)
        else:
            del lines[rng.randrange(len(lines))]
            text = "\n".join(lines)
    return text.encode("utf-8", "surrogatepass")


def packed(rng: random.Random, mutate: Callable[[random.Random, bytes], bytes], content: bytes) -> bytes:
    """A text that is changed, and now and then gzipped, before or after."""
    kind = rng.random()
    if kind < 0.7:
        return mutate(rng, content)
    if kind < 0.85:
        return gzip.compress(mutate(rng, content), 1)
    return mutated_bytes(rng, gzip.compress(content, 1))


def mutated_tree(rng: random.Random, tree: Any) -> Any:
    """A tree of dicts and lists, the same in memory for an unchanged part, with one to three places changed."""
    if rng.random() < _UNCHANGED:
        return tree
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        tree = _changed(rng, tree)
    return tree


def _changed(rng: random.Random, tree: Any) -> Any:
    if isinstance(tree, dict | list) and tree and rng.random() < 0.93:
        keys = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
        key, copy = rng.choice(keys), tree.copy()
        kind = rng.random()
        if kind < 0.12:
            del copy[key]
        elif kind < 0.18 and isinstance(copy, dict):
            copy[rng.choice(("", "x", "name", f"{key}_", "a\nb"))] = copy.pop(key)
        elif kind < 0.22 and isinstance(copy, list):
            copy.insert(0, copy[key])
        else:
            copy[key] = _changed(rng, copy[key])
        return copy
    if isinstance(tree, int | float) and not isinstance(tree, bool) and rng.random() < 0.4:
        return rng.choice((-tree, tree + 1, tree * 2, tree / 2, tree * 1000, str(tree), [tree]))
    return rng.choice(VALUES)


def mutated_json(rng: random.Random, content: bytes) -> bytes:
    """JSON whose tree is changed, or its text."""
    if rng.random() < 0.25:
        return mutated_text(rng, content)
    return json.dumps(mutated_tree(rng, json.loads(content))).encode()


def mutated_frame(rng: random.Random, frame: pl.DataFrame) -> pl.DataFrame:
    """A table with one or two of its columns changed."""
    for _ in range(rng.choice((1, 1, 2))):
        name = rng.choice(frame.columns)
        column = frame[name]
        kind = rng.randrange(8)
        if kind == 0 and len(frame.columns) > 1:
            frame = frame.drop(name)
        elif kind == 1:
            frame = frame.rename({name: f"{name}x"})
        elif kind == 2:
            types = (
                pl.Float32,
                pl.Int8,
                pl.UInt64,
                pl.String,
                pl.Boolean,
                pl.Float64,
                pl.Date,
                pl.Null,
                pl.Categorical,
            )
            try:
                frame = frame.with_columns(column.cast(rng.choice(types), strict=False))
            except pl.exceptions.PolarsError:
                continue
        elif kind == 3:
            frame = frame.head(rng.choice((0, 1, 2)))
        elif kind == 4:
            frame = frame.with_columns(pl.Series(name, [[value] for value in column]))
        elif kind == 5:
            frame = pl.concat([frame, frame])
        else:
            cells: list[Any] = column.to_list()
            if cells:
                cells[rng.randrange(len(cells))] = rng.choice([value for value in VALUES if _fits(value)])
            try:
                frame = frame.with_columns(pl.Series(name, cells, strict=rng.random() < 0.3))
            except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):
                continue
    return frame


def _fits(value: Any) -> bool:
    return value is None or isinstance(value, float | str) or (isinstance(value, int) and abs(value) < 2**63)


def mutated_parquet(rng: random.Random, content: bytes) -> bytes:
    """A Parquet file whose table is changed, what is said beside it, or its bytes."""
    kind = rng.random()
    if kind < 0.35:
        return mutated_bytes(rng, content)
    frame = pl.read_parquet(io.BytesIO(content))
    beside = {k: v for k, v in pl.read_parquet_metadata(io.BytesIO(content)).items() if k != "ARROW:schema"}
    if kind < 0.6 and beside:
        key = rng.choice(list(beside))
        beside[key] = mutated_json(rng, beside[key].encode()).decode("utf-8", "replace")
    else:
        frame = mutated_frame(rng, frame)
    file = io.BytesIO()
    try:
        frame.write_parquet(file, metadata=beside, row_group_size=rng.choice((None, 1, 7)))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return mutated_bytes(rng, content)
    return file.getvalue()
