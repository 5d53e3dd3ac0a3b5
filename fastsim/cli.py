"""The command line: one small parser per command, one sentence per error.

Exit codes: 0 done, 1 a fault of fastsim's own (with its traceback), 2 bad input, 130 interrupted.
"""

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
    "traces": "list, describe, convert or fetch traces and workloads",
}

_USAGE = "usage: fastsim [--version] COMMAND [--help] ..."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the words after ``fastsim``; None for those of the process.

    Returns:
        The exit code.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
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
    show_before, warnings.showwarning = warnings.showwarning, _show_warning
    try:
        code: int = importlib.import_module(f"fastsim.commands.{command}").main(words[1:])
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("fastsim: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has seen enough, as in `fastsim run | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except ValueError as error:
        if not hasattr(error, "mend"):
            raise
        return complain(str(error))
    finally:
        warnings.showwarning = show_before
    return code


def complain(sentence: str) -> int:
    """Print the one sentence about bad input; returns its exit code."""
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
