"""``fastsim report``: one run, several side by side, or a search, as one page."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fastsim.commands.guard import written_by_fastsim
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
            "help": "directories that fastsim run --out wrote; of several, the others are held against the first, "
            "or one that fastsim search --out wrote",
        },
    )
    out: str = flag("report.html", "the page, one HTML file that loads nothing")


def main(words: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    from fastsim.svg import check_html

    parser = Parser(ReportCommand, "report", "Write one page about runs, side by side, or to explore a search.")
    command: ReportCommand = parser.parse_args(list(words))
    path = Path(command.out)
    check_html("out", path)

    try:
        with written_by_fastsim("DIR", ", ".join(command.directories)):
            _write(command.directories, path)
    except OSError as error:
        raise ConfigError("out", command.out, f"cannot be written ({error.strerror})", "choose another") from None
    print(f"written to {path}")
    return 0


def _write(directories: Sequence[str], path: Path) -> None:
    """Write the page that some directories are for."""
    from fastsim.report.explorer.searches import is_search

    searches = [directory for directory in directories if is_search(directory)]
    if not searches:
        from fastsim.report.page import write_report

        write_report(directories, path)
        return
    if len(directories) > 1:
        raise ConfigError("DIR", searches[0], "is of a search, which has a page of its own", "give it alone")
    from fastsim.report.explorer.page import write_explorer

    write_explorer(searches[0], path)
