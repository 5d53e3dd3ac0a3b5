"""What all benches share: the machine, the standard work, and how rows are printed."""

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterable
from typing import Any

import numba
import numpy as np

import fastsim
from fastsim.machine import tables_for

Row = dict[str, Any]


def machine() -> dict[str, Any]:
    """The machine and the versions that a figure belongs to."""
    model = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load_1min": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": numba.__version__,
        "fastsim": fastsim.__version__,
    }


def parser(description: str) -> argparse.ArgumentParser:
    """A parser with the flags that every bench has."""
    result = argparse.ArgumentParser(description=description)
    result.add_argument("--json", action="store_true", help="print one JSON object, and nothing else")
    result.add_argument("--smoke", action="store_true", help="a small size: does it run?")
    return result


def emit(rows: Iterable[Row], as_json: bool, **beside: Any) -> None:
    """Print rows as one JSON object, or each on a line."""
    rows = list(rows)
    if as_json:
        print(json.dumps({"machine": machine(), "rows": rows, **beside}))
        return
    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    for row in rows:
        print("  ".join(f"{key}={_shown(value)}" for key, value in row.items()))


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def note(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


def capacity_qps(config: fastsim.SimulationConfig, tables: Any, num_requests: int = 100_000) -> float:
    """Requests/s that a configuration completes when it is never idle: all requests arrive at time 0."""
    workload = fastsim.Workload.generate(
        num_requests=num_requests, arrivals="static", max_total_tokens=config.max_model_len, seed=config.seed
    )
    result = fastsim.simulate(config.with_fields(keep_requests=False), workload, tables)
    throughput: float = result.summary["metrics"]["throughput_requests_per_s"]
    return throughput


def standard_work(
    num_requests: int, config: fastsim.SimulationConfig | None = None
) -> tuple[fastsim.SimulationConfig, fastsim.Workload, Any]:
    """The standard work of the design page: the embedded lengths, Poisson arrivals at 0.95 of the capacity, seed 0.

    Returns:
        The configuration, its workload and its tables.
    """
    config = config or fastsim.SimulationConfig()
    tables = tables_for(config)
    qps = 0.95 * capacity_qps(config.with_fields(replicas=1), tables) * config.replicas
    workload = fastsim.Workload.generate(
        num_requests=num_requests, qps=qps, max_total_tokens=config.max_model_len, seed=config.seed
    )
    return config, workload, tables
