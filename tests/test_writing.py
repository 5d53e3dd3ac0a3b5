"""There is one way to write a file: whole or not at all. And text is UTF-8, whatever the locale."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [path for package in ("fastsim", "estimators", "traces") for path in (ROOT / package).rglob("*.py")]
#: Where files are opened to be written: in one step, or a line at a time, of which a torn last one is dropped.
WRITERS = {
    "estimators/files.py",
    "traces/writing.py",
    "fastsim/searching/journal.py",
    "estimators/profiler/record.py",
}
#: Methods that write to a path, if they are given one.
WRITE_ANYWHERE = {
    "write_parquet",
    "write_csv",
    "write_ndjson",
    "write_json",
    "sink_parquet",
    "savez",
    "savetxt",
    "dump",
}


def calls(path: Path) -> list[ast.Call]:
    return [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]


def name_of(call: ast.Call) -> str:
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


def mode_of(call: ast.Call) -> str:
    """The mode of a call of ``open(path, mode)`` or ``path.open(mode)``."""
    place = 0 if isinstance(call.func, ast.Attribute) and getattr(call.func.value, "id", "") != "gzip" else 1
    given = [keyword.value for keyword in call.keywords if keyword.arg == "mode"] or call.args[place : place + 1]
    return str(given[0].value) if given and isinstance(given[0], ast.Constant) else "r"


def writes(call: ast.Call) -> bool:
    name = name_of(call)
    if name == "open":
        return bool(set(mode_of(call)) & set("wax+"))
    if name in WRITE_ANYWHERE or (name == "save" and getattr(getattr(call.func, "value", None), "id", "") == "np"):
        first = call.args[0] if call.args else None
        return not (isinstance(first, ast.Name) and first.id == "file")
    return name in ("write_text", "write_bytes")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("open(path, 'w')", True),
        ("path.open('ab')", True),
        ("path.open(mode='x')", True),
        ("path.open('rb')", False),
        ("open(path)", False),
        ("path.write_text(text)", True),
        ("frame.write_parquet(path)", True),
        ("frame.write_parquet(file, metadata=metadata)", False),
        ("np.save(path, values)", True),
        ("np.save(file, values)", False),
        ("tables.save(path)", False),
    ],
)
def test_calls_that_write_are_seen(code: str, expected: bool):
    (call,) = (node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call))
    assert writes(call) == expected


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_are_written_in_one_way_and_as_utf_8(path: Path):
    for call in calls(path):
        place = f"{path}:{call.lineno}"
        assert not writes(call) or str(path.relative_to(ROOT)) in WRITERS, place
        if is_text(call):
            given = call.args if name_of(call) == "read_text" else []
            assert given or any(keyword.arg == "encoding" for keyword in call.keywords), place


def is_text(call: ast.Call) -> bool:
    """Whether it reads text of a path, and so needs to be told how it is encoded."""
    if name_of(call) == "read_text":
        return isinstance(call.func, ast.Attribute)
    owner = getattr(getattr(call.func, "value", None), "id", "")
    return name_of(call) == "open" and "b" not in mode_of(call) and owner not in ("os", "tarfile", "archive")
