"""Speed of the simulator: requests and iterations per second on the standard work, cold, cached and steady.

    python bench/throughput.py [--json] [--smoke]

``steady`` rows time ``fastsim.simulate`` with its tables and kernel in memory: state, event loop and metrics, best of
several. ``start`` rows are whole processes, from nothing to a printed summary of 10,000 requests: ``cold`` with empty
caches (tables built, kernel compiled), ``cached`` with full ones, and ``help`` for ``fastsim --help``.
"""

import os
import subprocess
import sys
import tempfile
import time

from common import Row, emit, note, parser, standard_work

import fastsim


def steady(num_requests: int, repeats: int) -> list[Row]:
    """One row: the standard work."""
    config, workload, tables = standard_work(num_requests)
    note(f"standard work: {num_requests:,} requests at {workload.qps:.2f} requests/s")
    runs = [fastsim.simulate(config, workload, tables).summary["simulation"] for _ in range(repeats)]
    best = min(runs, key=lambda run: run["wall_s"])
    return [
        {
            "what": "steady",
            "policy": config.scheduler,
            "replicas": config.replicas,
            "pp": config.pipeline_parallel,
            "prefix_caching": False,
            "requests": num_requests,
            "iterations": best["iterations"],
            "iterations_per_request": best["iterations"] / num_requests,
            "wall_s": best["wall_s"],
            "requests_per_s": num_requests / best["wall_s"],
            "iterations_per_s": best["iterations"] / best["wall_s"],
        }
    ]


def start(repeats: int) -> list[Row]:
    """Wall time of whole processes."""
    rows = []
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"XDG_CACHE_HOME": cache}
        for what, words, times in (("cold", ["run"], 1), ("cached", ["run"], repeats), ("help", ["--help"], repeats)):
            note(f"process start: {what}")
            walls = []
            for _ in range(times):
                started = time.perf_counter()
                command = [sys.executable, "-m", "fastsim", *words]
                subprocess.run(command, env=environment, check=True, capture_output=True)
                walls.append(time.perf_counter() - started)
            rows.append({"what": f"start {what}", "wall_s": min(walls)})
    return rows


def main() -> None:
    """Print the rows."""
    arguments = parser("speed of the simulator").parse_args()
    rows = steady(20_000, 1) if arguments.smoke else steady(1_000_000, 5)
    emit(rows + start(1 if arguments.smoke else 5), arguments.json)


if __name__ == "__main__":
    main()
