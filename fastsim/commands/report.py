"""``fastsim report``: one run, or several side by side, as one page."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fastsim.commands.parsing import Parser, flag
from fastsim.errors import ConfigError


@dataclass
class ReportCommand:
    """Words and flags of ``fastsim report``."""

    directories: list[str] = field(
        default_factory=list,
        metadata={
            "args": ["directories"],
            "type": str,
            "nargs": "*",
            "metavar": "DIR",
            "help": "directories that fastsim run --out has written; of several, the others are held against the first",
        },
    )
    out: str = flag("report.html", "the page, one HTML file that loads nothing")


def main(words: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    from fastsim.svg import check_html

    parser = Parser(ReportCommand, "report", "Write one page about runs, side by side.")
    command: ReportCommand = parser.parse_args(list(words))
    path = Path(command.out)
    check_html("out", path)

    from fastsim.report.page import write_report

    try:
        write_report(command.directories, path)
    except OSError as error:
        raise ConfigError("out", command.out, f"cannot be written ({error.strerror})", "choose another") from None
    print(f"written to {path}")
    return 0
