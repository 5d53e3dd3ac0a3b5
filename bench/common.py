"""What all benches share: the machine, the standard work, and how rows are printed."""

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numba
import numpy as np
import polars as pl
from numpy.typing import NDArray

import fastsim
from fastsim.errors import ConfigError
from fastsim.machine import tables_for

Row = dict[str, Any]
FloatArray = NDArray[np.float64]
#: What the record calls the speed of the standard work.
STANDARD_WORK = "Requests/s on the standard work"


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


def read_columns(path: Path, numbers: Sequence[str], texts: Sequence[str] = ()) -> pl.DataFrame:
    """Some columns of a CSV file; those of ``numbers`` as float64, in which empty cells are null.

    Raises:
        ConfigError: the file is not there or no CSV file, or lacks a column, or a cell is no number.
    """
    mend = "give the file as it was published"
    if not path.is_file():
        raise ConfigError("file", str(path), "is not there", mend)
    try:
        # All as text, so that a cell that is no number can be named.
        frame = pl.read_csv(path, infer_schema=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ConfigError("file", str(path), f"cannot be read ({str(error).splitlines()[0]})", mend) from error
    if missing := [name for name in (*numbers, *texts) if name not in frame.columns]:
        raise ConfigError("file", str(path), f"lacks the column {', '.join(missing)}", mend)
    cast = frame.select(*texts, *(pl.col(name).cast(pl.Float64, strict=False) for name in numbers))
    for name in numbers:
        bad = (frame[name].is_not_null() & cast[name].is_null()).arg_true()
        if bad.len():
            raise ConfigError(name, frame[name][bad[0]], f"is no number (row {bad[0] + 2} of {path})", mend)
    return cast


def errors_by(rows: Sequence[Row], names: Sequence[str]) -> list[Row]:
    """Errors of the groups of rows that agree in ``names``; ``bias`` is the mean of ``error``."""
    error = pl.col("error")
    figures = {"median_ape": error.abs().median(), "mape": error.abs().mean(), "bias": error.mean()}
    if not rows:
        return []
    return pl.DataFrame(rows).group_by(names).agg(pl.len().alias("rows"), **figures).sort(names).to_dicts()


def print_groups(groups: Iterable[Row]) -> None:
    """Print errors of groups, each on a line."""
    for group in groups:
        shown = {name: f"{value:.1%}" if isinstance(value, float) else str(value) for name, value in group.items()}
        print("  ".join(f"{name}={value}" for name, value in shown.items()))


def figure(what: str, name: str, of: str, value: float | None, unit: str) -> Row:
    """A row of the record: what is told, by name and what of it; ``unit`` "+%" is a part with its sign."""
    return {"what": what, "name": name, "of": of, "figure": value, "unit": unit}


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
    """The standard work, the README's: the embedded lengths, Poisson arrivals at 0.95 of the capacity, seed 0.

    Returns:
        The configuration, its workload and its tables.
    """
    config, parameters, tables = standard_parameters(num_requests, config)
    return config, fastsim.Workload.generate(**parameters), tables


def standard_parameters(
    num_requests: int, config: fastsim.SimulationConfig | None = None
) -> tuple[fastsim.SimulationConfig, dict[str, Any], Any]:
    """The same with what `Workload.generate` and `Workload.stream` take in place of the workload."""
    config = config or fastsim.SimulationConfig()
    tables = tables_for(config)
    qps = 0.95 * capacity_qps(config.with_fields(replicas=1), tables) * config.replicas
    parameters = {"num_requests": num_requests, "qps": qps, "max_total_tokens": config.max_model_len}
    return config, parameters | {"seed": config.seed}, tables
