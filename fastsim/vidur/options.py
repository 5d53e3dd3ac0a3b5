"""What a run under ``parity="vidur"`` can choose. Nothing here imports numba or numpy."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from fastsim.errors import ConfigError
from fastsim.options import Random, RoundRobin

if TYPE_CHECKING:
    from fastsim.config import SimulationConfig


@dataclass(frozen=True)
class VidurParity:
    """Vidur's own settings that have no place elsewhere; the names are Vidur's.

    Attributes:
        time_limit_s: simulated time after which the first event is the last, 0 for none [s].
        attention_decode_batching_overhead_fraction: added to the attention of several decodes (GQA only).
        attention_prefill_batching_overhead_fraction: added to the attention of several chunks (GQA only).
        nccl_cpu_launch_overhead_ms: added to each all-reduce [ms].
        nccl_cpu_skew_overhead_per_device_ms: added to each all-reduce, times tensor_parallel ** 1.25 [ms].
        kv_cache_prediction_granularity: what tokens in KV are rounded up to in the tables [tokens].
        prediction_max_prefill_chunk_size: longest chunk in tables built here [tokens].
        prediction_max_batch_size: most requests in tables built here.
        prediction_max_tokens_per_request: longest context, and most tokens of a batch, in tables built here [tokens].
    """

    time_limit_s: float = 0.0
    attention_decode_batching_overhead_fraction: float = 0.1
    attention_prefill_batching_overhead_fraction: float = 0.1
    nccl_cpu_launch_overhead_ms: float = 0.02
    nccl_cpu_skew_overhead_per_device_ms: float = 0.0
    kv_cache_prediction_granularity: int = 64
    prediction_max_prefill_chunk_size: int = 4096
    prediction_max_batch_size: int = 128
    prediction_max_tokens_per_request: int = 4096

    def __post_init__(self) -> None:
        """Refuse what no run could mean.

        Raises:
            ConfigError: naming the field.
        """
        for spec in fields(self):
            least = 1 if spec.type is int else 0
            if getattr(self, spec.name) < least:
                value = getattr(self, spec.name)
                raise ConfigError(f"parity.{spec.name}", value, "is too small", f"give {least} or more")


@dataclass(frozen=True)
class Lor:
    """Vidur's "least outstanding requests", which counts those that wait and not those that run."""


PARITIES: Mapping[str, type] = {"vidur": VidurParity}
VIDUR_SCHEDULERS = ("faster_transformer", "lightllm", "orca", "sarathi", "vllm_v0")
VIDUR_ROUTERS: Mapping[str, type] = {"lor": Lor, "random": Random, "round_robin": RoundRobin}


def check_choices(config: "SimulationConfig") -> None:
    """Refuse what exists in Vidur only, or not in Vidur.

    Args:
        config: what is being configured; its options are not checked yet.

    Raises:
        ConfigError: naming the field.
    """
    scheduler, router, parity = config.scheduler, config.router, config.parity
    if parity is None:
        if router == "lor":
            wrong = 'counts requests that wait but not those that run, and exists under parity = "vidur" only'
            raise ConfigError("router", router, wrong, "give least_outstanding")
        return
    if parity not in PARITIES:
        raise ConfigError("parity", parity, "is not known", f"give {', '.join(PARITIES)}, or leave it out")
    options = {str(name).replace("-", "_"): value for name, value in config.scheduler_options.items()}
    for field, value, known in (
        ("scheduler", scheduler, VIDUR_SCHEDULERS),
        ("queue", config.queue, ("fcfs",)),
        ("dtype", config.dtype, ("bf16",)),
        ("kv_dtype", config.kv_dtype, ("auto", "bf16")),
        ("router", router, VIDUR_ROUTERS),
        ("client", config.client, ("open",)),
        ("scheduler.preemption_mode", options.get("preemption_mode", "recompute"), ("recompute",)),
    ):
        if value not in known:
            raise ConfigError(
                field, value, 'does not exist in Vidur, so not under parity = "vidur"', f"choose {', '.join(known)}"
            )
