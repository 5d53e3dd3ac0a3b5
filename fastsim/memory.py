"""Memory planner: what of a GPU's memory is left for KV blocks.

    blocks = floor((utilization * total - weights - activations - runtime) / bytes per block)

as vLLM computes it after a dummy forward pass. Weights and block sizes are exact. Activations and runtime are MODELLED:
on the one server whose figures we have (Llama-3.1-8B bf16, 24 GB card, 2048 tokens, 256 requests: 1.24 GB together)
they come out right by construction, and elsewhere the number of blocks is good to about 5 %. Where an engine's log
states the number, give it as ``num_kv_blocks``.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastsim.config import SimulationConfig
from fastsim.errors import ConfigError

if TYPE_CHECKING:
    from estimators import DeviceSpec, ModelSpec

GIB = 1 << 30
#: CUDA context, libraries and communication buffers [bytes]: ASSUMPTION, what is left of the server above.
RUNTIME_BYTES = 700_000_000
#: Sampling holds the logits as bf16, as float32, and a float32 copy: ASSUMPTION.
SAMPLER_BYTES_PER_LOGIT = 10
#: Tried in this order when the message names a tensor_parallel that would fit.
_TENSOR_PARALLEL = (1, 2, 4, 8)


@dataclass(frozen=True)
class MemoryPlan:
    """What the memory of one GPU of a replica is used for.

    Attributes:
        weight_bytes: weights.
        reserve_bytes: activations and runtime.
        block_bytes: one KV block, all layers.
        num_blocks: KV blocks, as the engine reports them.
    """

    weight_bytes: int
    reserve_bytes: int
    block_bytes: int
    num_blocks: int


def plan_memory(config: SimulationConfig, model: "ModelSpec", device: "DeviceSpec") -> MemoryPlan:
    """Number of KV blocks of a replica.

    Raises:
        ConfigError: the model does not fit; the sentence says by how much, and which tensor_parallel would do.
        estimators.EstimatorError: the model cannot be split by ``config.tensor_parallel``.
    """
    plan = _plan(config, model, device, config.tensor_parallel)
    if plan.num_blocks < 2:
        missing = (2 - plan.num_blocks) * plan.block_bytes / GIB
        fitting = [tp for tp in _TENSOR_PARALLEL if tp > config.tensor_parallel and _fits(config, model, device, tp)]
        mend = f"give tensor_parallel = {fitting[0]}" if fitting else "take a larger GPU or a smaller model"
        raise ConfigError(
            "model",
            config.model,
            f"does not fit on {config.device} with tensor_parallel = {config.tensor_parallel}: its weights take "
            f"{plan.weight_bytes / GIB:.1f} GiB of {device.memory_bytes / GIB:.1f} GiB per GPU, and "
            f"{missing:.1f} GiB are missing for a first KV block",
            mend,
        )
    return plan


def _plan(config: SimulationConfig, model: "ModelSpec", device: "DeviceSpec", tp: int) -> MemoryPlan:
    kv_dtype = config.dtype if config.kv_dtype == "auto" else config.kv_dtype
    weights = model.weight_bytes(tp, config.dtype)
    limits = config.batch_policy
    # The widest moment of a layer: residual and hidden state, both halves of the gated MLP and their product, in bf16.
    widths = 2 * model.hidden_size + (3 if model.gated_mlp else 2) * model.intermediate_size // tp
    reserve = (
        limits.activation_tokens(config.max_model_len) * widths * 2
        + limits.max_num_seqs * model.vocab_size * SAMPLER_BYTES_PER_LOGIT
        + RUNTIME_BYTES
    )
    block = config.block_size * model.kv_bytes_per_token(tp, kv_dtype)
    free = config.gpu_memory_utilization * device.memory_bytes - weights - reserve
    return MemoryPlan(weights, reserve, block, int(free // block))


def _fits(config: SimulationConfig, model: "ModelSpec", device: "DeviceSpec", tp: int) -> bool:
    try:
        return _plan(config, model, device, tp).num_blocks >= 2
    except ValueError:  # the model cannot be split that way
        return False
