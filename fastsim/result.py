"""What a simulation returns: frames, a JSON-able summary, and files."""

import functools
import json
import os
import platform
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastsim import __version__
from fastsim.config import SimulationConfig
from fastsim.errors import ConfigError
from fastsim.hardware import describe_hardware, price_per_hour
from fastsim.kernel.histogram import NUM_BUCKETS
from fastsim.kernel.state import NONE
from fastsim.metrics import (
    KEEP_LIMIT,
    describe_classes,
    describe_hits,
    describe_pipeline,
    describe_replica,
    join_engines,
    latencies,
    read_finished,
    summarize_latencies,
)
from fastsim.slo import describe_objectives, objectives_of, times_of
from fastsim.totals import Served, served
from fastsim.windows import describe_load, describe_window, find_window, measured

if TYPE_CHECKING:
    import polars as pl

    from estimators import DeviceSpec, ModelSpec
    from estimators.vidur_tables import OperatorTables
    from fastsim.kernel.state import State
    from fastsim.stage_tables import StageTables
    from traces import Workload, WorkloadStream

_REQUEST_COLUMNS = (
    "replica",
    "arrival_s",
    "scheduled_s",
    "first_token_s",
    "completed_s",
    "prompt_tokens",
    "output_tokens",
    "cached_tokens",
    "preemptions",
)
#: Columns of the workload that are left out where nobody gave them, and what they hold then.
_DEFAULTS = {"request_class": 0, "session": NONE}
#: How exact quantiles are that come from a histogram.
SKETCHED = "from a histogram, relative error at most 0.4 %"


@dataclass(frozen=True)
class SimulationResult:
    """One simulation.

    Attributes:
        config: what was simulated.
        summary: counts, latencies, throughput, use of the hardware, versions and hashes; JSON-able.
        state: the kernel's tables after the run, but its requests in the order of the workload and with the times of
            their clients (only ``scheduled_s`` is the engine's). Of a stream no requests are left.
        requests_file: where the rows of a stream have been written, if anywhere.
    """

    config: SimulationConfig
    summary: dict[str, Any] = field(repr=False)
    state: "State" = field(repr=False)
    requests_file: Path | None = field(default=None, kw_only=True)

    @functools.cached_property
    def requests(self) -> "pl.DataFrame | None":
        """One row per request, in the order of the workload; None above 2 M requests or with ``keep_requests=False``.

        Nor are there any of a stream, whose rows `simulate` writes to a file. ``arrival_s`` is when its client sends
        it, ``first_token_s`` and ``completed_s`` when the client has them, and ``cached_tokens`` counts the prompt
        tokens that were found in the prefix cache when it was first scheduled.

        ``tpot_s`` is null for requests with one output token. With ``record_metrics`` there are ``preempted_s``, how
        long a request waited to be scheduled again after preemptions, ``preempted_prefill_s``, how much of that was
        before its first token, and ``worst_tbt_s``, the longest time between two of its tokens, null where it has one.
        The columns ``request_class`` and ``session`` come last, where the workload has other classes than 0, and any
        session.
        """
        table = self.state.requests
        if len(table) == 0 or not keeps_requests(self.config, len(table)):
            return None
        given = [name for name, default in _DEFAULTS.items() if (table[name] != default).any()]
        return requests_frame(table, 0, self._noted(), given)

    def _noted(self) -> dict[str, "pl.Series"]:
        """Columns of the requests that only a run that records has."""
        if not self.config.record_metrics:
            return {}
        import polars as pl

        from fastsim.kernel.prepare_series import preempted_prefill_s, preempted_s, worst_tbt_s

        worst = pl.Series(worst_tbt_s(self.state)).fill_nan(None)
        return {
            "preempted_s": pl.Series(preempted_s(self.state)),
            "preempted_prefill_s": pl.Series(preempted_prefill_s(self.state)),
            "worst_tbt_s": worst,
        }

    @functools.cached_property
    def batches(self) -> "pl.DataFrame | None":
        """One row per iteration and stage, in order of their start per replica; None without ``record_batches``.

        With ``data_parallel`` the column ``engine`` says which of a replica's, and the order is that of each engine.
        """
        if not self.config.record_batches:
            return None
        import polars as pl

        log = self.state.batches[: int(self.state.cluster["num_batches"][0])]
        assert log.dtype.names is not None
        columns = {name: np.ascontiguousarray(log[name]) for name in log.dtype.names}
        if self.config.data_parallel > 1:
            replica, engine = np.divmod(columns.pop("replica"), self.config.data_parallel)
            columns = {"replica": replica, "engine": engine} | columns
        return pl.DataFrame(columns)

    @functools.cached_property
    def timeseries(self) -> "pl.DataFrame | None":
        """One row per replica and bin of time, see `fastsim.series`; None without ``record_metrics``."""
        if not self.config.record_metrics:
            return None
        from fastsim.series import describe_over_time

        return describe_over_time(self.state, self.config.data_parallel)

    def write(self, directory: str | os.PathLike[str], workload: Mapping[str, Any] | None = None) -> None:
        """Write ``summary.json``, ``config.toml``, and what was kept of the frames.

        Those are ``requests.parquet``, ``timeseries.parquet`` and ``batches.parquet``. Each file appears whole or not
        at all, ``summary.json`` last: where it is, all are of this run. What an earlier result left goes; where the
        disk is full, it stays.

        Args:
            directory: made where it does not exist.
            workload: section ``[workload]`` of config.toml, from which ``fastsim run --config`` repeats the run.

        Raises:
            ConfigError: the directory cannot be written.
            OSError: a file cannot, for want of space say.
        """
        from estimators.files import replace_files

        target = writable_directory(directory)
        frames = {target / f"{name}.parquet": getattr(self, name) for name in ("requests", "timeseries", "batches")}
        summary, config = json.dumps(self.summary, indent=2) + "\n", self.config.to_toml(workload)
        files: dict[Path, Any] = {path: frame.write_parquet for path, frame in frames.items() if frame is not None}
        files[target / "config.toml"] = lambda file: file.write(config.encode())
        files[target / "summary.json"] = lambda file: file.write(summary.encode())
        # `fastsim.export` writes the trace.
        gone = [target / "trace.json.gz", *(path for path, frame in frames.items() if frame is None)]
        kept = None if self.requests_file is None else self.requests_file.resolve()
        replace_files(files, [path for path in gone if path.resolve() != kept])


def writable_directory(directory: str | os.PathLike[str]) -> Path:
    """Make sure that files can be written to a directory, without making it yet.

    Raises:
        ConfigError: they cannot.
    """
    if not str(directory):
        raise ConfigError("out", str(directory), "is not a directory", "give its path")
    target = Path(directory)
    nearest = next(path for path in (target.absolute(), *target.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise ConfigError("out", str(directory), f"cannot be written ({nearest} is not a directory)", "choose another")
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        wrong = f"cannot be written ({nearest}: {error.strerror})"
        raise ConfigError("out", str(directory), wrong, "choose another") from None
    return target


def requests_frame(
    requests: np.ndarray, first: int, noted: "Mapping[str, pl.Series]", given: Sequence[str]
) -> "pl.DataFrame":
    """One row per completed request, see `SimulationResult.requests`.

    Args:
        requests: REQUEST records [n].
        first: number of the first of them.
        noted: columns beside those of the records, each [n].
        given: columns of the workload that are not the same in all.
    """
    import polars as pl

    derived = latencies(requests)
    tpot = np.full(len(requests), np.nan)
    tpot[requests["output_tokens"] > 1] = derived["tpot_s"]
    return pl.DataFrame(
        {"request_id": np.arange(first, first + len(requests))}
        | {name: requests[name].copy() for name in _REQUEST_COLUMNS}  # the records may be written over
        | {
            "scheduling_delay_s": derived["scheduling_delay_s"],
            "ttft_s": derived["ttft_s"],
            "tpot_s": pl.Series(tpot).fill_nan(None),
            "e2e_s": derived["e2e_s"],
            "e2e_normalized_s": derived["e2e_normalized_s"],
        }
        | dict(noted)
        | {name: requests[name].copy() for name in given}
    )


def keeps_requests(config: SimulationConfig, num_requests: int) -> bool:
    """Whether a result has one row per request."""
    return config.keep_requests and num_requests <= KEEP_LIMIT


def summarize(
    config: SimulationConfig,
    workload: "Workload",
    tables: "StageTables | OperatorTables",
    model: "ModelSpec",
    device: "DeviceSpec",
    state: "State",
) -> dict[str, Any]:
    """The summary of a finished run, but for its wall time, which the caller adds."""
    counted = state.requests[measured(config, state.requests)]
    of_all = read_finished(state.requests)
    finished = of_all if len(counted) == len(state.requests) else read_finished(counted)
    keep = keeps_requests(config, len(state.requests))
    tbt_sum_s = float(state.replicas["tbt_sum_s"].sum())
    metrics, distributions = summarize_latencies(finished, state.integers[:NUM_BUCKETS], tbt_sum_s, keep)
    latencies = {
        "quantiles": "exact" if keep else SKETCHED,
        "metrics": metrics,
        "distributions": distributions,
        "prefix_cache": describe_hits(finished.cached_tokens, int(finished.prompt_tokens.sum())),
    }
    if workload.request_class.min() < workload.request_class.max():
        latencies["classes"] = describe_classes(counted, keep)
    summed = served(of_all, model.window)
    summary = describe_run(config, workload, tables, (model, device), state, summed, latencies)
    duration_s = finished.last_completion_s - finished.first_arrival_s
    return summary | _asked_for(config, workload, state, counted, duration_s, summary)


def describe_run(
    config: SimulationConfig,
    workload: "Workload | WorkloadStream",
    tables: "StageTables | OperatorTables",
    machine: "tuple[ModelSpec, DeviceSpec]",
    state: "State",
    served: Served,
    latencies: Mapping[str, Any],
) -> dict[str, Any]:
    """The summary of a finished run, from what is left of its requests.

    Args:
        config: what served.
        workload: what arrived.
        tables: how long iterations took.
        machine: the model, and the device that served it.
        state: the kernel's tables after the run, of which those of replicas are read.
        served: sums over its requests.
        latencies: the sections ``metrics``, ``distributions`` and ``prefix_cache``, as far as they are about latencies
            and hits, ``quantiles``, how exact these are, and of several classes ``classes``.
    """
    (model, device), replicas = machine, state.replicas
    makespan_s, prompt_tokens, output_tokens = served.makespan_s, served.prompt_tokens, served.output_tokens
    gpus = config.replicas * config.data_parallel * config.tensor_parallel * config.pipeline_parallel
    flops = flops_of(model, replicas, output_tokens)
    gpu_hours = gpus * makespan_s / 3600
    cost_usd = gpu_hours * price_per_hour(config, device)
    stages = state.stages.reshape(len(replicas), config.pipeline_parallel)
    per_engine = [describe_replica(*of_one, makespan_s) for of_one in zip(replicas, stages, strict=True)]
    active = np.array([engine["active_s"] for engine in per_engine])
    weights = active / active.sum() if active.sum() > 0 else np.zeros(len(active))
    return {
        "config": config.to_dict(),
        "versions": _versions(),
        "workload": {"source": dict(workload.provenance), "notes": list(workload.notes)},
        "estimates": tables.provenance,
        "replicas": join_engines(per_engine, config.data_parallel),
        "simulation": {
            "requests": served.requests,
            "completed": int(replicas["completed"].sum()),
            "rejected": 0,
            "iterations": int(replicas["iteration"].sum()),
            "makespan_s": makespan_s,
            "quantiles": latencies["quantiles"],
        },
        "metrics": latencies["metrics"]
        | {
            "throughput_requests_per_s": _per(served.requests, makespan_s),
            "throughput_output_tokens_per_s": _per(output_tokens, makespan_s),
            "throughput_tokens_per_s": _per(prompt_tokens + output_tokens, makespan_s),
            "preemptions": int(replicas["preemptions"].sum()),
            "batch_size_mean": float(weights @ [engine["batch_size_mean"] for engine in per_engine]),
            "kv_use_mean": float(weights @ [engine["kv_use_mean"] for engine in per_engine]),
            "kv_use_max": max(engine["kv_use_max"] for engine in per_engine),
            "utilization": float(np.mean([engine["utilization"] for engine in per_engine])),
        }
        | describe_pipeline(per_engine)
        | {
            "mfu": _per(flops, gpus * makespan_s * device.matrix_rate(model.resolve_dtype(config.dtype))),
            "gpu_hours": gpu_hours,
            "cost_usd": cost_usd,
            "cost_usd_per_million_output_tokens": cost_usd / output_tokens * 1e6,
        },
        "distributions": latencies["distributions"],
        "prefix_cache": {"enabled": config.parity is None and bool(replicas["caching"][0])} | latencies["prefix_cache"],
        "hardware": describe_hardware(config, model, device, replicas, served),
    } | ({"classes": latencies["classes"]} if "classes" in latencies else {})


def flops_of(model: "ModelSpec", replicas: np.ndarray, output_tokens: int) -> float:
    """Floating-point operations of a run, of which recomputed tokens count as the work that they are.

    Args:
        model: what was served.
        replicas: REPLICA records after the run.
        output_tokens: of all requests [tokens].
    """
    # Logits are computed once per token generated.
    return (
        int((replicas["prefill_tokens"] + replicas["decode_tokens"]).sum())
        * (model.linear_flops_per_token + model.window_flops_per_token)
        + output_tokens * model.lm_head_flops_per_sequence
        + float(replicas["attention_pairs"].sum()) * model.attention_flops_per_pair
    )


def _asked_for(
    config: SimulationConfig,
    workload: "Workload",
    state: "State",
    counted: np.ndarray,
    duration_s: float,
    summary: Mapping[str, Any],
) -> dict[str, Any]:
    """The sections of a summary that exist where there is a window, or where there are objectives."""
    from fastsim.kernel.prepare_series import worst_tbt_s

    found: dict[str, Any] = {}
    requests = state.requests
    window = find_window(config, requests["arrival_s"])
    if window is not None:
        duration_s = window.end_s - window.start_s
        found["window"] = describe_window(config, window, requests)
        found["load"] = describe_load(config, requests)
    source, objectives, names = objectives_of(config.slo, workload)
    if any(objectives.values()):
        tbt_p99_s = summary["metrics"]["tbt_s"]["p99"]
        worst_s = worst_tbt_s(state)[measured(config, requests)] if config.record_metrics else None
        times = times_of(counted, worst_s)
        found["slo"] = describe_objectives(
            source, objectives, names, counted["request_class"], times, tbt_p99_s, duration_s
        )
    return found


def _per(amount: float, seconds: float) -> float | None:
    """A rate, or None where tables of zeros let no time pass."""
    return amount / seconds if seconds > 0 else None


def _versions() -> dict[str, str]:
    import numba

    return {
        "fastsim": __version__,
        "python": platform.python_version(),
        "numba": numba.__version__,
        "numpy": np.__version__,
    }
