"""Where the pipeline stages of a replica sit, and what crosses the links between them and to the host.

A stage has the ``tensor_parallel`` GPUs that follow those of the stage before it, all in one node: where too few are
left in a node it begins the next one. Every replica begins a node. From stage to stage travel, for each token, the
tensors between two layers, in equal parts over the links of the stage's GPUs; that the receiving GPUs then share the
parts is in the tables of their stage.
"""

from typing import TYPE_CHECKING, NamedTuple

from fastsim.config import SimulationConfig
from fastsim.errors import ConfigError
from fastsim.memory import block_bytes

if TYPE_CHECKING:
    from estimators import DeviceSpec, ModelSpec


class Link(NamedTuple):
    """The link from one pipeline stage to the next.

    Attributes:
        latency_s: of a message [s].
        s_per_token: on top of it for each token of the batch [s].
    """

    latency_s: float
    s_per_token: float


def check_placement(config: SimulationConfig, model: "ModelSpec", device: "DeviceSpec") -> None:
    """Refuse stages that do not fit into nodes, or that would hold no layer.

    Raises:
        ConfigError: one sentence about tensor_parallel or pipeline_parallel.
    """
    if config.tensor_parallel > device.gpus_per_node:
        raise ConfigError(
            "tensor_parallel",
            config.tensor_parallel,
            f"is more than the {device.gpus_per_node} GPUs of a {device.name} node",
            f"give {device.gpus_per_node} or less, and pipeline_parallel for what does not fit",
        )
    if config.pipeline_parallel > model.num_layers:
        wrong = f"is more than the {model.num_layers} layers of {config.model}"
        raise ConfigError("pipeline_parallel", config.pipeline_parallel, wrong, f"give {model.num_layers} or less")


def stage_links(config: SimulationConfig, model: "ModelSpec", device: "DeviceSpec") -> tuple[Link, ...]:
    """The link from each pipeline stage to the next, ``pipeline_parallel - 1`` of them."""
    from estimators.dtypes import DTYPE_BYTES, activation_dtype

    size = DTYPE_BYTES[activation_dtype(model.resolve_dtype(config.dtype))]
    tensors = model.tensors_between_layers * model.hidden_size * size
    bytes_per_token = tensors / config.tensor_parallel
    stages_per_node = device.gpus_per_node // config.tensor_parallel
    links = []
    for stage in range(1, config.pipeline_parallel):
        latency_s, bandwidth = device.link(inside_node=stage % stages_per_node > 0)
        links.append(Link(latency_s, bytes_per_token / bandwidth))
    return tuple(links)


def swap_s_per_block(config: SimulationConfig, model: "ModelSpec", device: "DeviceSpec") -> float:
    """Time that one KV block of a replica takes from its GPUs to their hosts, or back [s].

    Every GPU moves its own part over its own PCIe lanes, at their nominal bandwidth; that of the stage with the largest
    part takes longest.
    """
    return max(block_bytes(config, model)) / device.pcie_bandwidth
