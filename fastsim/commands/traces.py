"""``fastsim traces {list,describe,convert,fetch}``: what arrives, and when."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from fastsim.commands.parsing import Parser, flag, progress, refuse_flags
from fastsim.errors import ConfigError
from fastsim.options import integer, number

if TYPE_CHECKING:
    from traces import Workload

_ACTIONS = "list, describe, convert or fetch"
_DEFAULT_REQUESTS = 100_000
#: Where neither the command line nor the workload has a rate.
_DEFAULT_QPS = 1.0
#: Flags that mean something to some actions only; --json goes with each.
_OF_ACTION: Mapping[str, Sequence[str]] = {
    "name": ("describe", "convert", "fetch"),
    "out": ("convert",),
    "plot": ("describe",),
    "requests": ("describe", "convert"),
    "qps": ("describe", "convert"),
    "seed": ("describe", "convert"),
}
_EXAMPLES = """examples:
  fastsim traces list                                      public traces, and synthetic workloads by name
  fastsim traces fetch azure-2023-conv                     fetch a public trace, and check its sha256
  fastsim traces describe azure-2023-conv                  what it is like
  fastsim traces describe trace.csv.gz --plot trace.html   the same of a file, and as pictures
  fastsim traces describe chat-1m --qps 5                  of a synthetic workload
  fastsim traces convert trace.jsonl trace.parquet         write it as Parquet, which reads fast"""


@dataclass
class TracesCommand:
    """Flags of ``fastsim traces``."""

    action: str = flag("list", _ACTIONS, "action")
    name: Optional[str] = flag(None, "a file, or a name from the list", "name")
    out: Optional[str] = flag(None, "convert: the Parquet file to write", "out")
    plot: Optional[str] = flag(None, "describe: also draw it into this HTML file")
    requests: Optional[int] = flag(
        None, f"describe and convert: so many requests (default: {_DEFAULT_REQUESTS:,}, or the whole trace)"
    )
    qps: Optional[float] = flag(
        None, f"describe and convert: at this rate (default: that of the workload, or {_DEFAULT_QPS:g})"
    )
    seed: int = flag(0, "describe and convert: of synthetic workloads and of arrivals")
    json: bool = flag(False, "print one JSON object, and nothing else")


def main(words: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    description = "List, describe, convert or fetch traces and workloads."
    command: TracesCommand = Parser(TracesCommand, "traces", description, _EXAMPLES).parse_args(list(words))
    actions = {"list": _list, "describe": _describe, "convert": _convert, "fetch": _fetch}
    if command.action not in actions:
        raise ConfigError("action", command.action, "is not known", f"choose {_ACTIONS}")
    refuse_flags(command, command.action, _OF_ACTION)
    actions[command.action](command)
    return 0


def _list(command: TracesCommand) -> None:
    """Print which traces can be fetched, and which workloads there are."""
    import textwrap

    from traces.catalog import cache_directory
    from traces.named import WORKLOADS
    from traces.public_traces import CATALOG

    public = {
        name: {
            "what": trace.what,
            "license": trace.license,
            "url": trace.url,
            "sha256": trace.sha256,
            "fetched": (cache_directory() / trace.file_name).exists(),
        }
        for name, trace in CATALOG.items()
    }
    synthetic = {
        name: {"what": workload.what, "qps": workload.qps, "source": workload.source}
        for name, workload in WORKLOADS.items()
    }
    lines = ["public traces (* fetched)", ""]
    for name, entry in public.items():
        lines.append(f"{'* ' if entry['fetched'] else '  '}{name:24}{entry['what']} ({entry['license']})")
    lines += ["", "synthetic workloads", ""]
    for name, described in synthetic.items():
        rate = "any rate" if described["qps"] is None else f"{described['qps']:g} requests/s"
        lines.append(f"  {name:24}{described['what']}; {rate}")
        lines += textwrap.wrap(str(described["source"]), 118, initial_indent=" " * 26, subsequent_indent=" " * 26)
    _print(command, {"public": public, "synthetic": synthetic}, "\n".join(lines))


def _describe(command: TracesCommand) -> None:
    """Print, and draw, what a workload is like."""
    from fastsim.commands.trace_report import STYLE, draw, render
    from fastsim.svg import check_html, write_page
    from traces.describe import describe

    plot = None if command.plot is None else Path(command.plot)
    if plot is not None:
        check_html("plot", plot)
    name, workload = _workload(command)
    with progress(f"describing {len(workload):,} requests"):
        described = describe(workload)
    if plot is not None:
        write_page(plot, name, draw(name, described), STYLE)
    _print(command, {"name": name, **described}, render(name, described))


def _convert(command: TracesCommand) -> None:
    """Write a workload as Parquet."""
    from traces.parquet import write

    if command.out is None:
        raise ConfigError(
            "out", None, "is not given", f"write fastsim traces convert {command.name or 'FILE'} FILE.parquet"
        )
    if Path(command.out).suffix != ".parquet":
        raise ConfigError("out", command.out, "is no Parquet file, which is all that is written", "give FILE.parquet")
    name, workload = _workload(command)
    with progress(f"writing {command.out}"):
        write(workload, command.out)
    origin = workload.provenance.get("format", "synthetic")
    data = {"name": name, "format": origin, "requests": len(workload), "out": command.out, "hash": workload.hash}
    _print(command, data, f"{name} ({origin}): {len(workload):,} requests written to {command.out}")


def _fetch(command: TracesCommand) -> None:
    """Fetch a public trace."""
    from traces.catalog import fetch, find

    name = _named(command)
    trace = find(name)
    with progress(f"fetching {trace.url}"):
        path = fetch(name)
    checked = "sha256 as published" if trace.sha256 else "sha256 recorded with the first fetch, as none is published"
    data = {"name": name, "path": str(path), "url": trace.url, "license": trace.license, "sha256": trace.sha256}
    _print(command, data, f"{path}\n{trace.what}; {trace.license}; {checked}")


def _workload(command: TracesCommand) -> tuple[str, "Workload"]:
    """The workload that the words ask for, and its name; its notes go to stderr."""
    from traces import Workload
    from traces.catalog import located
    from traces.named import WORKLOADS, named_workload
    from traces.rates import with_arrivals

    name = _named(command)
    num_requests = None if command.requests is None else integer("requests", command.requests)
    qps = None if command.qps is None else number("qps", command.qps)
    seed = integer("seed", command.seed)
    path = located(name)
    if name in WORKLOADS and not path.exists():
        rate = WORKLOADS[name].qps or _DEFAULT_QPS if qps is None else qps
        count = _DEFAULT_REQUESTS if num_requests is None else num_requests
        workload = named_workload(name, num_requests=count, qps=rate, seed=seed)
    else:
        with progress(f"reading {path}"):
            workload = Workload.read(path)
        if num_requests is not None:
            workload = workload.head(num_requests)
        if qps is not None:
            workload = workload.scaled(qps) if workload.qps else with_arrivals(workload, qps=qps, seed=seed)
    for note in workload.notes:
        print(f"fastsim: note: {note}", file=sys.stderr)
    return name, workload


def _named(command: TracesCommand) -> str:
    """The name that is given.

    Raises:
        ConfigError: none is.
    """
    if command.name is None:
        wanted = "NAME" if command.action == "fetch" else "FILE"
        raise ConfigError("name", None, "is not given", f"write fastsim traces {command.action} {wanted}")
    return command.name


def _print(command: TracesCommand, data: Any, text: str) -> None:
    print(json.dumps(data) if command.json else text)
