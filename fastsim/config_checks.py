"""What fields of a configuration must hold together: names with a fixed set of values, and the engines of a replica."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from estimators import expert_traffic
from estimators.dtypes import MATRIX_TYPES
from fastsim.errors import ConfigError

if TYPE_CHECKING:
    from fastsim.config import SimulationConfig

#: Types of weights in which engines load the matrices of a model's layers; "auto" is that of the checkpoint, else bf16.
DTYPES = ("auto", *MATRIX_TYPES)
KV_DTYPES = ("auto", "bf16", "fp32", "fp8")
#: How unequally tokens fall on experts: the distributions that were measured, the default first.
EXPERT_LOADS = tuple(expert_traffic.EXPERT_LOADS)
#: How tokens reach the experts of other engines, the default first.
EXPERT_EXCHANGES = expert_traffic.EXPERT_EXCHANGES
#: Values by field, and what is wrong with any other.
_NAMES: Mapping[str, tuple[tuple[str, ...], str]] = {
    "dtype": (DTYPES, "has no estimators"),
    "kv_dtype": (KV_DTYPES, "has no estimators"),
    "expert_load": (EXPERT_LOADS, "was not measured"),
    "expert_exchange": (EXPERT_EXCHANGES, "is not known"),
}


def check_names(config: "SimulationConfig") -> None:
    """Refuse names that are none of those that there are.

    Raises:
        ConfigError: naming the field.
    """
    for name, (known, wrong) in _NAMES.items():
        if getattr(config, name) not in known:
            mend = f"give {', '.join(known[:-1])} or {known[-1]}"
            raise ConfigError(name, getattr(config, name), wrong, mend)


def check_engines(config: "SimulationConfig") -> None:
    """Refuse engines of a replica that do not go with the rest, and experts shared by some of its GPUs.

    Raises:
        ConfigError: naming the field.
    """
    engines, shared = config.data_parallel, config.expert_parallel
    if engines > 1:
        for name, value, served in (
            ("scheduler", config.scheduler, "vllm_v1"),
            ("pipeline_parallel", config.pipeline_parallel, 1),
            ("parity", config.parity, None),
        ):
            if value != served:
                wrong = f"are more engines than one, which do not go with {name} = {value}"
                raise ConfigError("data_parallel", engines, wrong, f"give 1, or {name} = {served}")
    elif config.expert_exchange != EXPERT_EXCHANGES[0]:
        wrong = "is between the engines of a replica, of which there is one"
        mend = "give data_parallel = 2, say, or leave it out"
        raise ConfigError("expert_exchange", config.expert_exchange, wrong, mend)
    gpus = config.tensor_parallel * engines
    if config.expert_exchange == "all_to_all" and shared == 1:
        wrong = "sends tokens to whole experts, of which each GPU has a part only"
        raise ConfigError("expert_exchange", config.expert_exchange, wrong, f"give expert_parallel = {gpus} with it")
    if shared not in (1, gpus):
        wrong = f"is neither 1 nor tensor_parallel x data_parallel = {gpus}"
        raise ConfigError("expert_parallel", shared, wrong, f"give {' or '.join(map(str, sorted({1, gpus})))}")
