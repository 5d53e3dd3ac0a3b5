"""The files of ServeGen; see `traces.servegen`."""

import hashlib
import io
import os
import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from traces.bounded import parsed_json
from traces.errors import MAX_TOKENS, TraceError, shown
from traces.files import NEW_COPY, contents, decompressed, file_error

_TRACE: Final = re.compile(r"(?:^|/)chunk-(\d+)-trace\.csv$")
_FAMILIES: Final = ("Gamma", "Weibull")
_COLUMNS: Final = 6


@dataclass(frozen=True, eq=False)
class Histogram:
    """Lengths and their cumulated weights, each of shape (m,), m >= 1."""

    tokens: NDArray[np.int64]
    cumulated: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Histograms:
    """Lengths of the requests of a client from a time on [s]."""

    start_s: float
    prompt: Histogram
    output: Histogram


@dataclass(frozen=True, eq=False)
class Client:
    """One client; arrays of shape (windows,).

    Attributes:
        number: its number in the names of its files.
        start_s: where windows start, rising [s].
        rate: requests per second.
        shape: of the family of intervals.
        is_weibull: whether that is Weibull, and not gamma.
        histograms: those that hold lengths, in order of time.
    """

    number: int
    start_s: NDArray[np.float64]
    rate: NDArray[np.float64]
    shape: NDArray[np.float64]
    is_weibull: NDArray[np.bool_]
    histograms: tuple[Histograms, ...]

    def histograms_at(self, time_s: float) -> Histograms:
        """Those of a time: the last that start before it, or the first of all."""
        later = bisect_right([histograms.start_s for histograms in self.histograms], time_s)
        return self.histograms[max(later - 1, 0)]


def is_archive(text: bytes) -> bool:
    """Whether the bytes of a file, decompressed, are a tar archive."""
    return text[257:262] == b"ustar"


def read_clients(path: str | os.PathLike[str], folder: str = "") -> tuple[tuple[Client, ...], str]:
    """The clients of a folder or an archive, and the sha256 of the archive.

    Args:
        path: the folder or the archive.
        folder: end of the name of a folder in the archive, for archives of several models.

    Raises:
        TraceError: there are none, there are those of several models, or a file is bad.
    """
    files, sha256 = _files(path)
    names = [name for name in files if _TRACE.search(name) and _folder_of(name).endswith(folder)]
    folders = sorted({_folder_of(name) for name in names})
    if len(folders) > 1:
        problem = f"holds the clients of several models: {', '.join(folders)}"
        raise file_error(path, problem, "give the folder of one to traces.ServeGenPool.read")
    clients = []
    for name in sorted(names, key=lambda name: (len(name), name)):
        number = _TRACE.search(name).group(1)  # type: ignore[union-attr]
        dataset = name.removesuffix("trace.csv") + "dataset.json"
        histograms = _histograms(f"{dataset} of {path}", files[dataset]) if dataset in files else ()
        clients.append(_client(f"{name} of {path}", int(number), files[name], histograms))
    if not clients:
        raise file_error(path, "holds no file chunk-0-trace.csv", "give a folder or an archive of ServeGen's clients")
    return tuple(clients), sha256


def _folder_of(name: str) -> str:
    return name.rpartition("/")[0]


def _files(path: str | os.PathLike[str]) -> tuple[dict[str, bytes], str]:
    """Contents of the files of a folder or an archive by their names, and the sha256 of the archive."""
    if os.path.isdir(path):
        return {file.name: contents(file) for file in sorted(Path(path).glob("chunk-*"))}, ""
    import tarfile

    raw = contents(path)
    text = decompressed(path, raw)
    try:
        with tarfile.open(fileobj=io.BytesIO(text), mode="r:") as archive:
            # The holes of a sparse file take memory that the archive does not have.
            members = [
                member for member in archive if member.isreg() and not member.issparse() and "chunk-" in member.name
            ]
            if sum(member.size for member in members) > len(text):
                raise tarfile.ReadError("files that are larger than it")
            found = {member.name: archive.extractfile(member).read() for member in members}  # type: ignore[union-attr]
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise file_error(path, f"is a damaged archive ({error})", NEW_COPY) from error
    return found, hashlib.sha256(raw).hexdigest()


def _client(where: str, number: int, text: bytes, histograms: tuple[Histograms, ...]) -> Client:
    """A client of the lines of its file."""
    rows = []
    for index, line in enumerate(text.decode("utf-8", "replace").splitlines(), start=1):
        if line.strip():
            rows.append(_row(f"on line {index} of {where}", line))
    if not rows or any(after[0] <= before[0] for before, after in pairwise(rows)):
        raise file_error(where, "has no windows, or some that do not rise", NEW_COPY)
    columns = np.array(rows).T
    return Client(number, columns[0], columns[1], columns[2], columns[3] > 0, histograms)


def _row(where: str, line: str) -> tuple[float, float, float, float]:
    """Start, rate, shape, and 1 for Weibull."""
    cells = [cell.strip() for cell in line.split(",")]
    if len(cells) != _COLUMNS:
        raise TraceError("line", line, f"has {len(cells)} cells {where}", f"give {_COLUMNS}: {NEW_COPY}")
    start_s, rate = _number("start", cells[0], where), _number("rate", cells[1], where)
    if rate == 0:
        return start_s, 0.0, 1.0, 0.0
    if cells[3] not in _FAMILIES:
        raise TraceError("family", cells[3], f"is {shown(cells[3])} {where}", f"give {' or '.join(_FAMILIES)}")
    shape = _number("shape", cells[4], where)
    if shape == 0:
        raise TraceError("shape", cells[4], f"is 0 {where}", "give a number above 0")
    return start_s, rate, shape, float(cells[3] == "Weibull")


def _number(name: str, cell: str, where: str) -> float:
    """A cell as a finite number of at least 0."""
    try:
        value = float(cell)
    except ValueError:
        value = -1.0
    if not 0 <= value < np.inf:
        raise TraceError(name, cell, f"is {shown(cell)} {where}", "give a finite number of at least 0")
    return value


def _histograms(where: str, text: bytes) -> tuple[Histograms, ...]:
    """Those of a file that hold anything."""
    try:
        windows: Any = parsed_json(text)
        found = [(float(start_s), window) for start_s, window in windows.items()]
    except (ValueError, AttributeError) as error:
        raise file_error(where, "is no JSON object of windows", NEW_COPY) from error
    parsed = []
    for start_s, window in sorted(found, key=lambda pair: pair[0]):
        prompt, output = (_histogram(where, start_s, window, name) for name in ("input_tokens", "output_tokens"))
        if prompt is not None and output is not None:
            parsed.append(Histograms(start_s, prompt, output))
    return tuple(parsed)


def _histogram(where: str, start_s: float, window: Any, name: str) -> Histogram | None:
    """One histogram, or None where it is empty."""
    text: Any = window.get(name) if isinstance(window, Mapping) else None
    try:
        inside = text.strip().removeprefix("{").removesuffix("}").strip()
        if not inside:
            return None
        pairs = np.array([pair.split(":") for pair in inside.split(",")], np.float64)
        tokens, weights = pairs[:, 0], pairs[:, 1]
        good = (weights.min() >= 0) & (0 < weights.sum() < np.inf)
        good &= (tokens.min() >= 0) & (tokens.max() <= MAX_TOKENS) & bool(np.all(tokens == np.floor(tokens)))
    except (ValueError, AttributeError, IndexError):
        good = False
    if not good:
        problem = f"is {shown(text)} in the window of {start_s:g} s in {where}"
        raise TraceError(name, text, problem, "give a text such as {45: 0.25, 46: 0.75}")
    return Histogram(tokens.astype(np.int64), np.cumsum(weights))
