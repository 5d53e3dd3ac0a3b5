"""Public traces by name: where they are, what they must hash to, and how they are fetched.

A hash is given where the original bytes were at hand, or where the publisher or several users of the file state it.
Where none is known, the first fetch records it beside the file, and later ones are held against that: a change shows, a
wrong first one does not.
"""

import os
from pathlib import Path
from typing import Any, Final

from traces.errors import TraceError, shown
from traces.files import file_error, sha256_of
from traces.public_traces import CATALOG, PublicTrace
from traces.writing import replace_file

_TIMEOUT_S: Final = 60


def cache_directory() -> Path:
    """Where fetched traces are kept: ``$XDG_CACHE_HOME/fastsim/traces``, by default under ``~/.cache``."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "fastsim" / "traces"


def find(name: str) -> PublicTrace:
    """The trace of a name.

    Raises:
        TraceError: there is none.
    """
    if name not in CATALOG:
        raise TraceError("trace", name, f"is {shown(name)}", f"choose one of {', '.join(CATALOG)}")
    return CATALOG[name]


def located(name_or_path: str) -> Path:
    """The file of a path, or of the name of a trace that was fetched; a file of that name comes first.

    Raises:
        TraceError: it is the name of a trace that was not fetched.
    """
    path = Path(name_or_path)
    if name_or_path not in CATALOG or path.exists():
        return path
    cached = cache_directory() / CATALOG[name_or_path].file_name
    if not cached.exists():
        problem = f"is {name_or_path!r}, a public trace that was not fetched yet"
        raise TraceError("trace", name_or_path, problem, f"run fastsim traces fetch {name_or_path}")
    return cached


def fetch(name: str, directory: Path | None = None) -> Path:
    """Fetch a public trace, unless it is in the cache already; a file comes whole and right, or not at all.

    Args:
        name: a name in `CATALOG`.
        directory: where to keep it; None for `cache_directory`.

    Returns:
        The file.

    Raises:
        TraceError: there is no such trace, it cannot be fetched, or it does not hash to what it must.
    """
    trace = find(name)
    folder = cache_directory() if directory is None else directory
    known = known_sha256(trace, folder)
    path = Path(_retrieve(name, trace, known, folder))
    if known is None:
        digest = sha256_of(path)
        replace_file(_record(trace, folder), lambda file: file.write(f"{digest}\n".encode()))
    return path


def known_sha256(trace: PublicTrace, folder: Path) -> str | None:
    """What the file of a trace must hash to: as published, or as recorded in a folder when it was first fetched."""
    record = _record(trace, folder)
    return trace.sha256 or (record.read_text(encoding="ascii").strip() if record.is_file() else None)


def _record(trace: PublicTrace, folder: Path) -> Path:
    return folder / f"{trace.file_name}.sha256"


def _retrieve(name: str, trace: PublicTrace, known: str | None, folder: Path) -> Any:
    """The path of the file, fetched where it is not there or has another hash."""
    try:
        import pooch
    except ImportError:
        problem, mend = "needs the package pooch to be fetched", "run python -m pip install 'fastsim-llm[fetch]'"
        raise TraceError("trace", name, problem, mend) from None
    import requests

    pooch.get_logger().setLevel("WARNING")
    expected = None if known is None else f"sha256:{known}"
    try:
        downloader = pooch.HTTPDownloader(timeout=_TIMEOUT_S)
        return pooch.retrieve(trace.url, expected, trace.file_name, folder, downloader=downloader)
    except requests.RequestException as error:
        problem = f"is {name!r}, which cannot be fetched from {trace.url} ({_reason(error)})"
        mend = "try again, or fetch it by other means and give the path of the file"
        raise TraceError("trace", name, problem, mend) from error
    except ValueError as error:
        whose = "published" if trace.sha256 else "recorded when it was first fetched"
        problem = f"is {name!r}, for which {trace.url} has bytes of another sha256 than {known}, the one {whose}"
        raise TraceError("trace", name, problem, "try again; if it stays so, the file there has changed") from error
    except OSError as error:
        raise file_error(folder, f"cannot be written ({error.strerror})", "set XDG_CACHE_HOME to another") from error


def _reason(error: Exception) -> str:
    """The first line of an error, without the objects in it."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return text if len(text) <= 120 else text[:117] + "..."
