"""The public call: from a configuration and a workload to a result."""

import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from estimators.vidur_tables import OperatorTables
from fastsim.batch_policy import Pool
from fastsim.confidence import batch_means
from fastsim.config import SimulationConfig
from fastsim.custom import as_slot, check_status, reads_replicas
from fastsim.engine_presets import schedules_ahead
from fastsim.errors import ConfigError
from fastsim.intervals import MEMBERS, check_intervals, describe_intervals
from fastsim.preparing import clients_of, compile_kernel, load_parts, start_state
from fastsim.profiled_range import find_warnings
from fastsim.result import SimulationResult
from fastsim.stage_tables import (
    StageTables,
)
from fastsim.streaming import check_stream, simulate_stream
from fastsim.windows import find_growth
from traces.stream import WorkloadStream

if TYPE_CHECKING:
    from estimators import DeviceSpec, IterationTables, ModelSpec
    from fastsim.kernel.state import State
    from traces import Workload


def simulate(
    config: SimulationConfig,
    workload: "Workload | WorkloadStream",
    tables: "IterationTables | Sequence[IterationTables] | OperatorTables | None" = None,
    *,
    batch_policy: Callable[..., Any] | None = None,
    router: Callable[..., Any] | None = None,
    intervals: bool = False,
    batch_window: tuple[float, float] | None = None,
    confidence: bool = False,
    watch: Callable[["State"], None] | None = None,
    requests_file: str | os.PathLike[str] | None = None,
) -> SimulationResult:
    """Simulate one configuration under one workload.

    Args:
        config: what serves.
        workload: what arrives.
        tables: how long iterations take, for every pipeline stage or one for each; looked up, or built and cached, when
            not given. Under ``parity="vidur"`` they are OperatorTables, by operator.
        batch_policy: a function of your own in place of the scheduler's, whose limits and memory rule it keeps.
        router: a function of your own in place of the router.
        intervals: say in ``summary["intervals"]`` how far the metrics may be off because times are predicted; takes
            five more runs, on threads.
        batch_window: keep rows of the batch log that overlap this part of the simulated time, for `fastsim.export`,
            whether or not all are kept [s].
        confidence: say in ``summary["confidence"]`` how far latencies may be off because the run is so short
            (`fastsim.confidence`).
        watch: called with the kernel's tables before the event loop starts, to be read from another thread while it
            runs (`fastsim.progress`).
        requests_file: of a `traces.WorkloadStream`, whose requests the result does not hold: a parquet file to write
            their rows to, which appears when it is whole.

    Returns:
        The result; the same arguments give the same result, whatever else runs.

    Raises:
        ConfigError: the model does not fit, a request can never run, the tables are too small or do not belong to the
            stages, a function of your own does not work, there are no intervals for such a run, something needs all
            requests of a stream in memory, or their file cannot be written.
        estimators.EstimatorError: unknown model or device, or a model that cannot be split that way.
    """
    if isinstance(workload, WorkloadStream):
        check_stream(config, intervals=intervals, confidence=confidence, batch_window=batch_window)
    elif requests_file is not None:
        mend = "use SimulationResult.write, or give Workload.stream"
        raise ConfigError("requests_file", str(requests_file), "is written of a stream only", mend)
    if intervals:
        check_intervals(config, tables)
    result, found = simulate_quietly(
        config, workload, tables, batch_policy, router, 0, batch_window, watch, requests_file
    )
    if confidence:
        result.summary["confidence"] = batch_means(config, result.state.requests, result.summary["metrics"])
    if intervals:
        assert not isinstance(workload, WorkloadStream)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            _add_intervals(pool, [result], [workload], batch_policy, router)
    for warning in found:
        warnings.warn(warning, stacklevel=2)
    return result


def simulate_quietly(
    config: SimulationConfig,
    workload: "Workload | WorkloadStream",
    tables: "IterationTables | Sequence[IterationTables] | OperatorTables | None" = None,
    batch_policy: Callable[..., Any] | None = None,
    router: Callable[..., Any] | None = None,
    member: int = 0,
    batch_window: tuple[float, float] | None = None,
    watch: Callable[["State"], None] | None = None,
    requests_file: str | os.PathLike[str] | None = None,
) -> tuple[SimulationResult, list[Warning]]:
    """What `simulate` does, and what it warns about: a warning is issued where the caller's frame is at hand."""
    if isinstance(workload, WorkloadStream):
        check_stream(config)
    elif config.parity is not None:
        from fastsim.vidur.simulate import simulate_parity

        if batch_policy is not None or router is not None:
            raise ConfigError("parity", config.parity, "takes no functions of your own", "leave them out, or parity")
        if batch_window is not None:
            raise ConfigError("parity", config.parity, "keeps its batch log whole", "give record_batches instead")
        return simulate_parity(config, workload, tables)
    if batch_policy is not None and schedules_ahead(config):
        mend = "give engine.async_scheduling = false"
        raise ConfigError("batch_policy", None, "does not go with asynchronous scheduling", mend)
    own = {
        kind: as_slot(kind, function)
        for kind, function in (("batch_policy", batch_policy), ("router", router))
        if function is not None
    }
    if isinstance(workload, WorkloadStream):
        return simulate_stream(config, workload, tables, own, requests_file, watch)
    model, device, pool, joined = load_parts(config, workload, tables, member)
    window = None if config.record_batches else batch_window
    return _run(config, workload, joined, model, device, pool, own, window, watch)


def _add_intervals(
    pool: ThreadPoolExecutor,
    results: Sequence[SimulationResult],
    workloads: "Sequence[Workload]",
    batch_policy: Callable[..., Any] | None = None,
    router: Callable[..., Any] | None = None,
) -> None:
    """Run the members of each result, and add what their metrics say to its summary."""

    def metrics(run: "tuple[SimulationConfig, Workload, int]") -> dict[str, Any]:
        config, workload, member = run
        alone = config.with_fields(record_batches=False, record_metrics=False, slo={})
        result, _ = simulate_quietly(alone, workload, None, batch_policy, router, member)
        metrics: dict[str, Any] = result.summary["metrics"]
        return metrics

    runs = [
        (result.config, workload, member)
        for result, workload in zip(results, workloads, strict=True)
        for member in range(1, MEMBERS + 1)
    ]
    found = list(pool.map(metrics, runs))
    for i, result in enumerate(results):
        members = found[i * MEMBERS : (i + 1) * MEMBERS]
        result.summary["intervals"] = describe_intervals(result.summary["metrics"], members)


def simulate_many(
    configs: Sequence[SimulationConfig],
    workloads: "Workload | Sequence[Workload]",
    threads: int | None = None,
    tables: "Sequence[IterationTables | Sequence[IterationTables]] | None" = None,
    *,
    intervals: bool = False,
) -> list[SimulationResult]:
    """Simulate several configurations side by side, on threads; results do not depend on their number.

    Args:
        configs: what serves, n of them.
        workloads: what arrives, n of them, or one for all.
        threads: how many at a time; None for one per core.
        tables: how long iterations take, n times what `simulate` takes; looked up, or built and cached, when not given.
        intervals: as in `simulate`.

    Returns:
        n results, in order.

    Raises:
        ConfigError: the sequences do not match, or there are no threads; else as `simulate`.
    """
    arriving = list(workloads) if isinstance(workloads, Sequence) else [workloads]
    if len(arriving) == 1:
        arriving *= len(configs)
    for name, given in (("workloads", arriving), ("tables", tables)):
        if given is not None and len(given) != len(configs):
            raise ConfigError(name, len(given), f"do not match {len(configs)} configs", "give one for each")
    if threads is not None and threads < 1:
        raise ConfigError("threads", threads, "run nothing", "give 1 or more, or None for one per core")
    if intervals:
        for config in configs:
            check_intervals(config, tables)
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        outcomes = list(pool.map(simulate_quietly, configs, arriving, tables or [None] * len(configs)))
        if intervals:
            _add_intervals(pool, [result for result, _ in outcomes], arriving)
    for _, found in outcomes:
        for warning in found:
            warnings.warn(warning, stacklevel=2)
    return [result for result, _ in outcomes]


def _run(
    config: SimulationConfig,
    workload: "Workload",
    tables: StageTables,
    model: "ModelSpec",
    device: "DeviceSpec",
    pool: Pool,
    own: Mapping[str, Any],
    batch_window: tuple[float, float] | None = None,
    watch: Callable[["State"], None] | None = None,
) -> tuple[SimulationResult, list[Warning]]:
    from fastsim.kernel import state as states
    from fastsim.kernel.prepare import with_longer_log
    from fastsim.kernel.prepare_clients import as_clients_see
    from fastsim.kernel.prepare_series import order_notes
    from fastsim.operator_shares import describe_batches, describe_operators
    from fastsim.result import summarize

    run, (schedule, route) = compile_kernel(config, workload)
    slots = own.get("batch_policy", schedule), own.get("router", route)
    started = time.perf_counter()
    logs = config.record_batches or batch_window is not None
    state, values = start_state(config, workload, tables, model, device, pool, reads_replicas(config, own), logs)
    if watch is not None:
        watch(state)
    while (status := run(state, values, slots)) == states.BATCH_LOG_FULL:
        state = with_longer_log(state, batch_window)
    check_status(status, config, own)
    clients = clients_of(config)
    order_notes(state, clients)
    state = state._replace(requests=as_clients_see(state.requests, state.pending, workload, clients))
    summary = summarize(config, workload, tables, model, device, state)
    wall_s = time.perf_counter() - started
    summary["simulation"]["wall_s"] = wall_s
    summary["hashes"] = {"tables": tables.hash, "workload": workload.hash}
    summary["simulation"]["requests_per_s"] = len(workload) / wall_s
    if config.record_metrics:
        summary["batches"] = describe_batches(state)
        summary["operators"] = describe_operators(config, tables, model, device, state)
    lengths = np.bincount(workload.prompt_tokens + workload.output_tokens)
    found = find_warnings(config, lengths, model, tables, state)
    if "load" in summary:
        found += find_growth(summary["load"])
    return SimulationResult(config, summary, state), found
