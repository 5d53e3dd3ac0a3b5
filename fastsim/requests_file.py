"""Writing the rows of a stream's requests to a parquet file, row group by row group, while the simulation goes on."""

import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from fastsim.errors import ConfigError

if TYPE_CHECKING:
    import polars as pl

#: Rows of a row group.
ROW_GROUP = 1 << 18
#: Frames that may wait to be written, and how often a full queue looks whether somebody still reads it [s].
_MOST_WAITING, _PATIENCE_S = 2, 0.2


class _AbandonedError(Exception):
    """The rows end early: the file is not to be."""


class RequestsFile:
    """A parquet file that appears, whole, when the context is left without an error, and else not at all.

    Polars asks for the frames that it writes, so it has a thread of its own, which takes them from a queue.
    """

    def __init__(self, path: Path, empty: "pl.DataFrame") -> None:
        """Begin a file.

        Args:
            path: where; a file that is there is replaced. If it is one of those that `SimulationResult.write` makes,
                the summary beside it goes, which is of other rows.
            empty: a frame without rows that has the columns.
        """
        self.path = path
        self._gone = [path.with_name("summary.json")] if path.name == "requests.parquet" else []
        self._schema = empty.schema
        self._waiting: queue.Queue[Any] = queue.Queue(_MOST_WAITING)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._write_all, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._put(_AbandonedError() if error is not None else None)
        self._thread.join()
        if error is None:
            self._raise()

    def write(self, frame: "pl.DataFrame") -> None:
        """Add rows.

        Raises:
            ConfigError: the file cannot be written.
        """
        self._put(frame)
        self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            if isinstance(self._error, OSError):
                wrong = f"cannot be written ({self._error.strerror or self._error})"
                raise ConfigError("requests_file", str(self.path), wrong, "choose another") from self._error
            raise self._error

    def _put(self, item: Any) -> None:
        while self._thread.is_alive():
            try:
                return self._waiting.put(item, timeout=_PATIENCE_S)
            except queue.Full:
                continue

    def _frames(self, *_: Any) -> Iterator["pl.DataFrame"]:
        """What has been put, until there is no more."""
        while (item := self._waiting.get()) is not None:
            if isinstance(item, _AbandonedError):
                raise item
            yield item

    def _write_all(self) -> None:
        from polars.io.plugins import register_io_source

        from estimators.files import replace_files

        try:
            rows = register_io_source(self._frames, schema=self._schema)
            write = {self.path: lambda file: rows.sink_parquet(file, row_group_size=ROW_GROUP)}
            replace_files(write, self._gone)
        except BaseException as error:
            self._error = error
