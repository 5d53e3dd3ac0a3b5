"""What serves a workload: the model, the device and the KV memory of a configuration, and its iteration times."""

from typing import TYPE_CHECKING, Any

import numpy as np

from fastsim.batch_policy import Pool
from fastsim.config import SimulationConfig
from fastsim.errors import ConfigError, DoesNotFitError
from fastsim.links import check_placement
from fastsim.stage_tables import most_decode_kv
from fastsim.windows import find_window

if TYPE_CHECKING:
    from estimators import DeviceSpec, ModelSpec
    from estimators.experts import Experts
    from traces import Workload


def load_machine(config: SimulationConfig) -> "tuple[ModelSpec, DeviceSpec, Pool]":
    """The model, the device and the KV memory of a configuration: what can be refused before anything is computed.

    Raises:
        ConfigError: the model does not fit, or its stages do not fit into nodes.
        estimators.EstimatorError: unknown model or device, or a model that cannot be split that way.
    """
    from estimators import load_device, load_model
    from estimators.vidur_model import check_vidur_model

    model, device = load_model(config.model), load_device(config.device)
    if config.parity is not None:
        check_vidur_model(model)
    _check_matrix_units(config, model, device)
    _check_experts(config, model.experts)
    check_placement(config, model, device)
    return model, device, memory_pool(config, model, device)


def _check_matrix_units(config: SimulationConfig, model: "ModelSpec", device: "DeviceSpec") -> None:
    """Refuse weights that the device cannot multiply.

    Raises:
        ConfigError: the checkpoint's are of such a type.
        estimators.EstimatorError: those that were asked for are.
    """
    dtype = model.resolve_dtype(config.dtype)
    if model.weight_dtype is not None and dtype not in device.matrix_dtypes:
        wrong = f"has no matrix units for {dtype}, the type of the weights of {model.name}"
        raise ConfigError("device", device.name, wrong, "choose another GPU or another checkpoint")
    device.matrix_rate(dtype)


def _check_experts(config: SimulationConfig, experts: "Experts | None") -> None:
    """Refuse what only makes sense with experts, or with more of them.

    Raises:
        ConfigError: naming the field.
    """
    if experts is None:
        for name in ("expert_parallel", "expert_load", "expert_exchange"):
            if (value := getattr(config, name)) != (default := getattr(SimulationConfig, name)):
                raise ConfigError(name, value, "needs experts", f"give {default}, or leave it out")
    elif config.expert_parallel > experts.num_experts:
        wrong = f"is more than the {experts.num_experts} experts of {config.model}"
        raise ConfigError("expert_parallel", config.expert_parallel, wrong, "give 1")


def memory_pool(config: SimulationConfig, model: "ModelSpec", device: "DeviceSpec") -> Pool:
    """The KV blocks that the requests of an engine can hold: all that it has less what it keeps for itself.

    Raises:
        ConfigError: the model does not fit, or no block is left.
    """
    if config.parity is not None:
        from fastsim.vidur.memory import nominal_memory_gib, plan_vidur_memory

        blocks = plan_vidur_memory(config, model, nominal_memory_gib(device)).num_blocks
        return Pool(blocks, config.block_size, config.max_model_len)
    kept = config.batch_policy.null_blocks
    num_blocks = config.num_kv_blocks
    if num_blocks is None:
        from fastsim.memory import plan_memory

        num_blocks = plan_memory(config, model, device).num_blocks
    elif num_blocks <= kept:
        raise ConfigError("num_kv_blocks", num_blocks, "leaves none beside the null block", f"give {kept + 1} or more")
    return Pool(num_blocks - kept, config.block_size, config.max_model_len)


def check_requests(config: SimulationConfig, workload: "Workload", pool: Pool, first: int = 0) -> None:
    """Refuse requests that could never complete.

    Args:
        config: what serves.
        workload: what arrives.
        pool: the KV memory of an engine.
        first: number of the first request, where the workload is a part of a stream.

    Raises:
        ConfigError: a request is longer than max_model_len or than all usable KV blocks, the batch policy could never
            admit it, or none arrives in the window that is measured.
    """
    if config.parity is not None:
        return  # Vidur refuses nothing: its run ends with requests left over
    prompt, output = workload.prompt_tokens, workload.output_tokens
    longest = int(np.argmax(prompt + output))
    length = int(prompt[longest] + output[longest])
    what = f"is shorter than {_request(workload, longest, first)}"
    if length > pool.max_model_len:
        raise ConfigError("max_model_len", pool.max_model_len, what, f"give {length} or more")
    more_memory = "more GPU memory (gpu_memory_utilization, tensor_parallel, pipeline_parallel)"
    # The last output token is never written.
    if length - 1 > pool.num_blocks * pool.block_size:
        kept = config.batch_policy.null_blocks
        raise DoesNotFitError(
            "num_kv_blocks",
            pool.num_blocks + kept,
            f"holds {pool.num_blocks * pool.block_size} tokens, which {what}",
            f"give {pool.blocks(length - 1) + kept} or more, or {more_memory}",
        )
    warmup = getattr(config.client_choice, "warmup_requests", 0)
    if warmup >= len(workload):
        wrong = f"leaves none of the {len(workload)} requests to be measured"
        raise ConfigError("client.warmup_requests", warmup, wrong, "give less, or more requests")
    if config.client == "open" and np.isnan(workload.think_s).all():  # else nobody knows yet when requests arrive
        find_window(config, workload.arrival_s)
    never = config.batch_policy.never_fits(prompt, output, pool)
    if never.any():
        raise ConfigError(
            "scheduler",
            config.scheduler,
            f"could never run {_request(workload, int(np.argmax(never)), first)} with {pool.num_blocks} KV blocks",
            f"raise its limits, or give {more_memory}",
        )


def _request(workload: "Workload", i: int, first: int) -> str:
    return f"request {first + i} ({workload.prompt_tokens[i]} prompt + {workload.output_tokens[i]} output tokens)"


def tables_for(
    config: SimulationConfig, names_blocks: bool = False, member: int = 0, room: tuple[int, int] = (1, 1)
) -> Any:
    """The tables of a configuration, from the cache or built now; to be shared between simulations.

    Args:
        config: what serves.
        names_blocks: whether they will serve workloads that name the blocks of their requests: with a prefix cache
            decodes then read more tokens than there is room for, those that they share more than once.
        member: 0 for those of the estimates, 1 to 5 for others that are as likely (`fastsim.intervals`).
        room: tokens and requests of an iteration that they have room for at least, more than the configuration needs
            so that others share them.

    Returns:
        IterationTables, or with several pipeline stages a tuple of those of each; under parity OperatorTables.

    Raises:
        ConfigError: the model does not fit.
        estimators.EstimatorError: unknown model or device, or a model that cannot be split that way.
    """
    if config.parity is not None:
        from fastsim.vidur.simulate import parity_tables

        return parity_tables(config)
    from estimators import IterationTables

    model, device, pool = load_machine(config)
    pp = config.pipeline_parallel
    alike: dict[Any, IterationTables] = {}
    stages = []
    for stage in range(pp):
        part = model.pipeline_stage(pp, stage)
        if part not in alike:
            alike[part] = IterationTables.build(
                model=model,
                device=device,
                tp=config.tensor_parallel,
                dtype=config.dtype,
                kv_dtype=config.kv_dtype,
                max_tokens=max(config.batch_policy.most_tokens(pool), room[0]),
                max_sequences=max(config.batch_policy.max_num_seqs, room[1]),
                max_kv=most_decode_kv(config, pool, names_blocks),
                max_model_len=config.max_model_len,
                pp=pp,
                stage=stage,
                data_parallel=config.data_parallel,
                expert_parallel=config.expert_parallel,
                expert_load=config.expert_load,
                expert_exchange=config.expert_exchange,
                member=member,
            )
        stages.append(alike[part])
    return stages[0] if pp == 1 else tuple(stages)
