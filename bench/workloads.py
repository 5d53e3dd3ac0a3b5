"""How fast workloads are drawn, read and described.

    python bench/workloads.py [--json] [--smoke] [DIR]

DIR holds public traces; those in it that are known are read and described too.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from common import Row, emit, figure, note, parser

import traces
from traces.describe import describe

NUM_REQUESTS = 10_000_000
_LOGNORMAL = {"prompt_mean": 1000, "prompt_cv": 1, "output_mean": 200, "output_cv": 1}
GENERATED: dict[str, dict[str, Any]] = {
    "default": {},
    "poisson, lognormal": {"lengths": "lognormal", "length_options": _LOGNORMAL},
    "poisson, correlated": {"lengths": "correlated", "length_options": {**_LOGNORMAL, "correlation": 0.5}},
    "poisson, uniform": {
        "lengths": "uniform",
        "length_options": {"prompt_min": 1, "prompt_max": 2000, "output_min": 1, "output_max": 300},
    },
    "poisson, zipf": {
        "lengths": "zipf",
        "length_options": {"total_min": 100, "total_max": 4000, "prompt_to_output": 4},
    },
    "gamma": {"arrivals": "gamma", "arrival_options": {"cv": 2}},
    "weibull": {"arrivals": "weibull", "arrival_options": {"cv": 2}},
    "diurnal": {"arrivals": "diurnal"},
    "on_off": {"arrivals": "on_off", "arrival_options": {"on_s": 10, "off_s": 30}},
    "mmpp": {"arrivals": "mmpp", "arrival_options": {"rates": (1, 4), "dwell_s": (300, 60)}},
}
FILES = (
    "azure/AzureLLMInferenceTrace_conv.csv.gz",
    "mooncake/conversation_trace.jsonl.gz",
    "servegen/deepseek-r1.tar.gz",
)


def timed(call: Callable[[], Any], repeats: int) -> tuple[float, float, Any]:
    """Least wall and processor time [s] of some calls, and the last result."""
    wall_s, cpu_s, result = float("inf"), float("inf"), None
    for _ in range(repeats):
        result = None  # the memory of the one before is given back first
        wall, cpu = time.perf_counter(), time.process_time()
        result = call()
        wall_s, cpu_s = min(wall_s, time.perf_counter() - wall), min(cpu_s, time.process_time() - cpu)
    return wall_s, cpu_s, result


def row(what: str, wall_s: float, cpu_s: float, requests: int) -> Row:
    return {"what": what, "requests": requests, "wall_s": wall_s, "cpu_s": cpu_s, "requests_per_s": requests / wall_s}


def record(printed: Row) -> Iterator[Row]:
    """Rows of the record: time of each workload."""
    for row in printed["rows"]:
        yield figure("Workloads", row["what"], "requests", row["requests"], "")
        yield figure("Workloads", row["what"], "time", row["wall_s"], "s")
        yield figure("Workloads", row["what"], "processor time", row["cpu_s"], "s")
        yield figure("Workloads", row["what"], "requests/s", row["requests_per_s"], "requests/s")


def main() -> None:
    """Print the rows."""
    arguments = parser("how fast workloads are drawn, read and described")
    arguments.add_argument("directory", nargs="?", type=Path, help="folder of public traces")
    options = arguments.parse_args()
    num_requests, repeats = (100_000, 1) if options.smoke else (NUM_REQUESTS, 2)
    rows = []
    for what, parameters in GENERATED.items():
        note(what)
        wall_s, cpu_s, workload = timed(
            lambda p=parameters: traces.generate(num_requests=num_requests, qps=10, **p), repeats
        )
        rows.append(row(f"generate: {what}", wall_s, cpu_s, len(workload)))
    wall_s, cpu_s, described = timed(lambda: describe(workload), 1)
    rows.append(row("describe: mmpp", wall_s, cpu_s, described["requests"]))
    for name in FILES if options.directory else ():
        path = options.directory / name
        if path.exists():
            note(name)
            wall_s, cpu_s, workload = timed(lambda p=path: traces.read(p), repeats)
            rows.append(row(f"read: {path.name}", wall_s, cpu_s, len(workload)))
            wall_s, cpu_s, _ = timed(lambda w=workload: describe(w), repeats)
            rows.append(row(f"describe: {path.name}", wall_s, cpu_s, len(workload)))
    emit(rows, options.json)


if __name__ == "__main__":
    main()
