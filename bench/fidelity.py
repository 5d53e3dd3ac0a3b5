"""Fidelity: measured runs of vLLM, repeated on the very same requests.

    python bench/fidelity.py DIR --profiles DIR [--json] [--plot FILE.html]

DIR holds folders of runs, or is one: ``meta.json`` (engine settings), ``requests.jsonl`` (what each request took) and
``workload.jsonl.gz`` (block ids). Iteration times come from layerwise profiles of the same GPU and model, all-reduce
times from aiconfigurator's tables, both anywhere below ``--profiles``. Nothing is fitted to a run; settings that it did
not record are vLLM's defaults, and listed.

Times to the first token count from the true arrival (see ``measured``); ``ttft_from_queued`` beside has the measured
ones from when the engine's loop picked the request up, as the run's own authors print them. Requests arrive when the
record says, not when the load generator meant to send them: it was late by up to 40 ms, which is no doing of the
engine. Preemptions were not recorded.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common import Row, emit, figure, note, parser
from deployment import Deployment, deployment_of
from fidelity_plot import write_plot
from measured import FloatArray, Measured, add_run_flags, chosen_folders, metrics_of, read_run, statistics

import fastsim
from estimators import EstimatorError
from fastsim.errors import ConfigError
from fastsim.svg import check_html


def compared(measured: FloatArray, simulated: FloatArray) -> dict[str, Row]:
    """Measured and simulated seconds and the error, by statistic."""
    pairs = zip(statistics(measured).items(), statistics(simulated).values(), strict=True)
    return {
        name: {"measured_s": true_s, "simulated_s": ours_s, "error": ours_s / true_s - 1}
        for (name, true_s), ours_s in pairs
    }


def simulated_metrics(run: Measured, result: fastsim.SimulationResult) -> dict[str, FloatArray]:
    """As `Measured.metrics`, of the simulation."""
    requests = result.requests.sort("request_id")
    times = (requests[name].to_numpy() for name in ("arrival_s", "first_token_s", "completed_s"))
    return metrics_of(*times, run.workload.output_tokens)


def rows_of(run: Measured, result: fastsim.SimulationResult) -> list[Row]:
    """The rows of a run."""
    simulated = simulated_metrics(run, result)
    return [
        {"run": run.name, "metric": metric, "statistic": statistic, **figures}
        for metric, values in run.metrics().items()
        for statistic, figures in compared(values, simulated[metric]).items()
    ]


def beside(run: Measured, deployment: Deployment, result: fastsim.SimulationResult) -> Row:
    """What is told of a run beside its rows."""
    config, requests = deployment.config, result.requests
    simulated = simulated_metrics(run, result)
    return {
        "run": run.name,
        "requests": len(run.workload),
        "makespan": compared(run.completed_s.max(keepdims=True), requests["completed_s"].to_numpy().max(keepdims=True))[
            "mean"
        ],
        "preemptions": {"measured": None, "simulated": int(requests["preemptions"].sum())},
        "prefix_hits": {
            "measured": None,
            "simulated_requests": int((requests["cached_tokens"] > 0).sum()),
            "simulated_tokens": int(requests["cached_tokens"].sum()),
            "prompt_tokens": int(requests["prompt_tokens"].sum()),
        },
        "ttft_from_queued": compared(run.first_token_s - run.queued_s, simulated["ttft"]),
        "queued_after_arrival_s": statistics(run.queued_s - run.arrival_s),
        "engine": config.engine,
        "num_kv_blocks": config.num_kv_blocks,
        "assumptions": list(deployment.assumptions),
        "tables": dict(deployment.tables.provenance),
    }


def print_beside(run: Row) -> None:
    """Print what is told of a run beside its rows."""
    span, hits = run["makespan"], run["prefix_hits"]
    print(f"{run['run']}: {run['requests']} requests, engine {run['engine']}, {run['num_kv_blocks']} KV blocks")
    print(
        f"  makespan measured {span['measured_s']:.2f} s, simulated {span['simulated_s']:.2f} s ({span['error']:+.2%})"
    )
    print(f"  preemptions not recorded, simulated {run['preemptions']['simulated']}")
    print(
        f"  prefix hits not recorded, simulated {hits['simulated_tokens']} of {hits['prompt_tokens']} prompt tokens "
        f"in {hits['simulated_requests']} requests"
    )
    for name, figures in run["ttft_from_queued"].items():
        print(f"  ttft from queued_ts, {name}: {figures['measured_s']:.4g} s ({figures['error']:+.2%})")
    print(f"  assumed: {'; '.join(run['assumptions']) or 'nothing'}")


def record(printed: Row) -> Iterator[Row]:
    """Rows of the record: errors of each statistic, and what is told of a run beside."""
    for row in printed["rows"]:
        name = f"{row['run']}, {row['metric']}"
        yield figure("Simulated over measured - 1", name, row["statistic"], row["error"], "+%")
    for run in printed["runs"]:
        whole = {"makespan": (run["makespan"]["error"], "+%"), "requests": (run["requests"], "")}
        whole |= {"simulated preemptions": (run["preemptions"]["simulated"], "")}
        whole |= {"simulated prefix hits": (run["prefix_hits"]["simulated_tokens"], "tokens")}
        for of, (value, unit) in whole.items():
            yield figure("Whole runs", run["run"], of, value, unit)


def main() -> int:
    """Print the rows; returns the exit code."""
    arguments = parser("fidelity to measured runs")
    add_run_flags(arguments)
    arguments.add_argument("--plot", type=Path, metavar="FILE.html", help="draw every request, measured and simulated")
    options = arguments.parse_args()
    folders = chosen_folders(options)
    if not folders:
        return 2
    try:
        if options.plot:
            check_html("--plot", options.plot)
    except ConfigError as error:
        note(str(error))
        return 2
    rows: list[Row] = []
    runs: list[Row] = []
    drawn: list[tuple[Measured, dict[str, Any]]] = []
    for folder in folders:
        try:
            run = read_run(folder)
            deployment = deployment_of(run, options.profiles)
            result = fastsim.simulate(deployment.config, run.workload, deployment.tables)
        except (ValueError, EstimatorError) as error:  # one bad run must not hide the others
            note(f"{folder.resolve().name}: {error}")
            runs.append({"run": folder.resolve().name, "skipped": str(error)})
            continue
        rows += rows_of(run, result)
        runs.append(beside(run, deployment, result))
        drawn.append((run, simulated_metrics(run, result)))
    emit(rows, options.json, runs=runs)
    if not options.json:
        for one in runs:
            if "skipped" not in one:
                print_beside(one)
    if options.plot and drawn:
        write_plot(options.plot, drawn)
    return 2 if any("skipped" in one for one in runs) else 0


if __name__ == "__main__":
    sys.exit(main())
