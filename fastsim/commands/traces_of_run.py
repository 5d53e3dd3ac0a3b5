"""``fastsim run --trace-window`` and ``--event-trace``: what a run did, event by event."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastsim.commands.parsing import progress
from fastsim.errors import ConfigError
from fastsim.export.window import Window, read_window

if TYPE_CHECKING:
    from fastsim.result import SimulationResult


def traced_window(command: Any) -> Window | None:
    """The part of the run that the flags ask to be traced; None if they ask for nothing.

    Raises:
        ConfigError: the window is none, there is nowhere to write to, or the run is by Vidur's rules.
    """
    if command.trace_window is None and command.event_trace is None:
        return None
    if command.out is None and command.event_trace is None:
        raise ConfigError("trace_window", command.trace_window, "has nowhere to write to", "give --out DIR")
    if command.parity is not None:
        mend = "give --record-batches, for batches.parquet"
        raise ConfigError("parity", command.parity, "has a batch log that is not traced", mend)
    if command.event_trace is not None:
        path = Path(command.event_trace)
        if path.is_dir() or not path.absolute().parent.is_dir():
            wrong = "is no file in a directory that exists"
            raise ConfigError("event_trace", command.event_trace, wrong, "give the path of a file")
    return Window() if command.trace_window is None else read_window("trace_window", command.trace_window)


def write_traces(command: Any, result: "SimulationResult", window: Window) -> None:
    """Write what the flags ask for.

    Raises:
        ConfigError: a file cannot be written.
    """
    from fastsim.export.chrome_trace import MANY_EVENTS, write_trace
    from fastsim.export.event_trace import write_event_trace

    asked = []
    if command.trace_window is not None and command.out is not None:
        asked.append(("out", Path(command.out) / "trace.json.gz", write_trace))
    if command.event_trace is not None:
        asked.append(("event_trace", Path(command.event_trace), write_event_trace))
    for flag, path, write in asked:
        try:
            with progress(f"writing {path}"):
                events = write(result, path, window)
        except OSError as error:
            raise ConfigError(flag, str(path), f"cannot be written ({error.strerror})", "choose another") from None
        if write is write_trace and events > MANY_EVENTS:
            found = f"{path} has {events:,} events, which may be more than a browser opens"
            print(f"fastsim: note: {found}; give a shorter --trace-window", file=sys.stderr)
