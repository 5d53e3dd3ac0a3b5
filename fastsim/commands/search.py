"""``fastsim search``: the best deployment under limits, per dollar."""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from fastsim.commands.measuring import can_print
from fastsim.commands.parsing import Parser, flag
from fastsim.commands.search_file import OF_SEARCH, read_search_file, read_space, read_workloads, with_longest
from fastsim.errors import ConfigError
from fastsim.options import integer, number

_EPILOG = """a space file:
  [space]                                # fields of a configuration: a value, or a list of values to try
  model = "meta-llama/Llama-3.1-8B"
  device = ["a100_sxm", "h100_sxm"]
  tensor_parallel = [1, 2, 4]
  gpus = 8                               # as many replicas as fit; or replicas = 2
  [[space.scheduler]]                    # each with options of its own
  name = "sarathi"
  chunk_size = [512, 1024]
  [[space.scheduler]]
  name = "vllm_v1"
  [workload]                             # as of fastsim run; or several, [workloads.chat], [workloads.code]
  workload = "chat-1m"
  requests = 1000
  [slo]
  ttft_s = { p90 = "2s" }
  [search]                               # strategy, tolerance, requests, seed, trials, threads, executor
  tolerance = 0.02
Where a run is killed, the same command with --resume goes on."""


@dataclass
class SearchCommand:
    """Flags of ``fastsim search``."""

    space: Optional[str] = flag(None, "TOML file, see below", "space")
    out: Optional[str] = flag(None, "directory for the journal, configurations.parquet, probes.parquet and search.json")
    resume: bool = flag(False, "go on with the journal in --out")
    strategy: Optional[str] = flag(None, "exhaustive, halving or tpe (default: that of the file, or exhaustive)")
    trials: Optional[str] = flag(None, "of tpe: configurations to run under each workload")
    slo: Optional[str] = flag(None, "limits in place of the file's, such as scheduling_delay_p99=5s,ttft_p90=2s")
    tolerance: Optional[str] = flag(None, "of capacities (default: that of the file, or 0.02)")
    executor: Optional[str] = flag(None, "threads, or ray for a cluster (default: that of the file, or threads)")
    threads: Optional[str] = flag(None, "configurations at a time (default: one per core)")
    seed: Optional[str] = flag(None, "of the workloads, and of what a strategy draws (default: that of the file, or 0)")
    json: bool = flag(False, "print what search.json says, and nothing else")


def main(words: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    parser = Parser(SearchCommand, "search", "Find the best deployment under limits, per dollar.", _EPILOG)
    command: SearchCommand = parser.parse_args(list(words))
    if command.space is None:
        raise ConfigError("space", None, "is missing", "give a TOML file, see 'fastsim search --help'")
    if command.resume and command.out is None:
        raise ConfigError("resume", True, "has no journal to go on with", "give --out DIR")
    if command.out is not None:
        from fastsim.result import writable_directory

        writable_directory(command.out)
    file = read_search_file(command.space)
    how = _how(command, file.search)
    space = read_space(file)
    workloads = read_workloads(file, space, how["seed"])
    for note in dict.fromkeys(note for workload in workloads.values() for note in workload.notes):
        # What traces calls max_total_tokens is a field of the space.
        print(f"fastsim: note: {note.replace('max_total_tokens', 'max_model_len')}", file=sys.stderr)
    space, limits = _limits(command.slo, file.slo, with_longest(space, file, workloads))
    how.pop("requests", None)
    return _search(command, space, workloads, limits, how)


def _how(command: SearchCommand, given: Any) -> dict[str, Any]:
    """How to search: flags, else the file's, else what `search` does if not told."""
    how = {name: given[name] for name in OF_SEARCH if name in given}
    how |= {name: value for name in OF_SEARCH if (value := getattr(command, name, None)) is not None}
    for name in ("seed", "trials", "threads"):
        if name in how:
            how[name] = integer(name, how[name])
    if "tolerance" in how:
        how["tolerance"] = number("tolerance", how["tolerance"])
    return {"seed": 0} | how


def _limits(text: Optional[str], given: Any, space: Any) -> tuple[Any, Any]:
    """The space, with objectives of each request that flags give, and the limits."""
    from dataclasses import replace

    from fastsim.measuring import read_objectives
    from fastsim.searching.limits import parse_limits

    if text is None:
        return space, given or None
    limits, objectives = parse_limits(text)
    if objectives:
        space = replace(space, fields={**space.fields, "slo": (read_objectives(objectives),)})
    return space, limits


def _search(command: SearchCommand, space: Any, workloads: Any, limits: Any, how: dict[str, Any]) -> int:
    from fastsim.commands.search_line import SearchLine
    from fastsim.searching.runner import run_search

    try:
        with SearchLine() as line:
            result = run_search(
                space, workloads, limits, directory=command.out, resume=command.resume, progress=line.tell, **how
            )
    except (KeyboardInterrupt, OSError):
        if command.out is not None:
            mend = f"fastsim search {command.space} --out {command.out} --resume"
            print(f"fastsim: what has ended is kept; go on with: {mend}", file=sys.stderr)
        raise
    if command.json:
        print(json.dumps(result.record))
        return 0
    from fastsim.commands.search_report import BAR, render_search

    print(render_search(result.frame, result.record, with_bars=can_print(BAR, sys.stdout)))
    if command.out is not None:
        names = ", ".join(("configurations.parquet", "probes.parquet", "search.json", "journal.jsonl"))
        print(f"\nwritten to {os.fspath(Path(command.out))}: {names}")
    return 0
