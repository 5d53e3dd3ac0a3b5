"""A run under ``parity="vidur"``: Vidur's rules on Vidur's own kind of tables."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastsim.config import SimulationConfig
from fastsim.errors import ConfigError
from fastsim.kernel.slots import compiled
from fastsim.kernel.vidur import state as states
from fastsim.vidur.memory import nominal_memory_gib, plan_vidur_memory
from fastsim.vidur.prepare import new_state, with_longer_log
from fastsim.vidur.results import ParityResult, summarize_parity, translate
from fastsim.vidur.times import compose, missing_entry, prefill_factor

if TYPE_CHECKING:
    from estimators import ModelSpec
    from estimators.vidur_tables import OperatorTables
    from traces import Workload


def compile_parity_kernel() -> Any:
    """Vidur's event loop, compiled now or loaded from the cache."""
    return compiled("vidur.loop:run", states.RUN)


def simulate_parity(
    config: SimulationConfig,
    workload: "Workload",
    tables: Any = None,
    choices: Sequence[int] | None = None,
) -> tuple[ParityResult, list[Warning]]:
    """Simulate one configuration by Vidur's rules.

    Args:
        config: with ``parity="vidur"``; a num_kv_blocks of None follows Vidur's memory planner.
        workload: what arrives.
        tables: OperatorTables, Vidur's per-operator tables; built from our estimators when not given.
        choices: the replica of each request for the router "random", which Vidur draws from Python's own generator;
            drawn from the configuration's seed when not given.

    Returns:
        The result, and what to warn about.

    Raises:
        ConfigError: the model does not fit, a batch is beyond the tables, or the run ends with requests or KV blocks
            left over; Vidur dies of each.
        estimators.EstimatorError: unknown model or device, or a model that cannot be split that way.
    """
    from estimators import load_device, load_model
    from estimators.vidur_tables import OperatorTables

    if tables is None:
        tables = parity_tables(config)
    if not isinstance(tables, OperatorTables):
        mend = "give estimators.vidur_tables.OperatorTables"
        raise ConfigError("tables", None, "are of whole iterations, Vidur's are by operator", mend)
    started = time.perf_counter()
    vidur = run_parity(config, workload, tables, choices)
    state = translate(vidur, workload)
    model, device = load_model(config.model), load_device(config.device)
    summary = summarize_parity(config, workload, tables, model, device, state)
    wall_s = time.perf_counter() - started
    summary["hashes"] = {"tables": tables.hash, "workload": workload.hash}
    summary["simulation"] |= {"wall_s": wall_s, "requests_per_s": len(workload) / wall_s}
    found: list[Warning] = []
    if beyond := tables.provenance.get("outside_profiles"):
        from fastsim.profiled_range import outside_profiles

        found.append(outside_profiles(beyond))
    return ParityResult(config, summary, state, vidur), found


def run_parity(
    config: SimulationConfig,
    workload: "Workload",
    tables: "OperatorTables",
    choices: Sequence[int] | None = None,
) -> states.State:
    """Run Vidur's event loop; the arguments and errors are those of `simulate_parity`.

    Returns:
        The records of Vidur's loop after the run.
    """
    from estimators import load_device, load_model

    model, options = load_model(config.model), config.parity_choice
    model.check_tensor_parallel(config.tensor_parallel)
    if config.pipeline_parallel > model.num_layers:
        mend = f"give at most {model.num_layers}"
        raise ConfigError("pipeline_parallel", config.pipeline_parallel, "stages leave some without a layer", mend)
    memory = plan_vidur_memory(config, model, nominal_memory_gib(load_device(config.device)))
    composed = compose(tables, config, model, options, len(workload))
    state = new_state(
        config,
        workload,
        memory,
        _router_choices(config, len(workload), choices),
        num_layers=model.num_layers,
        prefill_factor=prefill_factor(model, options),
    )
    run = compile_parity_kernel()
    while (status := run(state, composed)) == states.LOG_FULL:
        state = with_longer_log(state)
    _check_end(config, model, tables, state, status)
    return state


def parity_tables(config: SimulationConfig) -> "OperatorTables":
    """Per-operator tables of a configuration from our estimators.

    Raises:
        estimators.EstimatorError: unknown model or device, or a model that cannot be split that way.
    """
    from estimators.vidur_build import build_operator_tables

    options = config.parity_choice
    for_life = config.scheduler in ("orca", "faster_transformer")
    longest = options.prediction_max_tokens_per_request
    return build_operator_tables(
        config.model,
        config.device,
        tp=config.tensor_parallel,
        pp=config.pipeline_parallel,
        dtype=config.dtype,
        # Vidur's tables for the two that have no limit on the tokens of a batch.
        max_tokens=longest * options.prediction_max_batch_size if for_life else longest,
        max_batch=options.prediction_max_batch_size,
        max_context=longest,
        max_chunk=options.prediction_max_prefill_chunk_size,
        kv_granularity=options.kv_cache_prediction_granularity,
    )


def _router_choices(config: SimulationConfig, n: int, choices: Sequence[int] | None) -> npt.NDArray[np.int64]:
    """The replica of each request for the router "random", int64 [n]."""
    if config.router != "random":
        return np.zeros(n, np.int64)
    if choices is None:
        return np.random.default_rng(config.seed).integers(0, config.replicas, n)
    given = np.asarray(choices, np.int64)
    if given.shape != (n,) or not ((given >= 0) & (given < config.replicas)).all():
        raise ConfigError("choices", None, f"are not {n} replicas", f"give {n} numbers from 0 to {config.replicas - 1}")
    return given


def _check_end(
    config: SimulationConfig, model: "ModelSpec", tables: "OperatorTables", state: states.State, status: int
) -> None:
    """Refuse a run of which Vidur would have died.

    Raises:
        ConfigError: as said.
    """
    if status == states.BEYOND_TABLE:
        raise missing_entry(tables, config, model, state)
    if status == states.NO_FREE_TOKENS:
        mend = "give more KV blocks or lower max_num_seqs"
        wrong = "has fewer free tokens than decodes, of which Vidur dies"
        raise ConfigError("scheduler", config.scheduler, wrong, mend)
    if status == states.NO_PROGRESS:
        mend = "give more KV blocks"
        raise ConfigError("scheduler", config.scheduler, "restarts requests for ever under Vidur's rules", mend)
    if status == states.CUT_OFF:
        return
    requests = state.work.requests
    unfinished = int(np.count_nonzero(requests["processed"] < requests["prefill"] + requests["decode"]))
    holders = int(state.replicas["holders"].sum())
    if unfinished or holders:
        raise ConfigError(
            "scheduler",
            config.scheduler,
            f"ends under Vidur's rules with {unfinished} of {len(requests)} requests unfinished and KV blocks of "
            f"{holders} never freed, of which Vidur dies",
            "raise its limits or the KV blocks, or leave out parity",
        )
