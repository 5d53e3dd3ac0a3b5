"""``fastsim bench``: the standard scenarios."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from fastsim.commands.parsing import Parser, flag, progress
from fastsim.errors import ConfigError
from fastsim.options import integer
from fastsim.progress import SpokenLine
from fastsim.suite.scenarios import REQUESTS, SUITE_VERSION, choose_scenarios

if TYPE_CHECKING:
    from fastsim.suite.scenarios import Scenario

_MOST_REQUESTS, _MOST_THREADS = 1_000_000, 1024
_EXAMPLES = """examples:
  fastsim bench --list                                what the scenarios are
  fastsim bench --out results                         all of them; results/index.html has the pictures
  fastsim bench --scenario 'chat-1m/llama-2-70b/*'    some of them"""


@dataclass
class BenchCommand:
    """Flags of ``fastsim bench``."""

    list: bool = flag(False, "say what the scenarios are, and run none")
    scenario: str = flag("*", "only scenarios whose names match, WORKLOAD/MODEL/DEVICE/SCHEDULER with * and ?")
    requests: str = flag(str(REQUESTS), "of each run; results are those of the suite with the default only")
    seed: str = flag("0", "of the workloads; likewise")
    threads: Optional[str] = flag(None, "how many scenarios at a time (default: one per core)")
    out: Optional[str] = flag(None, "directory for results.parquet, suite.json and index.html")
    json: bool = flag(False, "print one JSON object, and nothing else")


class _SuiteLine(SpokenLine):
    """Says how many scenarios are done."""

    def __init__(self, count: int) -> None:
        super().__init__(f"running {count} scenarios")
        self.count = count
        self.done_names: list[str] = []

    def note(self, scenario: "Scenario") -> None:
        """Take one that is done, from any thread."""
        self.done_names.append(scenario.name)

    def tell(self, wall_s: float) -> str:
        """How many, and the last one."""
        if not (done := len(self.done_names)):
            return ""
        return f"{done} of {self.count} scenarios ({done / self.count:.0%}) in {wall_s:.0f} s, {self.done_names[-1]}"


def main(words: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    description = f"Run the standard scenarios (suite {SUITE_VERSION}), whose results others can repeat."
    command: BenchCommand = Parser(BenchCommand, "bench", description, _EXAMPLES).parse_args(list(words))
    requests = _within("requests", command.requests, 1, _MOST_REQUESTS)
    seed = _within("seed", command.seed, 0, 2**63 - 1)
    threads = None if command.threads is None else _within("threads", command.threads, 1, _MOST_THREADS)
    scenarios = choose_scenarios(command.scenario)
    if command.list:
        if command.out is not None:
            raise ConfigError("out", command.out, "is given with --list, which runs nothing", "leave out one of them")
        _list(scenarios, requests, command.json)
        return 0
    if command.out is not None:
        from fastsim.result import writable_directory

        writable_directory(command.out)

    from fastsim.suite.running import compile_kernels, run_suite

    with progress("preparing the event loops, which are compiled once per machine"):
        compile_kernels(scenarios)
    with _SuiteLine(len(scenarios)) as line:
        document = run_suite(scenarios, requests, seed, threads, line.note).document()
    _say_notes(document["rows"])
    if command.out is not None:
        from fastsim.suite.files import write_results

        try:
            write_results(document, Path(command.out))
        except OSError as error:
            raise ConfigError("out", command.out, f"cannot be written ({error})", "choose another") from None
    if command.json:
        print(json.dumps(document))
        return 0
    from fastsim.suite.table import render

    print(render(document))
    if command.out is not None:
        print(f"\nwritten to {command.out}; {Path(command.out) / 'index.html'} has the pictures")
    return 0


def _within(name: str, text: str, least: int, most: int) -> int:
    value = integer(name, text)
    if not least <= value <= most:
        raise ConfigError(name, value, "is out of range", f"give {least} to {most}")
    return value


def _list(scenarios: "Sequence[Scenario]", requests: int, as_json: bool) -> None:
    """Print what the scenarios are."""
    if as_json:
        configs = [
            {"scenario": scenario.name, "qps": scenario.qps, "config": scenario.config(0).to_dict()}
            for scenario in scenarios
        ]
        print(json.dumps({"version": SUITE_VERSION, "requests": requests, "scenarios": configs}))
        return
    from fastsim.suite.table import describe

    print(describe(scenarios, requests))


def _say_notes(rows: Sequence[dict[str, object]]) -> None:
    """Say how many scenarios rest on times that nobody measured; which ones is in the files."""
    if count := sum(bool(row["notes"]) for row in rows):
        what = f"{count} of {len(rows)} scenarios read times from outside the measured range"
        print(f"fastsim: note: {what}; 'notes' of the rows of --json say which", file=sys.stderr)
