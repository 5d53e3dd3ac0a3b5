"""The journal of a search: what has ended, one line each, on disk before it counts.

The first line says of which search it is. A kill at any moment leaves whole lines and at most a torn one at the end,
which is dropped when the search goes on.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from estimators.bounded import parsed_json
from estimators.files import errors_of
from fastsim import __version__
from fastsim.errors import ConfigError
from fastsim.searching.tasks import Key, Outcome

if TYPE_CHECKING:
    from fastsim.searching.limits import Limit
    from fastsim.searching.space import Space
    from traces import Workload

NAME = "journal.jsonl"
#: Largest journal that is read: of some million runs.
_MOST_BYTES = 1 << 30
_RESUME, _ELSEWHERE = "give resume to go on with it", "choose another directory"


def header_of(
    space: "Space", workloads: "Mapping[str, Workload]", limits: "tuple[Limit, ...]", tolerance: float, seed: int
) -> dict[str, Any]:
    """What tells one search from another: the first line of its journal."""
    from estimators import load_device, load_model

    models = [asdict(load_model(model)) for model in space.fields.get("model", ())]
    devices = [load_device(device) for device in space.fields.get("device", ())]
    return {
        "version": __version__,
        "space": _digest(asdict(space)),
        "models": _digest(models),
        "profiles": {device.directory: _hash_of(Path(device.directory)) for device in devices if device.directory},
        "workloads": {name: workload.hash for name, workload in workloads.items()},
        "slo": [asdict(limit) for limit in limits],
        "tolerance": tolerance,
        "seed": seed,
    }


def _digest(parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _hash_of(directory: Path) -> str:
    """sha256 of the files of a profiled device, names included."""
    digest = hashlib.sha256()
    for file in sorted(file for file in directory.rglob("*") if file.is_file()):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(directory)} {len(content)} ".encode() + content)
    return digest.hexdigest()


class Journal:
    """An append-only file of outcomes.

    Attributes:
        outcomes: what it holds, by the keys of their tasks.
    """

    def __init__(self, directory: Path, header: Mapping[str, Any], resume: bool) -> None:
        """Open the journal of a search, and make it where there is none.

        Args:
            directory: where it is; made where it does not exist.
            header: what tells this search from others; JSON-able.
            resume: take over what the journal holds.

        Raises:
            ConfigError: it is there and is not to be resumed, it is of another search or damaged, another process is
                writing it, or it cannot be written.
        """
        self.path = directory / NAME
        self.outcomes: dict[Key, Outcome] = {}
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self.file: IO[bytes] = self.path.open("a+b")
        except OSError as error:
            wrong = f"cannot be written ({error.strerror})"
            raise ConfigError("directory", str(directory), wrong, _ELSEWHERE) from None
        try:
            self._lock()
            self._begin(json.loads(json.dumps(header)), resume)
        except BaseException:
            self.file.close()
            raise

    def add(self, outcome: Outcome) -> None:
        """Write an outcome; when this returns it survives a kill and a power cut."""
        self._write(outcome.as_dict())
        self.outcomes[outcome.key] = outcome

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with errors_of(self.path):  # of what could not be written before, which is tried once more
            self.file.close()

    def _lock(self) -> None:
        """Refuse a journal that another process is writing, where the system can tell."""
        try:
            import fcntl
        except ImportError:  # Windows
            return
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            wrong = "is being written by another search"
            raise ConfigError("directory", str(self.path.parent), wrong, f"wait for it, or {_ELSEWHERE}") from None
        except OSError:  # a file system without locks
            return

    def _begin(self, header: dict[str, Any], resume: bool) -> None:
        self.file.seek(0)
        if os.fstat(self.file.fileno()).st_size > _MOST_BYTES:
            wrong = f"has more than the {_MOST_BYTES:,} bytes that are read"
            raise ConfigError("journal", str(self.path), wrong, _ELSEWHERE)
        text = self.file.read()
        whole = text[: text.rfind(b"\n") + 1]
        lines = whole.splitlines()
        if lines and not resume:
            wrong = f"already holds a search, of which {len(lines) - 1:,} runs have ended"
            raise ConfigError("directory", str(self.path.parent), wrong, f"{_RESUME}, or {_ELSEWHERE}")
        for number, line in enumerate(lines):
            try:
                found = parsed_json(line)
                if number > 0:
                    outcome = Outcome.from_dict(found)
                    self.outcomes[outcome.key] = outcome
                elif not isinstance(found, dict):
                    raise ValueError
            except (ValueError, TypeError, KeyError, AttributeError):
                wrong = f"is damaged in line {number + 1}"
                mend = f"remove that line, or {_ELSEWHERE}"
                raise ConfigError("journal", str(self.path), wrong, mend) from None
            if number == 0:
                self._compare(found, header)
        self.file.truncate(len(whole))
        if not lines:
            self._write(header)
            self._sync_directory()

    def _compare(self, found: Mapping[str, Any], header: Mapping[str, Any]) -> None:
        differing = [name for name in header if found.get(name) != header[name]]
        if differing:
            wrong = f"is of another search: it differs in {', '.join(differing)}"
            raise ConfigError("journal", str(self.path), wrong, f"repeat the search as it was, or {_ELSEWHERE}")

    def _write(self, entry: Mapping[str, Any]) -> None:
        with errors_of(self.path):
            self.file.write(json.dumps(entry).encode() + b"\n")
            self.file.flush()
            os.fsync(self.file.fileno())

    def _sync_directory(self) -> None:
        """Make the file's name survive a power cut, too, where directories can be synced."""
        if os.name == "posix":
            number = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(number)
            finally:
                os.close(number)
