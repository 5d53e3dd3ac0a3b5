"""Vidur's memory planner: KV blocks in whole requests of the greatest length, beside the weights of the layers."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastsim.errors import ConfigError

if TYPE_CHECKING:
    from estimators import DeviceSpec, ModelSpec
    from fastsim.config import SimulationConfig

_GIB = 1 << 30


@dataclass(frozen=True)
class VidurMemory:
    """What Vidur's planner finds for a replica.

    Attributes:
        request_slots: requests of the greatest length that one micro-batch has room for.
        num_blocks: KV blocks.
        watermark_blocks: what an admission of vllm_v0 and sarathi leaves free.
        max_micro_batch: most requests of a micro-batch of orca and faster_transformer.
        blocks_for_life: what these two reserve for a request.
    """

    request_slots: int
    num_blocks: int
    watermark_blocks: int
    max_micro_batch: int
    blocks_for_life: int


def nominal_memory_gib(device: "DeviceSpec") -> int:
    """The memory by which a GPU is sold, which Vidur counts in GiB; drivers report a little less."""
    return -(-device.memory_bytes // _GIB)


def plan_vidur_memory(config: "SimulationConfig", model: "ModelSpec", memory_gib: float) -> VidurMemory:
    """Plan the memory of a replica as Vidur does; ``config.num_kv_blocks`` overrides its number of blocks.

    Args:
        config: under parity; its max_model_len is Vidur's max_tokens.
        model: the model.
        memory_gib: of one GPU, as it is sold.

    Raises:
        ConfigError: not even one request of max_model_len fits.
    """
    stages, tp = config.pipeline_parallel, config.tensor_parallel
    kv_heads = -(-model.num_kv_heads // tp)
    weight_bytes = 2 * (model.num_layers // stages) * _layer_parameters(model, tp)
    request_bytes = 2 * 2 * model.head_dim * kv_heads * config.max_model_len * model.num_layers
    available = memory_gib * _GIB * config.gpu_memory_utilization
    slots = int((available - weight_bytes) // request_bytes)
    if slots < 1:
        raise ConfigError(
            "model",
            config.model,
            f"does not fit by Vidur's rules: weights of {weight_bytes / _GIB:.1f} GiB and one request of "
            f"{config.max_model_len} tokens exceed {available / _GIB:.1f} GiB per GPU",
            "raise tensor_parallel or pipeline_parallel, or lower max_model_len",
        )
    blocks_for_life = config.max_model_len // config.block_size
    num_blocks = blocks_for_life * slots * stages if config.num_kv_blocks is None else config.num_kv_blocks
    policy = config.batch_policy
    return VidurMemory(
        request_slots=slots,
        num_blocks=num_blocks,
        watermark_blocks=int(getattr(policy, "watermark_blocks_fraction", 0.0) * num_blocks),
        max_micro_batch=min(slots, policy.max_num_seqs),
        blocks_for_life=blocks_for_life,
    )


def _layer_parameters(model: "ModelSpec", tp: int) -> int:
    """Weights of one layer on one of tp GPUs, without norms and biases."""
    q_heads, kv_heads = model.num_q_heads // tp, -(-model.num_kv_heads // tp)
    attention = model.hidden_size * model.head_dim * (2 * q_heads + 2 * kv_heads)
    return attention + (3 if model.gated_mlp else 2) * model.hidden_size * model.intermediate_size // tp
