"""What the record consists of: which benches are run, on what, and which are not, with the reason."""

import importlib
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import Row, machine, note

BENCH = Path(__file__).resolve().parent
#: Stands for the folder of data in arguments, and in the commands that the record shows.
DATA = "DIR"
_VLLM = (f"{DATA}/data/groundtruth/vllm", "--profiles", f"{DATA}/data/profiles")


@dataclass(frozen=True)
class Bench:
    """A script whose figures are recorded.

    Its function ``record`` makes rows of what the script prints with ``--json``: each has ``what`` is told, by ``name``
    and ``of``, the ``figure`` and its ``unit``.

    Attributes:
        name: of the script.
        title: heading of its figures.
        page: of the documentation, which says what the figures mean.
        arguments: of the script; it is left out where a file below the folder of data is missing.
        optional: more arguments, given where their files are there.
    """

    name: str
    title: str
    page: str
    arguments: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()

    def missing(self, data: Path) -> str | None:
        """The first file or folder that it needs and that is not there."""
        return _missing(self.arguments, data)

    def all_arguments(self, data: Path) -> tuple[str, ...]:
        """Its arguments, before the folder of data is put in."""
        return self.arguments + (() if _missing(self.optional, data) else self.optional)


#: In the order of the page.
BENCHES = (
    Bench(
        "throughput",
        "Speed of the simulator",
        "kernel.md",
        optional=("--trace", f"{DATA}/data/traces/mooncake/conversation_trace.jsonl.gz"),
    ),
    Bench("threads", "A second core", "embedding.md"),
    Bench("scaling", "Growth with the number of requests", "scale.md"),
    Bench("capacity", "Search for a capacity", "search.md"),
    Bench("search", "The search of the Vidur paper", "search.md"),
    Bench("suite", "The standard scenarios", "bench.md"),
    Bench("workloads", "Workloads", "workloads.md", optional=(f"{DATA}/data/traces",)),
    Bench("parity", "Parity with runs of the real Vidur", "vidur.md", (f"{DATA}/golden",)),
    Bench("peers", "Speed beside the real Vidur", "peers.md", ("--golden", f"{DATA}/golden")),
    Bench("operator_errors", "Operators, on what was held out", "accuracy.md"),
    Bench("latent_modules", "Latent attention, against whole modules", "operators.md"),
    Bench("fidelity", "Measured runs of vLLM", "accuracy.md", _VLLM),
    Bench("effects", "What each rule is worth on measured runs", "accuracy.md", _VLLM),
    Bench("steps", "Single batches of a measured run", "accuracy.md", _VLLM),
    Bench(
        "splitwise",
        "Static batches",
        "accuracy.md",
        (f"{DATA}/data/groundtruth/splitwise/perf_model.csv.gz", "--profiles", f"{DATA}/data/profiles"),
    ),
    Bench(
        "offline",
        "Offline batches",
        "accuracy.md",
        (f"{DATA}/data/groundtruth/llm_inference_bench/All_results.csv.gz",),
    ),
    Bench("silicon", "Measured deployments", "accuracy.md", (f"{DATA}/data/groundtruth/silicon/vllm_aggregate.csv",)),
)

#: Scripts, or parts of them, that are not recorded: where their figures are, and why.
NOT_RECORDED = {
    "selftest": (
        "accuracy.md",
        "serves requests in real time, a quarter of an hour on a machine that does nothing else",
    ),
    "profile_points": ("profiler.md", "measures the device at hand, whose times are no figures of fastsim"),
    "operator_errors --profiles": (
        "accuracy.md",
        "trains hundreds of forests, Vidur's recipe alone for 8.5 minutes; the estimators in the package, whose errors "
        "are recorded, are as they were trained",
    ),
}


def _missing(arguments: Iterable[str], data: Path) -> str | None:
    paths = (argument for argument in arguments if argument.startswith(f"{DATA}/"))
    return next((path for path in paths if not (data / path.removeprefix(f"{DATA}/")).exists()), None)


def run(chosen: Iterable[Bench], data: Path, smoke: bool) -> dict[str, Any]:
    """Run benches one after the other, each in a process of its own.

    Args:
        chosen: which.
        data: the folder that holds ``golden`` and ``data``.
        smoke: small sizes.

    Returns:
        The record: the machine, rows, seconds that each bench took, and what was left out or failed.
    """
    record: dict[str, Any] = {"machine": machine(), "seconds": {}, "skipped": {}, "failed": {}, "rows": []}
    for bench in chosen:
        if missing := bench.missing(data):
            record["skipped"][bench.name] = f"{missing} is not there"
            continue
        note(f"== {bench.name}")
        began = time.perf_counter()
        try:
            record["rows"] += _rows(bench, data, smoke)
        except (subprocess.CalledProcessError, ValueError) as error:
            note(f"{bench.name}: {error}")
            record["failed"][bench.name] = f"{type(error).__name__}, see what it wrote to stderr"
        record["seconds"][bench.name] = round(time.perf_counter() - began, 1)
    return record


def _rows(bench: Bench, data: Path, smoke: bool) -> Iterator[Row]:
    arguments = bench.all_arguments(data)
    given = [str(data / one.removeprefix(f"{DATA}/")) if one.startswith(f"{DATA}/") else one for one in arguments]
    command = [sys.executable, str(BENCH / f"{bench.name}.py"), "--json", *(["--smoke"] if smoke else []), *given]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    shown = " ".join(["python", f"bench/{bench.name}.py", *arguments])
    for row in importlib.import_module(bench.name).record(json.loads(printed)):
        value = row["figure"]
        rounded = value if value is None or isinstance(value, int) else float(f"{value:.4g}")
        yield {"bench": bench.name, **row, "figure": rounded, "command": shown}
