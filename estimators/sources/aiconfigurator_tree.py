"""Where the tables of aiconfigurator lie in an installed package: its systems, families, backends and versions.

``systems/data/SYSTEM/FAMILY/BACKEND/VERSION/TABLE.parquet``, in ``aiconfigurator_core`` as in its successor
``aisimulate_core``. A version's ``reuse.yaml`` may declare that a table, or what its own rows lack, is that of another
version. The packages are never imported: that would load their compiled engines, so their place is looked up without
running them.
"""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import importlib.util
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from estimators.errors import EstimatorError
from estimators.tables_of_files import yaml_table

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

#: Modules that may hold the tree, in the order they are looked through, and the distributions that carry them. The
#: successor's distribution has a module of either name, and the tree in one of them.
PACKAGES: Mapping[str, tuple[str, ...]] = {
    "aiconfigurator_core": ("aiconfigurator-core", "aisimulate-core", "aisimulate"),
    "aisimulate_core": ("aisimulate-core", "aisimulate"),
}
INSTALL = "pip install 'fastsim-llm[profiles]'"


@dataclass(frozen=True)
class Table:
    """The files that hold one version of a table.

    Attributes:
        backend: the folder of the serving engine or library.
        version: which version of it is asked for.
        files: versions and files: its own rows first, then the table of the version it re-uses.
    """

    backend: str
    version: str
    files: tuple[tuple[str, Traversable], ...]

    def engine(self, versions: Sequence[str]) -> str:
        """Backend and version, and whose rows they are where not its own; ``versions`` are those that hold rows."""
        own = self.version in versions
        others = ", ".join(version for version in versions if version != self.version)
        if not others:
            return f"{self.backend} {self.version}"
        return f"{self.backend} {self.version} ({'with rows' if own else 'by the table'} of {others})"


def find_package(package: str | None) -> tuple[str, Traversable]:
    """The installed package, as distribution and version, and its folder of systems.

    Raises:
        EstimatorError: when it, or without a name any of them, is not installed.
    """
    if package is not None and package not in PACKAGES:
        raise EstimatorError("package", package, "is not read", f"choose one of {', '.join(PACKAGES)}")
    for module in PACKAGES if package is None else (package,):
        if (data := package_folder(module, "systems", "data")) is not None:
            return _distribution(module), data
    name = PACKAGES[package or "aiconfigurator_core"][0]
    raise EstimatorError("package", name, "is not installed, and it holds the profiles", f"run {INSTALL}")


def package_folder(module: str, *names: str) -> Traversable | None:
    """A folder inside a package, which is not run; None where it is not installed or has none."""
    if (spec := importlib.util.find_spec(module)) is None:
        return None
    # A module made from its spec but never executed: enough to find its files.
    folder = importlib.resources.files(importlib.util.module_from_spec(spec)).joinpath(*names)
    return folder if folder.is_dir() else None


def _distribution(module: str) -> str:
    for name in PACKAGES[module]:
        try:
            return f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return module


def systems(data: Traversable) -> list[str]:
    """The systems that were measured, sorted."""
    return sorted(entry.name for entry in data.iterdir() if entry.is_dir() and (entry / "gemm").is_dir())


def table_versions(folder: Traversable, name: str) -> list[Table]:
    """The versions of a table in the folder of a backend, newest first: those measured and those declared."""
    if not folder.is_dir():
        return []
    found = []
    for entry in folder.iterdir():
        files = [(entry.name, entry / name)] if (entry / name).is_file() else []
        donor = _reused(entry, name.removesuffix(".parquet"))
        if donor is not None:
            other = folder / donor / name
            if not other.is_file():
                place = f"{folder.name}/{entry.name}/reuse.yaml"
                raise EstimatorError(place, donor, f"holds no {name}", "install the package again")
            files.append((donor, other))
        if files:
            found.append(Table(folder.name, entry.name, tuple(files)))
    return sorted(found, key=lambda table: version_key(table.version), reverse=True)


def _reused(folder: Traversable, table: str) -> str | None:
    """The version whose rows a version's folder declares to be its own."""
    declaration = folder / "reuse.yaml"
    if not declaration.is_file():
        return None
    try:
        declared = yaml_table(declaration.read_bytes()) or {}
        return {str(one["table"]): str(one["from_version"]) for one in declared["reuse"]}.get(table)
    except (OSError, ValueError, KeyError, TypeError) as error:
        wrong = f"is no list of reused tables ({type(error).__name__}: {error})"
        raise EstimatorError(f"{folder.name}/reuse.yaml", None, wrong, "install the package again") from error


def choose_version(tables: Sequence[Table], version: str | None, what: str) -> list[Table]:
    """The tables to try, best first: the named version alone, or those measured, newest first.

    Raises:
        EstimatorError: when the named version is not among them.
    """
    if version is None:
        return [table for table in tables if any(of == table.version for of, _ in table.files)]
    named = [table for table in tables if table.version == version]
    if tables and not named:
        known = ", ".join(table.version for table in tables)
        raise EstimatorError("version", version, f"has no {what}", f"choose one of {known}")
    return named


def version_key(version: str) -> tuple[tuple[int, ...], int, int]:
    """What versions are ordered by: numbers, and pre-releases before and post-releases after them (as in PEP 440)."""
    parts = re.match(r"v?(\d+(?:\.\d+)*)(?:[._-]?(dev|a|b|rc|post)(\d*))?", version)
    if parts is None:
        return (), 0, 0
    stages = ("dev", "a", "b", "rc", None, "post")
    return tuple(int(part) for part in parts[1].split(".")), stages.index(parts[2]), int(parts[3] or 0)
