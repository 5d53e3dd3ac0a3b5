"""Speed of the simulator: requests and iterations per second on the standard work, cold, cached and steady.

    python bench/throughput.py [--json] [--smoke] [--trace FILE]

Rows time ``fastsim.simulate`` with its tables and kernel in memory: state, event loop and metrics, best of several, for
every batch policy on 1 replica and on 64 with least-outstanding routing, with 1 and with 4 pipeline stages (which
lightllm does not have), each at 0.95 of its own capacity. Rows of ``vllm_v1`` on 1 replica follow with what the engine
presets and clients add, on the same requests: asynchronous scheduling with graph padding, the whole preset
``vllm-0.19``, and closed clients; and with a prefix cache on a workload that names its blocks, conversations or, with
``--trace``, a trace such as Mooncake's, repeated until it has as many requests, at its own rate. Rows of what
``record_metrics`` costs have the CPU time of whole calls without and with it, in turns, and their ratio. A list
``starts`` beside them holds the tables (built, cached) and whole processes, from nothing to a printed summary of 10,000
requests: ``cold`` with empty caches (tables built, kernel compiled), ``cached`` with full ones, and ``help``.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import product
from typing import Any

from common import STANDARD_WORK, Row, emit, figure, note, parser, standard_work

import fastsim
from fastsim.engine_presets import schedules_ahead
from fastsim.machine import tables_for
from fastsim.schedulers import SCHEDULERS


def configurations(smoke: bool) -> Iterator[fastsim.SimulationConfig]:
    """The standard configuration under every batch policy, on 1 and on 64 replicas of 1 and of 4 stages."""
    for replicas, stages in product((1, 64), (1, 4)):
        for policy in ["vllm_v1"] if smoke else SCHEDULERS:
            # Policies that reserve a longest request for life get shorter ones; LightLLM counts tokens.
            reserves = policy in ("orca", "faster_transformer")
            if policy == "lightllm" and stages > 1:
                continue
            yield fastsim.SimulationConfig(
                scheduler=policy,
                replicas=replicas,
                pipeline_parallel=stages,
                router="least_outstanding" if replicas > 1 else "round_robin",
                max_model_len=4096 if reserves else 8192,
                block_size=1 if policy == "lightllm" else 16,
            )


def added(smoke: bool) -> Iterator[fastsim.SimulationConfig]:
    """The standard configuration with what engine presets and clients add."""
    padded = {"async_scheduling": True, "capture_sizes": "by_8_and_16"}
    yield fastsim.SimulationConfig(engine_options=padded)
    yield fastsim.SimulationConfig(engine="vllm-0.19")
    clients: dict[str, Any] = {"client": "closed", "client_options": {"concurrency": 16 if smoke else 256}}
    yield fastsim.SimulationConfig(**clients)
    yield fastsim.SimulationConfig(replicas=64, router="least_outstanding", **clients)


def steady(config: fastsim.SimulationConfig, num_requests: int, repeats: int) -> Row:
    """One row: the standard work under one configuration."""
    # The load is that of the same configuration without what is added, so that rows are of the same work.
    plain = config.with_fields(engine="ideal", engine_options={}, client="open", client_options={})
    _, workload, tables = standard_work(num_requests, plain)
    return timed(config, workload, tables, repeats)


def cached(trace: fastsim.Workload | None, num_requests: int, repeats: int) -> Row:
    """One row: a workload that names its blocks, with a prefix cache."""
    if trace is None:
        config = fastsim.SimulationConfig(max_model_len=16384)
        workload = fastsim.Workload.generate(
            num_requests=num_requests,
            qps=8.0,
            conversations="geometric",
            conversation_options={"turns": 4, "think_s": 10.0},
            max_total_tokens=config.max_model_len,
        )
    else:
        config = fastsim.SimulationConfig(max_model_len=131072, scheduler_options={"max_num_batched_tokens": 8192})
        workload = trace.repeated(-(-num_requests // len(trace)))
    return timed(config, workload, tables_for(config, names_blocks=True), repeats)


def recording(config: fastsim.SimulationConfig, num_requests: int, repeats: int) -> Row:
    """One row: what ``record_metrics`` adds to the CPU time of `fastsim.simulate`, the best of runs in turns."""
    _, workload, tables = standard_work(num_requests, config.with_fields(engine="ideal"))
    note(f"record_metrics, engine {config.engine}, {config.pipeline_parallel} stages: {num_requests:,} requests")
    cpu_s: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(1 + repeats):  # the first loads the kernel
        for recorded, times in cpu_s.items():
            started = time.process_time()
            fastsim.simulate(config.with_fields(record_metrics=recorded), workload, tables)
            times.append(time.process_time() - started)
    without, with_it = (min(times) for times in cpu_s.values())
    return {
        "what": "record_metrics",
        "engine": config.engine,
        "pp": config.pipeline_parallel,
        "requests": num_requests,
        "cpu_s": without,
        "cpu_s_recording": with_it,
        "ratio": with_it / without,
    }


def timed(config: fastsim.SimulationConfig, workload: fastsim.Workload, tables: Any, repeats: int) -> Row:
    """One row: the best of several runs."""
    num_requests = len(workload)
    rate = "all at one time" if workload.qps is None else f"at {workload.qps:.2f} requests/s"
    if config.client == "closed":
        rate = "as fast as clients send them"
    size = f"{config.replicas} replicas of {config.pipeline_parallel} stages, engine {config.engine}"
    note(f"{config.scheduler}, {size}: {num_requests:,} requests {rate}")
    summaries = [fastsim.simulate(config, workload, tables).summary for _ in range(repeats)]
    best = min((summary["simulation"] for summary in summaries), key=lambda run: run["wall_s"])
    return {
        "policy": config.scheduler,
        "replicas": config.replicas,
        "pp": config.pipeline_parallel,
        "prefix_caching": summaries[0]["prefix_cache"]["enabled"],
        "engine": config.engine,
        "asynchronous": schedules_ahead(config),
        "client": config.client,
        "requests": num_requests,
        "iterations": best["iterations"],
        "iterations_per_request": best["iterations"] / num_requests,
        "wall_s": best["wall_s"],
        "requests_per_s": num_requests / best["wall_s"],
        "iterations_per_s": best["iterations"] / best["wall_s"],
    }


def table_times() -> list[Row]:
    """Time to build the tables of the standard work from the zoo, and to load them from the cache."""
    before = os.environ.get("XDG_CACHE_HOME")
    rows = []
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        for what in ("tables built", "tables cached"):
            started = time.perf_counter()
            tables_for(fastsim.SimulationConfig())
            rows.append({"what": what, "wall_s": time.perf_counter() - started})
    if before is None:
        del os.environ["XDG_CACHE_HOME"]
    else:
        os.environ["XDG_CACHE_HOME"] = before
    return rows


def start(repeats: int, smoke: bool) -> list[Row]:
    """Wall time of whole processes; a smoke test takes the caches as they are, and none cold."""
    rows = []
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ if smoke else os.environ | {"XDG_CACHE_HOME": cache}
        processes = (("cold", ["run"], 1), ("cached", ["run"], repeats), ("help", ["--help"], repeats))
        for what, words, times in processes[1:] if smoke else processes:
            note(f"process start: {what}")
            walls = []
            for _ in range(times):
                started = time.perf_counter()
                command = [sys.executable, "-m", "fastsim", *words]
                subprocess.run(command, env=environment, check=True, capture_output=True)
                walls.append(time.perf_counter() - started)
            rows.append({"what": f"process {what}", "wall_s": min(walls)})
    return rows


def record(printed: Row) -> Iterator[Row]:
    """Rows of the record: requests/s under each policy, what is added, what recording costs, and starts."""
    rows = [row for row in printed["rows"] if "policy" in row]
    plain = {"engine": "ideal", "asynchronous": False, "client": "open", "prefix_caching": False}
    standard = [row for row in rows if all(row[name] == value for name, value in plain.items())]
    for row in standard:
        of = _counted(row["replicas"], "replica") + (f" of {row['pp']} stages" if row["pp"] > 1 else "")
        yield figure(STANDARD_WORK, row["policy"], of, row["requests_per_s"], "requests/s")
    for row in standard:
        if row["replicas"] == row["pp"] == 1:
            each = row["iterations_per_request"]
            yield figure(STANDARD_WORK, row["policy"], "iterations per request", each, "")
    for row in rows:
        if row not in standard:
            added = [_counted(row["replicas"], "replica"), f"engine {row['engine']}"]
            added += ["asynchronous"] * row["asynchronous"] + ["prefix cache"] * row["prefix_caching"]
            name = ", ".join(added + ["closed clients"] * (row["client"] == "closed"))
            what = f"{row['policy']} with more than the standard work"
            yield figure(what, name, "requests/s", row["requests_per_s"], "requests/s")
            yield figure(what, name, "iterations/s", row["iterations_per_s"], "iterations/s")
    for row in printed["rows"]:
        if row.get("what") == "record_metrics":
            name = f"engine {row['engine']}, {_counted(row['pp'], 'stage')}"
            yield figure("CPU time with record_metrics over that without", name, "ratio", row["ratio"], "")
    for row in printed["starts"]:
        yield figure("Tables and processes", row["what"], "time", row["wall_s"], "s")


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number > 1 else ''}"


def main() -> int:
    """Print the rows; returns the exit code."""
    flags = parser("speed of the simulator")
    flags.add_argument("--trace", help="a trace with block ids, such as Mooncake's, for the row with a prefix cache")
    arguments = flags.parse_args()
    try:
        trace = fastsim.Workload.read(arguments.trace) if arguments.trace else None
    except ValueError as error:
        note(str(error))
        return 2
    size, repeats = (20_000, 1) if arguments.smoke else (1_000_000, 5)
    rows = [steady(config, size, repeats) for config in configurations(arguments.smoke)]
    rows += [steady(config, size, repeats) for config in added(arguments.smoke)]
    rows.append(cached(trace, size, repeats))
    of_recording: list[dict[str, Any]] = (
        [{}] if arguments.smoke else [{}, {"engine": "vllm-0.19"}, {"pipeline_parallel": 4}]
    )
    rows += [recording(fastsim.SimulationConfig(**fields), size, repeats) for fields in of_recording]
    starts = table_times() + start(1 if arguments.smoke else 5, arguments.smoke)
    if not arguments.json:
        for row in starts:
            print(f"{row['what']}: {row['wall_s']:.3f} s")
    emit(rows, arguments.json, starts=starts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
