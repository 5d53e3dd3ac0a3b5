"""The command line: one small parser per command, one sentence per error.

Exit codes: 0 done, 1 a fault of fastsim's own (with its traceback), 2 bad input or a place that cannot be written, 130
interrupted.
"""

import contextlib
import errno
import importlib
import os
import sys
import warnings
from collections.abc import Sequence
from typing import TextIO

from fastsim import __version__

#: Command -> what it does; each is the function `main` of the module of that name in fastsim.commands.
COMMANDS = {
    "run": "simulate one configuration under one workload; bare, it runs the embedded default",
    "bench": "run the standard scenarios, whose results others can repeat and compare",
    "capacity": "find the highest rate at which a configuration holds its limits",
    "search": "find the best deployment under limits, per dollar",
    "report": "draw one run, several side by side, or a search to explore, as one HTML page",
    "explain": "say why the latencies of a run are what they are",
    "estimators": "list, show or train the operator estimators",
    "profile": "measure a model's operators on the device at hand, and make a device of it",
    "doctor": "print versions, the processor and the state of caches, for a report of a bug",
    "warmup": "compile what first runs would wait for",
    "traces": "list, describe, convert or fetch traces and workloads",
}

#: Errors of the machine, not of fastsim: what to do about them.
_MENDS = {
    errno.ENOSPC: "make room there, or choose another place",
    errno.EDQUOT: "make room there, or choose another place",
    errno.EFBIG: "raise the limit of the size of a file, or choose another place",
    errno.EACCES: "change its permissions, or choose another place",
    errno.EPERM: "change its permissions, or choose another place",
    errno.EROFS: "choose a place that can be written",
    errno.EIO: "check the disk, or choose another place",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.EMFILE: "raise the limit of open files",
    errno.ENFILE: "raise the limit of open files",
}

_USAGE = "usage: fastsim [--version] COMMAND [--help] ..."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the words after ``fastsim``; None for those of the process.

    Returns:
        The exit code.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a name of a file that the locale cannot spell is no reason to fail
            stream.reconfigure(errors="backslashreplace")
    show_before, warnings.showwarning = warnings.showwarning, _show_warning
    try:
        return _guarded(list(sys.argv[1:] if arguments is None else arguments))
    except BrokenPipeError:  # the reader of our output has seen enough, as in `fastsim run | head`
        return 0
    finally:
        _drop_what_cannot_be_printed()
        warnings.showwarning = show_before


def _guarded(words: Sequence[str]) -> int:
    """Run one command and print the sentence about what goes wrong, but for faults and a reader that has gone."""
    try:
        code = _run(words)
        if sys.stdout is not None:
            sys.stdout.flush()
    except KeyboardInterrupt:
        complain("interrupted")
        return 130
    except OSError as error:
        if error.errno not in _MENDS:
            raise
        where = "standard output, or a file," if error.filename is None else f"file {os.fspath(error.filename)!r}"
        return complain(f"{where} cannot be used ({error.strerror}); {_MENDS[error.errno]}.")
    except MemoryError as error:
        return complain(f"memory does not suffice ({error or 'for this'}); ask for less at a time.")
    except ValueError as error:
        if not hasattr(error, "mend"):
            raise
        return complain(str(error))
    return code


def _run(words: Sequence[str]) -> int:
    command = words[0] if words else "--help"
    if command in ("-h", "--help"):
        listing = "\n".join(f"  {name:12}{what}" for name, what in COMMANDS.items())
        print(f"{_USAGE}\n\nHow will this LLM, on these GPUs, behave under this traffic?\n\n{listing}")
        return 0
    if command == "--version":
        print(f"fastsim {__version__}")
        return 0
    if command not in COMMANDS:
        return complain(f"command {command!r} is not known; choose one of {', '.join(COMMANDS)}.")
    try:
        code: int = importlib.import_module(f"fastsim.commands.{command}").main(words[1:])
    except SystemExit as end:  # argparse, after --help: what it printed is not flushed yet
        return int(end.code or 0)
    return code


def _drop_what_cannot_be_printed() -> None:
    """Send what stdout or stderr cannot take to nowhere, lest Python tries again at the end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def complain(sentence: str) -> int:
    """Print the one sentence about bad input; returns its exit code."""
    with contextlib.suppress(OSError):  # who has closed stderr does not want to know
        print(f"fastsim: {sentence}", file=sys.stderr)
    return 2


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    print(f"fastsim: note: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
