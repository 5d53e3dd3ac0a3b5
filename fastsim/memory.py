"""Memory planner: what of a GPU's memory is left for KV blocks.

    blocks = floor((utilization * total - weights - activations - runtime) / bytes per block)

as vLLM computes it after a dummy forward pass, the smallest number over the pipeline stages. Weights and block sizes
are exact, but for what is padded. Activations and runtime are MODELLED: on the one server whose figures we have
(Llama-3.1-8B bf16, 24 GB card, 2048 tokens, 256 requests: 1.24 GB together) they come out right by construction, and
elsewhere the number of blocks of a dense model is good to about 5 %; of mixtures see docs/models.md. Where an engine's
log states the number, give it as ``num_kv_blocks``.

Where layers have a window, a block is as large as those of a request of ``max_model_len`` are on average, which is how
vLLM states the capacity of such a cache; shorter requests take more than that. MODELLED.
"""

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from estimators.dtypes import DTYPE_BYTES, activation_dtype
from fastsim.config import SimulationConfig
from fastsim.errors import ConfigError, DoesNotFitError

if TYPE_CHECKING:
    from estimators import DeviceSpec, ModelSpec

GIB = 1 << 30
#: CUDA context, libraries and communication buffers [bytes]: ASSUMPTION, what is left of the server above.
RUNTIME_BYTES = 700_000_000
#: Sampling holds the logits as bf16, as float32, and a float32 copy: ASSUMPTION.
SAMPLER_BYTES_PER_LOGIT = 10
#: Tokens that vLLM passes through routed experts at a time (VLLM_FUSED_MOE_CHUNK_SIZE; 32,768 before vLLM 0.12).
EXPERT_CHUNK_TOKENS = 16384
#: Numbers that a row of an expert in MXFP4 is padded to a multiple of.
PADDED_WIDTH = 256
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
        DoesNotFitError: the model does not fit; the sentence says by how much and on which stage, and which
            tensor_parallel and pipeline_parallel would do.
        estimators.EstimatorError: the model cannot be split by ``config.tensor_parallel`` and ``pipeline_parallel``.
    """
    plan = divide_memory(config, model, device)
    if plan.num_blocks < 2:
        stage = plan.stages[plan.tightest_stage]
        missing = (2 - stage.num_blocks) * stage.block_bytes / GIB
        split, whose = f"tensor_parallel = {config.tensor_parallel}", "its weights"
        if config.pipeline_parallel > 1:
            split += f" and pipeline_parallel = {config.pipeline_parallel}"
            whose = f"the weights of stage {plan.tightest_stage} (of 0 to {config.pipeline_parallel - 1})"
        raise DoesNotFitError(
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
    length = config.max_model_len  # at which engines state what their caches hold, where layers have windows
    sizes = (model.kv_bytes_per_token(tp, kv_dtype, pp, stage, length) for stage in range(pp))
    return tuple(config.block_size * size for size in sizes)


def divide_memory(config: SimulationConfig, model: "ModelSpec", device: "DeviceSpec") -> MemoryPlan:
    """What `plan_memory` says, also where nothing is left for KV blocks."""
    tp, pp, dtype, limits = config.tensor_parallel, config.pipeline_parallel, config.dtype, config.batch_policy
    # A stage works on one micro-batch at a time, however many are in flight.
    activations = _activation_bytes(config, model)
    stages = []
    for stage, block in enumerate(block_bytes(config, model)):
        part = model.pipeline_stage(pp, stage)
        weights = model.weight_bytes(tp, dtype, pp, stage, config.data_parallel)
        weights += _padding_bytes(config, model, stage)
        reserve = activations + RUNTIME_BYTES + part.layers * _absorbed_bytes(model, tp, dtype)
        if part.last:
            reserve += limits.max_num_seqs * model.vocab_size * SAMPLER_BYTES_PER_LOGIT
        free = config.gpu_memory_utilization * device.memory_bytes - weights - reserve
        stages.append(StageMemory(weights, reserve, block, int(free // block)))
    return MemoryPlan(tuple(stages))


def _activation_bytes(config: SimulationConfig, model: "ModelSpec") -> int:
    """The widest moment of a layer: residual and hidden state, and what the MLP or the experts hold."""
    tp, dp, experts = config.tensor_parallel, config.data_parallel, model.experts
    tokens, halves = config.batch_policy.activation_tokens(config.max_model_len), 2 if model.gated_mlp else 1
    dense = 0 if experts and not experts.dense_layers else model.intermediate_size
    shared = experts.shared_intermediate_size if experts else 0
    # Both halves of a gated MLP, and their product.
    widest = tokens * (halves + 1) * max(dense, shared) // tp
    if experts:
        # As vLLM's fused kernel: a row for each expert of each token of all engines; input and output share a buffer.
        rows = min(dp * tokens, EXPERT_CHUNK_TOKENS) * experts.experts_per_token
        inner = experts.intermediate_size // (1 if config.expert_parallel > 1 else tp * dp)
        widest = max(widest, rows * (max(model.hidden_size, halves * inner) + inner))
    size = DTYPE_BYTES[activation_dtype(model.resolve_dtype(config.dtype))]
    return int(size * (tokens * 2 * model.hidden_size + widest))


def _padding_bytes(config: SimulationConfig, model: "ModelSpec", stage: int) -> int:
    """What vLLM adds to experts in MXFP4: their outer width is padded for the kernel that unpacks them.

    MODELLED as a multiple of 256. Of gpt-oss-120b, 60.8 GiB, vLLM says that it loaded 64.4 GiB for its Triton kernels
    (0.14 on an H100, https://github.com/vllm-project/vllm/issues/33155), and 66.0 GiB for its Marlin ones (0.10, issue
    23278); this gives 64.6 GiB.
    """
    from estimators.weights import stage_weights

    if model.part_dtype("experts", config.dtype) != "mxfp4":
        return 0
    tp, part = config.tensor_parallel, model.pipeline_stage(config.pipeline_parallel, stage)
    experts = stage_weights(model, part, tp, 0, tp * config.data_parallel)["experts"]
    more = -model.hidden_size % PADDED_WIDTH / model.hidden_size
    return int(experts * DTYPE_BYTES["mxfp4"] * more)


def _absorbed_bytes(model: "ModelSpec", tp: int, dtype: str) -> int:
    """Of a layer with quantised latent attention: the bf16 copy of its key/value projection that decodes multiply with.

    vLLM keeps it beside the quantised one, which prefills use (``process_weights_after_loading`` of its MLA layers).
    """
    attention = model.part_dtype("attention", dtype)
    if model.latent is None or attention == activation_dtype(attention):
        return 0
    width = model.latent.qk_nope_head_dim + model.latent.v_head_dim
    return int(2 * model.latent.kv_lora_rank * model.q_heads_per_gpu(tp) * width)


def _mend(config: SimulationConfig, model: "ModelSpec", device: "DeviceSpec") -> str:
    """Which split would fit: more tensor or more pipeline parallelism alone, else both."""
    tp, pp = config.tensor_parallel, config.pipeline_parallel
    sizes = [size for size in model.tensor_parallel_sizes() if tp < size <= device.gpus_per_node]
    stages = range(pp + 1, min(_MOST_STAGES, model.num_layers) + 1)
    alone = [
        next((_tensor_parallel(config, size) for size in sizes if _fits(config, model, device, size, pp)), None),
        next((f"pipeline_parallel = {count}" for count in stages if _fits(config, model, device, tp, count)), None),
    ]
    if any(alone):
        return f"give {' or '.join(filter(None, alone))}"
    # Of as few GPUs as will do, in as few stages.
    for size, count in sorted(product(sizes, stages), key=lambda split: (split[0] * split[1], split[1])):
        if _fits(config, model, device, size, count):
            return f"give {_tensor_parallel(config, size)} and pipeline_parallel = {count}"
    return "take a larger GPU or a smaller model"


def _tensor_parallel(config: SimulationConfig, size: int) -> str:
    """A tensor parallelism in words, with the expert parallelism that goes with it."""
    shared = f" with expert_parallel = {_expert_parallel(config, size)}" if config.expert_parallel > 1 else ""
    return f"tensor_parallel = {size}{shared}"


def _expert_parallel(config: SimulationConfig, tp: int) -> int:
    """Of another tensor parallelism: all GPUs that share experts, where they have whole ones."""
    return tp * config.data_parallel if config.expert_parallel > 1 else 1


def _fits(config: SimulationConfig, model: "ModelSpec", device: "DeviceSpec", tp: int, pp: int) -> bool:
    try:
        shared = _expert_parallel(config, tp)
        split = config.with_fields(tensor_parallel=tp, pipeline_parallel=pp, expert_parallel=shared)
    except ConfigError:  # the batch policy does not go with so many stages
        return False
    return divide_memory(split, model, device).num_blocks >= 2
