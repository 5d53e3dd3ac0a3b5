"""The search of the Vidur paper: how long it takes, and whether its findings come out.

``paper_search.toml`` has the space. Each configuration is probed at as many rates as its capacity takes, each probe a
simulation of all requests of the workload. The paper's findings are that the best configuration depends on the model
and on the workload, and that the best of one costs up to twice as much on another. They are looked for among all
configurations, and among those for which the workload is long enough: a rate from a run that is too short is too high,
and the higher the larger the deployment.
"""

import dataclasses
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl
from common import Row, emit, figure, note, parser

from fastsim.commands.search_file import SearchFile, read_search_file, read_space, read_workloads
from fastsim.searching.cases import knobs_in_words
from fastsim.searching.findings import describe
from fastsim.searching.limits import Limit, read_limits
from fastsim.searching.runner import SearchResult, run_search

FILE = Path(__file__).with_name("paper_search.toml")
#: In place of fields of the space, for a small one.
_SMOKE = {"model": "meta-llama/Llama-2-7b-hf", "device": "a100_sxm", "pipeline_parallel": 1}
_SMOKE_REQUESTS = 100


def read(requests: int | None, smoke: bool) -> SearchFile:
    """The file; with other numbers of requests, or a small space."""
    file = read_search_file(str(FILE))
    if smoke:
        file = dataclasses.replace(file, space={**file.space, **_SMOKE})
        requests = requests or _SMOKE_REQUESTS
    if requests is not None:
        file = dataclasses.replace(file, search={**file.search, "requests": requests})
    return file


def run(file: SearchFile, threads: int | None) -> tuple[SearchResult, float, float]:
    """The result, and how long it took: wall time and CPU time of all threads [s]."""
    how = {"seed": 0} | {name: value for name, value in file.search.items() if name != "requests"}
    space = read_space(file)
    workloads = read_workloads(file, space, how["seed"])
    note(f"{space.size:,} configurations, {len(workloads)} workloads of {file.search['requests']:,} requests")
    started, cpu_s = time.perf_counter(), _cpu_s()
    result = run_search(space, workloads, file.slo, threads=threads, **how)
    return result, time.perf_counter() - started, _cpu_s() - cpu_s


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def describe_work(result: SearchResult, wall_s: float, cpu_s: float) -> Row:
    """What was simulated, and how fast; a probe is one configuration simulated at one rate."""
    counts, frame = result.record["counts"], result.frame
    probes, requests = counts["probes"], counts["simulated_requests"]
    return {
        "configurations": counts["configurations"],
        "rows": counts["rows"],
        "pruned": counts["never_run"],
        "failed": int((frame["status"] == "failed").sum()),
        "long_enough": int(frame["long_enough"].sum()),
        "capacities": counts["runs"],
        "probes": probes,
        "stopped_early": int(result.probes["stopped_early"].sum()),
        "simulated_requests": requests,
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "requests_per_s": requests / wall_s,
        "capacities_per_s": counts["runs"] / wall_s,
        "simulated_configurations_per_s": probes / wall_s,
        "simulated_configurations_per_cpu_s": probes / cpu_s,
    }


def describe_bests(found: Mapping[str, Any]) -> list[Row]:
    """The best of each model and workload, of what `fastsim.searching.findings.describe` says."""
    return [
        {
            "model": case["model"],
            "workload": case["workload"],
            "best": knobs_in_words(case["best"]["knobs"], found["knobs"]),
            "capacity_qps": case["best"]["capacity_qps"],
            "qps_per_dollar": case["best"]["qps_per_dollar"],
            "compared": case["compared"],
            "ties": len(case["ties"]),
        }
        for case in found["cases"]
        if case["best"] is not None
    ]


def describe_mismatch(found: Mapping[str, Any]) -> list[Row]:
    """What each request costs under the best configuration of another workload, relative to its own best."""
    names = ("model", "best_on", "run_on", "factor", "least_factor")
    return [{name: row[name] for name in names} for row in found["mismatch"]]


def describe_findings(bests: list[Row], mismatches: list[Row]) -> Row:
    """The two findings in a line."""
    by_model: dict[str, set[str]] = {}
    for row in bests:
        by_model.setdefault(row["model"], set()).add(row["best"])
    factors: dict[str, Any] = {
        f"largest_{name}": max((row[name] for row in mismatches if row[name] is not None), default=None)
        for name in ("factor", "least_factor")
    }
    return {
        "models": len(by_model),
        "models_whose_best_depends_on_the_workload": sum(len(found) > 1 for found in by_model.values()),
        "different_bests": len({(model, best) for model, found in by_model.items() for best in found}),
        **factors,
        "without_a_capacity": sum(row["factor"] is None for row in mismatches),
    }


def describe_all(frame: pl.DataFrame, limits: tuple[Limit, ...]) -> dict[str, list[Row]]:
    """The findings in a line, the best, and the cost of each best where it is not."""
    found = describe(frame, limits)
    bests, mismatches = describe_bests(found), describe_mismatch(found)
    return {"findings": [describe_findings(bests, mismatches)], "best": bests, "mismatch": mismatches}


def record(printed: Row) -> Iterator[Row]:
    """Rows of the record: what the search took, and what came out."""
    (work,) = printed["rows"]
    units = {
        "configurations": "",
        "capacities": "",
        "probes": "",
        "simulated_requests": "",
        "wall_s": "s",
        "cpu_s": "s",
    }
    for name, unit in units.items():
        yield figure("The whole space", name.removesuffix("_s").replace("_", " "), "figure", work[name], unit)
    rate = work["simulated_configurations_per_s"]
    yield figure("The whole space", "simulated configurations/s", "figure", rate, "configurations/s")
    found = printed.get("long_enough", printed["all"])
    for name, value in found["findings"][0].items():
        yield figure("Findings, where the workload is long enough", name.replace("_", " "), "figure", value, "")
    for row in found["mismatch"]:
        name = f"{row['model']}, the best on {row['best_on']}"
        yield figure(
            "Cost of a request relative to the workload's own best", name, f"on {row['run_on']}", row["factor"], ""
        )


def main() -> int:
    """Print what it took, and what was found; returns the exit code: 1 where a configuration failed."""
    command = parser("the search of the Vidur paper")
    command.add_argument("--requests", type=int, help="of each workload (default: that of the file)")
    command.add_argument("--threads", type=int, help="configurations at a time (default: one per core)")
    command.add_argument("--out", type=Path, help="a directory for the frames, such as fastsim report takes")
    arguments = command.parse_args()
    file = read(arguments.requests, arguments.smoke)
    result, wall_s, cpu_s = run(file, arguments.threads)
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        result.write(arguments.out)
    work, limits = describe_work(result, wall_s, cpu_s), read_limits(file.slo)
    told = {"all": describe_all(result.frame, limits)}
    if work["long_enough"]:
        told["long_enough"] = describe_all(result.frame.filter("long_enough"), limits)
    if arguments.json:
        emit([work], True, **told)
    else:
        parts = [{"of": of} | row for of, part in told.items() for rows in part.values() for row in rows]
        emit([work, *parts], False)
    return 1 if work["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
