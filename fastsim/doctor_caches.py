"""The state of fastsim's caches: what is whole, and what a kill or a fault of the disk has left."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

#: More damaged entries than this are counted only.
_MOST_NAMED = 5


def tables() -> Mapping[str, Any]:
    """Iteration tables: every entry is read and compared with the hash beside it, as before each use."""
    from estimators.cache import cache_directory, load_tables
    from estimators.errors import EstimatorError
    from estimators.operator_rows import kept

    directory = cache_directory()
    files = _files(directory)
    headers = {path.stem for path in files if path.suffix == ".json"}
    torn = []
    for name in sorted(headers):
        try:
            load_tables(directory / name)
        except EstimatorError:
            torn.append(name)
    operators = [path for path in files if path.suffix == ".operators"]
    torn += [path.name for path in operators if kept(path) is None]
    alone = [path.name for path in files if path.suffix == ".npy" and path.stem not in headers]
    return {
        **_size(directory, files),
        "whole": len(headers) + len(operators) - len(torn),
        "damaged, to be built again": _named(torn),
        "unfinished, never used": _named([*alone, *_unfinished(files)]),
    }


def traces() -> Mapping[str, Any]:
    """Public traces that were fetched: each is compared with the hash that was published or recorded."""
    from traces.catalog import cache_directory, known_sha256
    from traces.files import sha256_of
    from traces.public_traces import CATALOG

    directory = cache_directory()
    files = _files(directory)
    whole, torn = 0, []
    for name, trace in CATALOG.items():
        path, known = directory / trace.file_name, known_sha256(trace, directory)
        if not path.is_file():
            continue
        if known is None or sha256_of(path) == known:
            whole += 1
        else:
            torn.append(name)
    return {
        **_size(directory, files),
        "whole": whole,
        "damaged, to be fetched again": _named(torn),
        "unfinished, never used": _named(_unfinished(files)),
    }


def kernels() -> Mapping[str, Any]:
    """Compiled kernels: which are kept for these sources, this processor and this version of numba."""
    from estimators.files import cache_root
    from fastsim.kernel.disk_cache import SUFFIX, read_whole
    from fastsim.kernel.jit import cache_directory

    root, directory = cache_root() / "jit", cache_directory()
    files = _files(directory)
    code = {path: read_whole(path) is not None for path in files if path.suffix == SUFFIX}
    others = [path for path in _folders(root) if path != directory]
    return {
        **_size(directory, files),
        "compiled": sorted(path.name.rpartition("-")[0] for path, whole in code.items() if whole),
        "damaged, to be compiled again": _named(sorted(path.stem for path, whole in code.items() if not whole)),
        "of other versions": len(others),
        "bytes of other versions": sum(path.stat().st_size for other in others for path in _files(other)),
    }


def _files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file()) if directory.is_dir() else []


def _folders(directory: Path) -> list[Path]:
    return sorted(path for path in directory.iterdir() if path.is_dir()) if directory.is_dir() else []


def _unfinished(files: Iterable[Path]) -> list[str]:
    return [path.name for path in files if path.suffix == ".tmp"]


def _size(directory: Path, files: list[Path]) -> dict[str, Any]:
    from fastsim.doctor import short

    return {
        "directory": short(directory),
        "files": len(files),
        "bytes": sum(path.stat().st_size for path in files),
    }


def _named(names: list[str]) -> list[str]:
    """Some of the names, and how many there are beside them."""
    more = len(names) - _MOST_NAMED
    return names if more <= 0 else [*names[:_MOST_NAMED], f"and {more} more"]
