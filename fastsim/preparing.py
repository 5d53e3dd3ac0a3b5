"""Before the event loop: what serves, checked; the compiled loop; and the state before the first arrival."""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from estimators.vidur_tables import OperatorTables
from fastsim.batch_policy import Pool
from fastsim.config import SimulationConfig
from fastsim.engine_presets import engine_limits, schedules_ahead
from fastsim.errors import ConfigError
from fastsim.links import stage_links, swap_s_per_block
from fastsim.machine import check_requests, load_machine, tables_for
from fastsim.named_blocks import name_blocks
from fastsim.options import ROUTERS
from fastsim.profiled_range import largest_measured
from fastsim.queue_orders import order_keys
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

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from estimators import DeviceSpec, IterationTables, ModelSpec
    from fastsim.kernel.prepare import Bounds
    from fastsim.kernel.prepare_clients import Clients
    from fastsim.kernel.state import State
    from traces import Workload

_FIRST_BATCH_LOG_ROWS = 1 << 16


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
    loop = "with_clients" if clients_of(config).send_later(workload) else "without_clients"
    run = compiled(f"loop:{loop}", run_of_kind(kind))
    return functools.partial(run, kind=kind), policies(scheduler.kernel, router.kernel)


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
        clients=clients_of(config),
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


def clients_of(config: SimulationConfig) -> "Clients":
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
