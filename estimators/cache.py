"""Iteration tables on disk: a memory-mappable ``.npy`` with a JSON header beside it, and a cache of them."""

from __future__ import annotations

import hashlib
import json
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from estimators.bounded import parsed_json, read_bounded
from estimators.errors import EstimatorError
from estimators.expert_layout import ExpertLayout
from estimators.files import cache_root, replace_file
from estimators.joint import JointLayout, SkewLayout
from estimators.layout import TableLayout
from estimators.tables import IterationTables
from estimators.tables_of_files import mapped_array

# Of the header and the array; part of every cache key, so that a new format starts a new cache.
FORMAT_VERSION = 1
_FORMAT = "fastsim iteration tables"
_ABANDONED_S = 3600.0  # nobody writes a file for longer


def save_tables(tables: IterationTables, path: str | os.PathLike[str]) -> None:
    """Write ``PATH.npy`` and ``PATH.json``, each atomically; missing directories are made.

    Two processes may write the same path at once: whole files replace whole files, and the header's SHA-256 tells a
    reader when the two it found do not belong together.
    """
    values_path, header_path = _paths(path)
    header = {
        "format": _FORMAT,
        "version": FORMAT_VERSION,
        "layout": asdict(tables.layout),
        "prefill_rule": tables.prefill_rule,
        "sha256": tables.values_sha256,
        "provenance": dict(tables.provenance),
    }
    parts = {"joint": tables.joint, "skew": tables.skew, "expert": tables.expert}
    header |= {name: asdict(part) for name, part in parts.items() if part is not None}
    try:
        text = json.dumps(header, indent=1).encode()
    except TypeError as error:
        wrong = f"cannot be written as JSON ({error})"
        raise EstimatorError("provenance", tables.provenance, wrong, "use strings, numbers, lists and dicts") from error
    replace_file(values_path, lambda file: np.save(file, tables.values))
    replace_file(header_path, lambda file: file.write(text))


def load_tables(path: str | os.PathLike[str]) -> IterationTables:
    """Read what ``save_tables`` wrote; the values are a read-only memory map.

    Raises:
        EstimatorError: when a file is missing, damaged, of another format, or does not belong to the other.
    """
    values_path, header_path = _paths(path)
    try:
        header = parsed_json(read_bounded(header_path))
        if header["format"] != _FORMAT or header["version"] != FORMAT_VERSION:
            raise ValueError(f"format {header['format']!r} version {header['version']!r} is not ours")
        layout, rule, provenance = TableLayout(**header["layout"]), header["prefill_rule"], dict(header["provenance"])
        # A plain array over the map: consumers that look at the exact type, numba among them, take it as any other.
        values = mapped_array(values_path)
        joint, skew, expert = (header.get(name) for name in ("joint", "skew", "expert"))
        tables = IterationTables(
            values,
            layout,
            rule,
            provenance,
            None if joint is None else JointLayout(**joint),
            None if skew is None else SkewLayout(**skew),
            None if expert is None else ExpertLayout(**expert),
        )
        if tables.values_sha256 != header["sha256"]:
            raise ValueError("the values do not match the header's sha256")
    except (OSError, ValueError, TypeError, KeyError, EOFError) as error:
        wrong = f"does not hold iteration tables ({error})"
        raise EstimatorError("path", os.fspath(path), wrong, "build and save them again") from error
    return tables


def cache_directory() -> Path:
    """Where built tables are kept."""
    return cache_root() / "tables"


def content_key(parts: dict[str, Any], sources: list[Path]) -> str:
    """Return a hash of what tables depend on: JSON-able ``parts``, the format, and the code in ``sources``."""
    digest = hashlib.sha256(json.dumps([FORMAT_VERSION, parts], sort_keys=True).encode())
    for source in sources:
        digest.update(source.read_bytes())
    return digest.hexdigest()


def cached(key: str, build: Callable[[], IterationTables]) -> IterationTables:
    """Return the tables kept under ``key``, or build and keep them.

    A damaged entry is built again and a directory that cannot be written is done without, each with a warning.
    """
    path = cache_directory() / key
    if os.path.exists(_paths(path)[1]):  # Path.exists raises where the directory may not be read.
        try:
            return load_tables(path)
        except EstimatorError as error:
            warnings.warn(f"cached tables are built again: {error}", stacklevel=4)
    tables = build()
    try:
        save_tables(tables, path)
        _clear(path.parent)
    except OSError as error:
        warnings.warn(f"tables are not kept, since {path.parent} cannot be written ({error}).", stacklevel=4)
    return tables


def _clear(directory: Path) -> None:
    """Remove unfinished files of processes that were killed, some time ago."""
    for path in directory.glob("*.tmp"):
        try:
            if time.time() - path.stat().st_mtime > _ABANDONED_S:
                path.unlink()
        except FileNotFoundError:  # Another process was faster.
            continue


def _paths(path: str | os.PathLike[str]) -> tuple[Path, Path]:
    # Not with_suffix, which would eat what follows the last dot of a name such as "Llama-3.1".
    stem = os.fspath(path).removesuffix(".npy").removesuffix(".json")
    return Path(stem + ".npy"), Path(stem + ".json")
