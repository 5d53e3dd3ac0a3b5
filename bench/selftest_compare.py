"""What the self-test measured, against what was predicted: of requests, and of single iterations."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from common import Row
from measured import FloatArray, metrics_of, statistics
from selftest_engine import Iteration

import fastsim
from estimators import IterationTables
from estimators.profiler.host import HOST_TIMES

STATISTICS = ("mean", "p50", "p90")
#: An iteration is quiet if its threads waited no longer for a core than this part of it.
_WAITED_SHARE = 0.02
#: Figures of a run by (metric, statistic), seconds.
Figures = dict[tuple[str, str], float]


@dataclass(frozen=True)
class Served:
    """One run of the engine: times of each request, float64 (requests,), seconds, its iterations, and the yardstick."""

    workload: fastsim.Workload
    first_token_s: FloatArray
    completed_s: FloatArray
    preemptions: int
    iterations: list[Iteration]
    yardstick_s: list[float]

    def figures(self) -> Figures:
        """Its figures."""
        return _figures(self.workload, self.first_token_s, self.completed_s)

    def load(self) -> Row:
        """How busy the engine was: part of the time, and mean requests running and waiting while it was."""
        seconds = np.array([one.end_s - one.start_s for one in self.iterations])
        running, waiting = (
            float(np.average([getattr(one, name) for one in self.iterations], weights=seconds))
            for name in ("num_sequences", "waiting")
        )
        makespan_s = float(self.completed_s.max() - self.workload.arrival_s[0])
        busy = float(seconds.sum()) / makespan_s
        return {"utilisation": busy, "running": running, "waiting": waiting, "preemptions": self.preemptions}


def simulated_figures(result: fastsim.SimulationResult, workload: fastsim.Workload) -> Figures:
    """The figures of a simulation."""
    requests = result.requests.sort("request_id")
    return _figures(workload, *(requests[name].to_numpy() for name in ("first_token_s", "completed_s")))


def _figures(workload: fastsim.Workload, first_token_s: FloatArray, completed_s: FloatArray) -> Figures:
    metrics = metrics_of(workload.arrival_s, first_token_s, completed_s, workload.output_tokens)
    found = {
        (metric, statistic): value
        for metric, values in metrics.items()
        for statistic, value in statistics(values, STATISTICS).items()
    }
    return found | {("makespan", "all"): float(completed_s.max() - workload.arrival_s[0])}


def rows_of(number: int, served: Sequence[Figures], predicted: Figures, at_speed: Sequence[Figures]) -> list[Row]:
    """A row for each figure of a round.

    ``measured_s`` is the mean of the runs, ``between`` how far the largest was from the smallest, and ``error`` that of
    the prediction from their mean. ``error_at_speed`` is that of the mean of predictions at the speed that the device
    had in each run.
    """
    rows = []
    for (metric, statistic), predicted_s in predicted.items():
        measured = [figures[metric, statistic] for figures in served]
        measured_s = float(np.mean(measured))
        rows.append(
            {
                "round": number,
                "metric": metric,
                "statistic": statistic,
                "measured_s": measured_s,
                "predicted_s": predicted_s,
                "error": predicted_s / measured_s - 1,
                "error_at_speed": float(np.mean([figures[metric, statistic] for figures in at_speed])) / measured_s - 1,
                "between": max(measured) / min(measured) - 1,
            }
        )
    return rows


def over_rounds(rows: Sequence[Row]) -> list[Row]:
    """Median and range of the errors over the rounds, and the widest difference of two runs, by figure."""
    error = pl.col("error")
    figures = {
        "error": error.median(),
        "least": error.min(),
        "most": error.max(),
        "error_at_speed": pl.col("error_at_speed").median(),
        "between": pl.col("between").max(),
    }
    names = ["metric", "statistic"]
    return pl.DataFrame(rows).group_by(names, maintain_order=True).agg(rounds=pl.len(), **figures).to_dicts()


def iteration_rows(
    number: int, served: Served, tables: IterationTables, config: fastsim.SimulationConfig, slower: float
) -> list[Row]:
    """Every iteration as it was run, with the time that the tables say for the model and the engine for the CPU.

    Both are at the speed of the run: ``slower`` times what the profile says.
    """
    engine, rows = config.engine_choice, []
    for one in served.iterations:
        device_s = slower * tables.iteration_time_s(
            one.num_tokens, one.num_sequences, one.num_decodes, one.kv, one.chunks
        )
        host_s = slower * (
            (engine.launch_s + engine.process_s)
            + one.num_sequences * (engine.launch_s_per_request + engine.process_s_per_request)
        )
        rows.append(
            {
                "round": number,
                "kind": one.kind,
                "tokens": one.num_tokens,
                "measured_s": one.end_s - one.start_s,
                "waited_s": one.waited_s,
                "predicted_s": device_s + host_s,
                "device_s": one.seconds["device"],
                "predicted_device_s": device_s,
                "host_s": sum(one.seconds[name] for name in HOST_TIMES),
                "predicted_host_s": host_s,
            }
        )
    return rows


def by_kind(rows: Sequence[Row]) -> list[Row]:
    """Iterations by kind: their share of the time, and how far predictions of their sums and of each are off.

    ``quiet`` is the part of them in which no thread of the engine waited for a core that another program held, and
    ``bias_quiet`` the bias of those: what the profile measures; so are those of the model, ``bias_device``, and of the
    CPU, ``bias_host``.
    """
    if not rows:
        return []
    frame = pl.DataFrame(rows)
    whole_s = frame["measured_s"].sum()
    quiet = pl.col("waited_s") <= _WAITED_SHARE * pl.col("measured_s")

    def bias(predicted: str, measured: str, of: pl.Expr | bool = True) -> pl.Expr:
        error = pl.col(predicted).filter(of).sum() / pl.col(measured).filter(of).sum() - 1
        return error.fill_nan(None)  # none to tell of

    figures = {
        "share": pl.col("measured_s").sum() / whole_s,
        "bias": bias("predicted_s", "measured_s"),
        "quiet": quiet.mean(),
        "bias_quiet": bias("predicted_s", "measured_s", quiet),
        "bias_device": bias("predicted_device_s", "device_s", quiet),
        "bias_host": bias("predicted_host_s", "host_s", quiet),
        "median_ape": (pl.col("predicted_s") / pl.col("measured_s") - 1).abs().median(),
    }
    return frame.group_by("kind").agg(iterations=pl.len(), **figures).sort("kind").to_dicts()
