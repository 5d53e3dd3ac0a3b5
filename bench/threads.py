"""What a second core brings: `fastsim.simulate_many` on one thread and on several, and one simulation's event loop.

``python bench/threads.py [--json] [--smoke] [--threads N]``

The row ``simulate_many`` is of the standard work (the README's table) at as many loads as there are threads, times two,
by wall time: the best of runs on one thread and on all, in turns, and their ratio. ``same`` says whether both gave the
same summaries. The row ``replicas`` is of what one simulation would gain if replicas that do not interact ran on
threads: the event loop of round-robin replicas, which is that of each one's requests alone, one after the other and
side by side, and what that would make of a whole call.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from common import Row, emit, figure, note, parser, standard_work

import fastsim
from fastsim.preparing import compile_kernel, load_parts, start_state


def best_of(repeats: int, *calls: Callable[[], Any]) -> list[tuple[float, Any]]:
    """Wall time of the best run of each call, in turns, and what that call returned last [s]."""
    found: list[tuple[float, Any]] = [(float("inf"), None)] * len(calls)
    for _ in range(repeats):
        for place, call in enumerate(calls):
            started = time.perf_counter()
            result = call()
            found[place] = min(found[place][0], time.perf_counter() - started), result
    return found


def many(num_requests: int, threads: int, repeats: int) -> Row:
    """One row: several loads side by side."""
    config, workload, tables = standard_work(num_requests)
    loads = [
        fastsim.Workload.generate(
            num_requests=num_requests,
            qps=workload.qps * (1.0 - 0.05 * k),
            max_total_tokens=config.max_model_len,
            seed=config.seed,
        )
        for k in range(2 * threads)
    ]
    note(f"simulate_many: {len(loads)} times {num_requests:,} requests on 1 and {threads} threads")

    def run(on: int) -> list[Any]:
        results = fastsim.simulate_many([config] * len(loads), loads, on, [tables] * len(loads))
        return [{name: part for name, part in r.summary.items() if name != "simulation"} for r in results]

    (one_s, one), (all_s, all_) = best_of(repeats, lambda: run(1), lambda: run(threads))
    return {
        "what": "simulate_many",
        "requests": num_requests * len(loads),
        "threads": threads,
        "wall_s": one_s,
        "wall_s_on_threads": all_s,
        "ratio": one_s / all_s,
        "same": one == all_,
    }


def replicas(num_requests: int, threads: int, repeats: int) -> Row:
    """One row: one simulation of as many replicas as threads, and its event loop by replica."""
    config, workload, tables = standard_work(num_requests, fastsim.SimulationConfig(replicas=threads))
    note(f"replicas: {num_requests:,} requests on {threads}")
    alone = config.with_fields(replicas=1)
    columns = {name: getattr(workload, name) for name in ("arrival_s", "prompt_tokens", "output_tokens")}
    parts = [
        fastsim.Workload.from_arrays(**{name: values[k::threads] for name, values in columns.items()})
        for k in range(threads)
    ]
    run, slots = compile_kernel(alone, workload)

    def loops(on: int) -> float:
        model, device, pool, joined = load_parts(alone, workload, tables)
        states = [start_state(alone, part, joined, model, device, pool, False) for part in parts]
        started = time.perf_counter()
        with ThreadPoolExecutor(on) as executor:
            list(executor.map(lambda of_one: run(*of_one, slots), states))
        return time.perf_counter() - started

    whole_s = best_of(repeats, lambda: fastsim.simulate(config, workload, tables))[0][0]
    one_s = min(loops(1) for _ in range(repeats))
    all_s = min(loops(threads) for _ in range(repeats))
    return {
        "what": "replicas",
        "requests": num_requests,
        "threads": threads,
        "wall_s": whole_s,
        "loop_s": one_s,
        "loop_s_on_threads": all_s,
        "ratio": whole_s / (whole_s - one_s + all_s),
    }


def record(printed: Row) -> Iterator[Row]:
    """Rows of the record: the ratios."""
    for row in printed["rows"]:
        name = f"{row['what']}, {row['requests']:,} requests"
        yield figure("Time on one thread over that on several", name, "threads", row["threads"], "")
        yield figure("Time on one thread over that on several", name, "ratio", row["ratio"], "")
        if "same" in row:
            yield figure("Time on one thread over that on several", name, "same results", int(row["same"]), "of 1")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the rows; returns the exit code."""
    flags = parser("what a second core brings")
    flags.add_argument("--threads", type=int, default=os.cpu_count(), help="default: one per core")
    given = flags.parse_args(arguments)
    size, repeats = (10_000, 1) if given.smoke else (500_000, 5)
    emit([row(size, given.threads, repeats) for row in (many, replicas)], given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
