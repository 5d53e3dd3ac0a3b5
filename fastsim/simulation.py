"""The public call: from a configuration and a workload to a result."""

import functools
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
from fastsim.engine_presets import engine_limits, schedules_ahead
from fastsim.errors import ConfigError
from fastsim.intervals import MEMBERS, check_intervals, describe_intervals
from fastsim.links import stage_links, swap_s_per_block
from fastsim.machine import check_requests, load_machine, tables_for
from fastsim.named_blocks import name_blocks
from fastsim.options import ROUTERS
from fastsim.profiled_range import find_warnings, largest_measured
from fastsim.queue_orders import order_keys
from fastsim.result import SimulationResult
from fastsim.schedulers import SCHEDULERS
from fastsim.series import record_bins
from fastsim.stage_tables import (
    StageTables,
    capture_sizes,
    check_experts,
    engine_values,
    join_tables,
    padded_tokens,
)
from fastsim.streaming import check_stream, simulate_stream
from fastsim.windows import find_growth
from traces.stream import WorkloadStream

if TYPE_CHECKING:
    import numpy.typing as npt

    from estimators import DeviceSpec, IterationTables, ModelSpec
    from fastsim.kernel.prepare import Bounds
    from fastsim.kernel.prepare_clients import Clients
    from fastsim.kernel.state import State
    from traces import Workload

_FIRST_BATCH_LOG_ROWS = 1 << 16


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


def load_parts(
    config: SimulationConfig,
    workload: "Workload",
    tables: "IterationTables | Sequence[IterationTables] | OperatorTables | None" = None,
    member: int = 0,
) -> "tuple[ModelSpec, DeviceSpec, Pool, StageTables]":
    """What serves a workload, and how long its iterations take: all that can be refused is refused here.

    Args:
        config: what serves.
        workload: what arrives.
        tables: as `simulate` takes them.
        member: as `tables_for` takes it.

    Raises:
        ConfigError: as `simulate` says.
        estimators.EstimatorError: as `simulate` says.
    """
    model, device, pool = load_machine(config)
    check_requests(config, workload, pool)
    if isinstance(tables, OperatorTables):
        raise ConfigError("tables", None, "are by operator, which only Vidur's rules read", 'give parity = "vidur"')
    names_blocks = workload.block_tokens > 0
    given = tables_for(config, names_blocks, member) if tables is None else tables
    joined = join_tables(config, given, pool, names_blocks, model)
    check_experts(config, model, joined)
    return model, device, pool, joined


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


def compile_kernel(config: SimulationConfig, workload: "Workload") -> tuple[Any, tuple[Any, Any]]:
    """The event loop and the function slots of a run, compiled now or loaded from the cache."""
    if config.parity is not None:
        from fastsim.vidur.simulate import compile_parity_kernel

        return compile_parity_kernel(), (None, None)
    from estimators import load_model
    from fastsim.kernel.advance import AHEAD, LOCKSTEP, ONE_STAGE, STAGES
    from fastsim.kernel.slots import compiled, policies, run_of_kind, table_functions

    table_functions()
    scheduler: Any = SCHEDULERS[config.scheduler]
    router: Any = ROUTERS[config.router]
    kind = STAGES
    if config.data_parallel > 1 and load_model(config.model).experts is not None:
        kind = LOCKSTEP
    elif config.pipeline_parallel == 1:
        kind = AHEAD if schedules_ahead(config) else ONE_STAGE
    loop = "with_clients" if _clients(config).send_later(workload) else "without_clients"
    run = compiled(f"loop:{loop}", run_of_kind(kind))
    return functools.partial(run, kind=kind), policies(scheduler.kernel, router.kernel)


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
    clients = _clients(config)
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


def start_state(
    config: SimulationConfig,
    workload: "Workload",
    tables: StageTables,
    model: "ModelSpec",
    device: "DeviceSpec",
    pool: Pool,
    reads_replicas: bool,
    logs: bool = False,
    bounds: "Bounds | None" = None,
) -> "tuple[State, npt.NDArray[np.float64]]":
    """The kernel's state before the first arrival, and the values that it reads [s].

    Args:
        config: what serves.
        workload: what arrives.
        tables: of its stages; these and the next three as `load_parts` returns them.
        model: what is served.
        device: on what.
        pool: the KV memory of an engine.
        reads_replicas: whether the router looks at replicas.
        logs: whether to keep a batch log.
        bounds: of all requests, where the workload is the beginning of a stream.
    """
    from fastsim.kernel.prepare import new_state

    values, bases = engine_values(config, tables)
    layout, expert = tables.stages[0].layout, tables.stages[0].expert
    limits = config.batch_policy.limits(pool) | engine_limits(config, workload.block_tokens > 0, tables.in_lockstep)
    state = new_state(
        workload,
        layout,
        tables.stages[0].prefill_rule,
        limits=limits,
        num_replicas=config.replicas,
        num_blocks=pool.num_blocks,
        block_size=pool.block_size,
        seed=config.seed,
        hit_weight=getattr(config.router_choice, "hit_weight", None),
        router_reads_replicas=reads_replicas,
        batch_log_rows=_FIRST_BATCH_LOG_ROWS if logs else 0,
        record_bins=record_bins(config),
        queue_order=config.queue,
        order_keys=order_keys(config, workload),
        swap_s_per_block=swap_s_per_block(config, model, device),
        named_blocks=name_blocks(workload, config.block_size) if limits["caching"] else None,
        clients=_clients(config),
        joint=tables.stages[0].joint,
        skew=tables.stages[0].skew,
        engines=config.data_parallel,
        expert=expert,
        padded_tokens=(0,) if expert is None else padded_tokens(capture_sizes(config), layout.max_tokens),
        profiled=largest_measured(tables),
        bounds=bounds,
        **_stage_fields(config, bases, model, device),
    )
    return state, values


def _clients(config: SimulationConfig) -> "Clients":
    """Who sends the requests, and what lies between them and the replicas."""
    from fastsim.kernel.prepare_clients import Clients

    engine, client = config.engine_choice, config.client_choice
    delays = {name: getattr(engine, name) for name in ("ingress_s", "ingress_s_per_token", "egress_s")}
    if config.client == "open":
        return Clients(**delays)
    return Clients(client.concurrency, client.think_s, **delays)


def _stage_fields(
    config: SimulationConfig, bases: tuple[int, ...], model: "ModelSpec", device: "DeviceSpec"
) -> dict[str, Any]:
    """What the kernel is told of each pipeline stage; nothing of a single one."""
    if config.pipeline_parallel == 1:
        return {}  # one table, wherever it came from, begins at 0
    links = stage_links(config, model, device)
    return {
        "stage_bases": bases,
        # The last stage sends nothing.
        "send_latency_s": (*(link.latency_s for link in links), 0.0),
        "send_s_per_token": (*(link.s_per_token for link in links), 0.0),
    }
