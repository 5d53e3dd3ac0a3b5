"""What each rule of the engine model changes on measured runs: every run again, with one rule left out.

    python bench/effects.py DIR --profiles DIR [--json]

DIR and ``--profiles`` are those of ``fidelity.py``. A row has the mean of one metric with all rules and with one
changed, the change, and the error against the measurement that is left.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from common import Row, emit, figure, note, parser
from deployment import Deployment, deployment_of
from fidelity import compared, simulated_metrics
from measured import Measured, add_run_flags, chosen_folders, read_run

import fastsim
from estimators import EstimatorError

Change = Callable[[Deployment], Deployment]


def engine(**fields: object) -> Change:
    """Replace fields of the engine."""
    return lambda one: replace(
        one, config=one.config.with_fields(engine_options={**one.config.engine_options, **fields})
    )


def scheduler(**fields: object) -> Change:
    """Replace fields of the batch policy."""
    return lambda one: replace(
        one, config=one.config.with_fields(scheduler_options={**one.config.scheduler_options, **fields})
    )


def more_blocks(one: Deployment) -> Deployment:
    """One percent more KV blocks."""
    blocks = one.config.num_kv_blocks or 0
    return replace(one, config=one.config.with_fields(num_kv_blocks=round(1.01 * blocks)))


def smaller_batches(one: Deployment) -> Deployment:
    """A quarter of the tokens per batch, or as many as requests."""
    policy = one.config.batch_policy
    return scheduler(max_num_batched_tokens=max(policy.max_num_batched_tokens // 4, policy.max_num_seqs))(one)


def without_skew(one: Deployment) -> Deployment:
    """Decodes of unequal length take as long as equal ones."""
    tables = one.tables
    if tables.skew is None:
        return one
    begin = tables.layout.size + tables.joint_s.size
    values = np.delete(tables.values, slice(begin, begin + tables.skew.size))
    return replace(one, tables=replace(tables, values=values, skew=None))


NO_CPU = dict.fromkeys(("launch_s", "launch_s_per_request", "process_s", "process_s_per_request"), 0.0)
CHANGES: dict[str, Change] = {
    "synchronous scheduling": engine(async_scheduling=False),
    "synchronous scheduling, no CPU time": engine(async_scheduling=False, **NO_CPU),
    "no prefix caching": scheduler(enable_prefix_caching=False),
    "no full-sequence gate": scheduler(scheduler_reserve_full_isl=False),
    "no cost of unequal decodes": without_skew,
    "no padding to CUDA graphs": engine(capture_sizes="none"),
    "no CPU time": engine(**NO_CPU),
    "uncached blocks first": engine(uncached_blocks_first=True),
    "1 % more KV blocks": more_blocks,
    "a quarter of the tokens per batch": smaller_batches,
}


def effects(run: Measured, deployment: Deployment) -> Iterator[Row]:
    """The rows of a run."""
    measured = run.metrics()
    whole = simulated_metrics(run, fastsim.simulate(deployment.config, run.workload, deployment.tables))
    for name, change in CHANGES.items():
        other = change(deployment)
        result = fastsim.simulate(other.config, run.workload, other.tables)
        for metric, values in simulated_metrics(run, result).items():
            with_s, without_s = float(whole[metric].mean()), float(values.mean())
            yield {
                "run": run.name,
                "change": name,
                "metric": metric,
                "all_rules_s": with_s,
                "changed_s": without_s,
                "effect": without_s / with_s - 1,
                "error": compared(measured[metric], values)["mean"]["error"],
                "preemptions": int(result.requests["preemptions"].sum()),
            }


def record(printed: Row) -> Iterator[Row]:
    """Rows of the record: the change of each mean, and the error of the mean latency that is left."""
    for row in printed["rows"]:
        what = f"{row['run']}: change of the mean when a rule is left out"
        yield figure(what, row["change"], row["metric"], row["effect"], "+%")
        if row["metric"] == "latency":
            yield figure(what, row["change"], "error of latency that is left", row["error"], "+%")


def main() -> int:
    """Print the rows; returns the exit code."""
    arguments = parser("what each rule of the engine model changes on measured runs")
    add_run_flags(arguments)
    options = arguments.parse_args()
    folders = chosen_folders(options)
    if not folders:
        return 2
    rows: list[Row] = []
    skipped: list[Row] = []
    for folder in folders:
        try:
            run = read_run(folder)
            rows += list(effects(run, deployment_of(run, options.profiles)))
        except (ValueError, EstimatorError) as error:  # one bad run must not hide the others
            note(f"{folder.resolve().name}: {error}")
            skipped.append({"run": folder.resolve().name, "skipped": str(error)})
    emit(rows, options.json, runs=skipped)
    return 2 if skipped else 0


if __name__ == "__main__":
    sys.exit(main())
