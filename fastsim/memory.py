"""Memory planner: what of a GPU's memory is left for KV blocks.

    blocks = floor((utilization * total - weights - activations - runtime) / bytes per block)

as vLLM computes it after a dummy forward pass, the smallest number over the pipeline stages. Weights and block sizes
are exact. Activations and runtime are MODELLED: on the one server whose figures we have (Llama-3.1-8B bf16, 24 GB card,
2048 tokens, 256 requests: 1.24 GB together) they come out right by construction, and elsewhere the number of blocks is
good to about 5 %. Where an engine's log states the number, give it as ``num_kv_blocks``.
"""

from dataclasses import dataclass
from itertools import product
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
#: Most pipeline stages that the message of a model that does not fit may propose.
_MOST_STAGES = 16


@dataclass(frozen=True)
class StageMemory:
    """What the memory of one GPU of a pipeline stage is used for.

    Attributes:
        weight_bytes: weights.
        reserve_bytes: activations and runtime.
        block_bytes: one KV block, all layers of the stage.
        num_blocks: KV blocks that fit, negative where not even the rest does.
    """

    weight_bytes: int
    reserve_bytes: int
    block_bytes: int
    num_blocks: int


@dataclass(frozen=True)
class MemoryPlan:
    """What the memory of a replica's GPUs is used for.

    Attributes:
        stages: one GPU of each pipeline stage; those of a stage are alike.
    """

    stages: tuple[StageMemory, ...]

    @property
    def tightest_stage(self) -> int:
        """The stage with the fewest KV blocks."""
        return min(range(len(self.stages)), key=lambda stage: self.stages[stage].num_blocks)

    @property
    def num_blocks(self) -> int:
        """KV blocks of an engine, as it reports them: every stage holds its part of each."""
        return self.stages[self.tightest_stage].num_blocks


def plan_memory(config: SimulationConfig, model: "ModelSpec", device: "DeviceSpec") -> MemoryPlan:
    """What each stage's memory is used for, and the number of KV blocks of each engine of a replica.

    Raises:
        ConfigError: the model does not fit; the sentence says by how much and on which stage, and which
            tensor_parallel and pipeline_parallel would do.
        estimators.EstimatorError: the model cannot be split by ``config.tensor_parallel`` and ``pipeline_parallel``.
    """
    plan = _plan(config, model, device)
    if plan.num_blocks < 2:
        stage = plan.stages[plan.tightest_stage]
        missing = (2 - stage.num_blocks) * stage.block_bytes / GIB
        split, whose = f"tensor_parallel = {config.tensor_parallel}", "its weights"
        if config.pipeline_parallel > 1:
            split += f" and pipeline_parallel = {config.pipeline_parallel}"
            whose = f"the weights of stage {plan.tightest_stage} (of 0 to {config.pipeline_parallel - 1})"
        raise ConfigError(
            "model",
            config.model,
            f"does not fit on {config.device} with {split}: {whose} take "
            f"{stage.weight_bytes / GIB:.1f} GiB of {device.memory_bytes / GIB:.1f} GiB per GPU, and "
            f"{missing:.1f} GiB are missing for a first KV block",
            _mend(config, model, device),
        )
    return plan


def block_bytes(config: SimulationConfig, model: "ModelSpec") -> tuple[int, ...]:
    """Bytes of one KV block on one GPU of each pipeline stage."""
    tp, pp = config.tensor_parallel, config.pipeline_parallel
    kv_dtype = model.kv_cache_dtype(config.kv_dtype, config.dtype)
    return tuple(config.block_size * model.kv_bytes_per_token(tp, kv_dtype, pp, stage) for stage in range(pp))


def _plan(config: SimulationConfig, model: "ModelSpec", device: "DeviceSpec") -> MemoryPlan:
    tp, pp, limits = config.tensor_parallel, config.pipeline_parallel, config.batch_policy
    # The widest moment of a layer: residual and hidden state, both halves of the gated MLP and their product, in bf16.
    widths = 2 * model.hidden_size + (3 if model.gated_mlp else 2) * model.mlp_width // tp
    # A stage works on one micro-batch at a time, however many are in flight.
    activations = limits.activation_tokens(config.max_model_len) * widths * 2
    stages = []
    for stage, block in enumerate(block_bytes(config, model)):
        weights = model.weight_bytes(tp, config.dtype, pp, stage, config.data_parallel)
        reserve = activations + RUNTIME_BYTES
        if model.pipeline_stage(pp, stage).last:
            reserve += limits.max_num_seqs * model.vocab_size * SAMPLER_BYTES_PER_LOGIT
        free = config.gpu_memory_utilization * device.memory_bytes - weights - reserve
        stages.append(StageMemory(weights, reserve, block, int(free // block)))
    return MemoryPlan(tuple(stages))


def _mend(config: SimulationConfig, model: "ModelSpec", device: "DeviceSpec") -> str:
    """Which split would fit: more tensor or more pipeline parallelism alone, else both."""
    tp, pp = config.tensor_parallel, config.pipeline_parallel
    sizes = [size for size in model.tensor_parallel_sizes() if tp < size <= device.gpus_per_node]
    stages = range(pp + 1, min(_MOST_STAGES, model.num_layers) + 1)
    alone = [
        next((f"tensor_parallel = {size}" for size in sizes if _fits(config, model, device, size, pp)), None),
        next((f"pipeline_parallel = {count}" for count in stages if _fits(config, model, device, tp, count)), None),
    ]
    if any(alone):
        return f"give {' or '.join(filter(None, alone))}"
    # Of as few GPUs as will do, in as few stages.
    for size, count in sorted(product(sizes, stages), key=lambda split: (split[0] * split[1], split[1])):
        if _fits(config, model, device, size, count):
            return f"give tensor_parallel = {size} and pipeline_parallel = {count}"
    return "take a larger GPU or a smaller model"


def _fits(config: SimulationConfig, model: "ModelSpec", device: "DeviceSpec", tp: int, pp: int) -> bool:
    try:
        split = config.with_fields(tensor_parallel=tp, pipeline_parallel=pp, expert_parallel=1)
    except ConfigError:  # the batch policy does not go with so many stages
        return False
    return _plan(split, model, device).num_blocks >= 2
