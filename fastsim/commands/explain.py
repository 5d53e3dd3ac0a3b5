"""``fastsim explain DIR``: why the latencies of a run are what they are."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from fastsim.commands.guard import written_by_fastsim
from fastsim.commands.parsing import Parser, flag, progress
from fastsim.errors import ConfigError

if TYPE_CHECKING:
    from fastsim.export.attribution import Explanation
    from fastsim.export.directory import Run

_METRICS = ("ttft", "tbt", "e2e")
_EXAMPLES = """examples:
  fastsim run --qps 20 --out results
  fastsim explain results                            all three latencies
  fastsim explain results --metric ttft --plot why.html"""


@dataclass
class ExplainCommand:
    """Flags of ``fastsim explain``."""

    directory: Optional[str] = flag(None, "what fastsim run --out has written", "directory")
    metric: Optional[str] = flag(None, f"one of {', '.join(_METRICS)} (default: each)")
    plot: Optional[str] = flag(None, "also draw it into this HTML file")
    json: bool = flag(False, "print one JSON object, and nothing else")


def main(words: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    from fastsim.commands.explain_report import STYLE, as_data, draw, render
    from fastsim.svg import check_html, write_page

    description = "Say why the latencies of a run are what they are."
    command: ExplainCommand = Parser(ExplainCommand, "explain", description, _EXAMPLES).parse_args(list(words))
    if command.directory is None:
        raise ConfigError("directory", None, "is not given", "write fastsim explain DIR")
    if command.metric not in (None, *_METRICS):
        raise ConfigError("metric", command.metric, "is not known", f"choose {', '.join(_METRICS)}")
    if command.plot is not None:
        check_html("plot", Path(command.plot))
    with written_by_fastsim("directory", command.directory):
        run, found, notes = explain_directory(command.directory)
    found = [one for one in found if command.metric in (None, one.metric)]
    if not found:
        raise ConfigError("metric", command.metric, "is of no request, as none has two tokens", "choose ttft")
    for note in notes:
        print(f"fastsim: note: {note}", file=sys.stderr)
    title = f"{run.config.model} on {run.config.device}, {command.directory}"
    if command.plot is not None:
        write_page(Path(command.plot), title, draw(title, found), STYLE)
    print(json.dumps(as_data(found, notes)) if command.json else render(title, found))
    return 0


def explain_directory(directory: str) -> "tuple[Run, list[Explanation], list[str]]":
    """Explain a run that was written.

    Returns:
        The run, its latencies explained, and notes on what the explanation leaves out.

    Raises:
        ConfigError: there is none, or it is one of Vidur's rules.
    """
    from fastsim.export.alone import Alone
    from fastsim.export.attribution import explain
    from fastsim.export.directory import read_run, tables_of

    run = read_run(directory)
    if run.config.parity is not None:
        mend = "repeat it without parity"
        raise ConfigError("parity", run.config.parity, "is not explained, only runs by fastsim's own rules are", mend)
    with progress("simulating requests alone"):
        tables, are_those = tables_of(run)
        found = explain(run.config, run.requests, Alone(run.config, tables))
    return run, found, _notes(run, found, are_those)


def _notes(run: "Run", found: "list[Explanation]", are_those: bool) -> list[str]:
    """What the explanation leaves out."""
    notes = []
    if not are_those:
        notes.append("the run read other iteration tables than this configuration has now; 'alone' is by those of now")
    if "preempted_s" not in run.requests.columns and (run.requests["preemptions"] > 0).any():
        notes.append("the run did not record how long requests were preempted; that is in the interference")
    metrics: dict[str, Any] = run.summary["metrics"]
    for one in found:
        said, mean = metrics[f"{one.metric}_s"]["mean"], one.groups["mean"]["value_s"]
        if said is not None and abs(said - mean) > 1e-6 * said:
            words = (
                f"here {one.metric.upper()} is of all requests, {mean:.6g} s; the summary counts others, {said:.6g} s"
            )
            notes.append(words)
    return notes
