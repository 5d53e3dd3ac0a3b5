"""What a transformer costs to hold and to run: sizes, bytes and floating-point operations of a dense decoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from estimators.errors import EstimatorError

DTYPE_BYTES = {"bf16": 2, "fp16": 2, "fp8": 1}
_WEIGHT_DTYPES = ("bf16", "fp16", "fp8")

# GPUs of one node of every built-in device. Larger splits can be asked about, but errors offer none that would not run.
NODE_GPUS = 8

# Engines pad the vocabulary to a multiple of this before they split it over GPUs (vLLM, SGLang: 64).
VOCABULARY_MULTIPLE = 64


def weight_dtype_bytes(dtype: str) -> int:
    """Bytes of one weight of type ``dtype`` in the matrices of the layers.

    Raises:
        EstimatorError: when ``dtype`` is not a type of weights.
    """
    if dtype not in _WEIGHT_DTYPES:
        mend = f"choose one of {', '.join(_WEIGHT_DTYPES)}"
        raise EstimatorError("dtype", dtype, "is not a known type of weights", mend)
    return DTYPE_BYTES[dtype]


def activation_dtype(dtype: str) -> str:
    """Type of activations, norms, embedding and LM head where the matrices of the layers are of type ``dtype``.

    That of the matrices, but for fp8: checkpoints in it leave all else in bf16, and its products return bf16.

    Raises:
        EstimatorError: when ``dtype`` is not a type of weights.
    """
    weight_dtype_bytes(dtype)
    return "bf16" if dtype == "fp8" else dtype


class Stage(NamedTuple):
    """What of a model one pipeline stage holds.

    Attributes:
        layers: number of its layers.
        first: it holds the embedding table.
        last: it holds the final norm and the LM head, and samples.
    """

    layers: int
    first: bool
    last: bool


@dataclass(frozen=True)
class ModelSpec:
    """A dense decoder-only transformer with full attention.

    Attributes:
        name: for people; nothing depends on it.
        hidden_size: width of the residual stream.
        num_layers: transformer layers.
        num_q_heads: query heads.
        num_kv_heads: key/value heads (fewer than ``num_q_heads`` under grouped-query attention).
        head_dim: width of one head.
        rotary_dim: how much of a head is rotated (``head_dim`` unless rotation is partial).
        intermediate_size: inner width of the MLP.
        vocab_size: rows of the embedding table.
        max_position_embeddings: longest context the model was made for, tokens.
        gated_mlp: gate and up projections (SwiGLU) when true, one up projection when false.
        tied_embeddings: the LM head is the embedding table.
        qkv_bias: query, key and value projections add a bias.
        output_bias: the attention's output projection adds a bias.
        mlp_bias: the projections of the MLP add biases.
        lm_head_bias: the LM head adds a bias.
        norm_bias: norms have a bias beside the weight (LayerNorm) when true, none (RMSNorm) when false.
        qk_norm: queries and keys pass an RMSNorm per head before rotation.
        parallel_attention_mlp: attention and MLP read the same norm and their outputs are added (one norm per layer).
        weight_dtype: ``"fp8"`` where the checkpoint holds the matrices of its layers in it, None where engines load
            them in any type.
        kv_dtype: ``"fp8"`` where the checkpoint asks for such a KV cache, None where it is that of the activations.
    """

    name: str
    hidden_size: int
    num_layers: int
    num_q_heads: int
    num_kv_heads: int
    head_dim: int
    rotary_dim: int
    intermediate_size: int
    vocab_size: int
    max_position_embeddings: int
    gated_mlp: bool = True
    tied_embeddings: bool = False
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    lm_head_bias: bool = False
    norm_bias: bool = False
    qk_norm: bool = False
    parallel_attention_mlp: bool = False
    weight_dtype: str | None = None
    kv_dtype: str | None = None

    def check_dtype(self, dtype: str) -> None:
        """Raise ``EstimatorError`` unless ``dtype`` is a type of weights, and that of the checkpoint if it has one."""
        weight_dtype_bytes(dtype)
        if self.weight_dtype not in (None, dtype):
            wrong = f"is not the type of the weights of {self.name}"
            raise EstimatorError("dtype", dtype, wrong, f"give {self.weight_dtype}")

    def kv_cache_dtype(self, kv_dtype: str, dtype: str) -> str:
        """Type of the KV cache where ``kv_dtype`` is asked for and the layers' weights are of type ``dtype``.

        ``"auto"`` is what the checkpoint asks for, else the type of the activations, as in vLLM from 0.13 on. Before,
        vLLM read what checkpoints of NVIDIA's Model Optimizer ask for nowhere and took that of the activations
        (https://github.com/vllm-project/vllm/pull/29980).

        Raises:
            EstimatorError: when either is not known or they do not go together.
        """
        activations = activation_dtype(dtype)
        if kv_dtype == "auto":
            return self.kv_dtype or activations
        if kv_dtype not in (activations, "fp8"):
            mend = f"choose auto, {activations} or fp8"
            raise EstimatorError("kv_dtype", kv_dtype, f"does not go with dtype {dtype!r}", mend)
        return kv_dtype

    def tensor_parallel_sizes(self) -> tuple[int, ...]:
        """Numbers of GPUs the model can be split over; key/value heads are split or replicated, all else is split."""
        return tuple(
            tp
            for tp in range(1, self.num_q_heads + 1)
            if not (self.num_q_heads % tp or self.intermediate_size % tp)
            and not (self.num_kv_heads % tp and tp % self.num_kv_heads)
        )

    def check_tensor_parallel(self, tp: int, node_gpus: int = NODE_GPUS) -> None:
        """Raise ``EstimatorError`` unless the model can be split over ``tp`` GPUs.

        The error offers sizes up to ``node_gpus``; a larger ``tp`` that fits the model is no error here.
        """
        if isinstance(tp, bool) or not isinstance(tp, int) or tp not in self.tensor_parallel_sizes():
            wrong = f"does not divide the heads ({self.num_q_heads}, key/value {self.num_kv_heads}) and the MLP"
            raise EstimatorError("tp", tp, f"{wrong} of {self.intermediate_size}", self.tensor_parallel_mend(node_gpus))

    def tensor_parallel_mend(self, node_gpus: int) -> str:
        """Return the mend of an error about ``tp``: the sizes that fit the model and a node of ``node_gpus``."""
        sizes = [str(tp) for tp in self.tensor_parallel_sizes() if tp <= node_gpus]
        return f"choose {'one of ' if len(sizes) > 1 else ''}{', '.join(sizes)} for {self.name}"

    def pipeline_stage(self, pp: int = 1, stage: int = 0) -> Stage:
        """What the pipeline stage ``stage`` of ``pp`` holds.

        Layers that are left over go to the stages before the last one, from the back, one each: the last has the LM
        head, and with few left over the first, which has the embedding, gets none either. This is vLLM's rule
        (``get_pp_indices`` in ``vllm/distributed/utils.py``).

        Raises:
            EstimatorError: when there are more stages than layers or no such stage.
        """
        if not _is_integer(pp, 1, self.num_layers):
            wrong = f"is no number of stages for the {self.num_layers} layers of {self.name}"
            raise EstimatorError("pp", pp, wrong, f"choose 1 to {self.num_layers}")
        if not _is_integer(stage, 0, pp - 1):
            raise EstimatorError("stage", stage, f"is not one of {pp} pipeline stages", f"choose 0 to {pp - 1}")
        each, left_over = divmod(self.num_layers, pp)
        extra = pp - 1 - left_over <= stage < pp - 1
        return Stage(each + extra, first=stage == 0, last=stage == pp - 1)

    def q_heads_per_gpu(self, tp: int) -> int:
        """Query heads on each of ``tp`` GPUs."""
        self.check_tensor_parallel(tp)
        return self.num_q_heads // tp

    def kv_heads_per_gpu(self, tp: int) -> int:
        """Key/value heads on each of ``tp`` GPUs; with more GPUs than heads each head is replicated."""
        self.check_tensor_parallel(tp)
        return max(1, self.num_kv_heads // tp)

    def vocabulary_per_gpu(self, tp: int) -> int:
        """Rows of the embedding table, padded as engines pad it, on each of ``tp`` GPUs."""
        padded = -(-self.vocab_size // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE
        return -(-padded // tp)

    @property
    def num_parameters(self) -> int:
        """Parameters of the whole model, embeddings included, vocabulary not padded."""
        return self._parameters(1, self.vocab_size, self.pipeline_stage())

    def weight_bytes(self, tp: int = 1, dtype: str = "bf16", pp: int = 1, stage: int = 0, dp: int = 1) -> int:
        """Bytes of weights on one of the ``tp`` GPUs of a pipeline stage; ``dp`` engines share the experts, if any.

        With tied embeddings a last stage that is not the first holds a copy of the table.

        Raises:
            EstimatorError: when ``tp`` or ``pp`` do not fit the model or ``dtype`` is not a type of its weights.
        """
        self.check_tensor_parallel(tp)
        self.check_dtype(dtype)
        part, size = self.pipeline_stage(pp, stage), DTYPE_BYTES[activation_dtype(dtype)]
        quantised = part.layers * sum(self._layer_matrices(tp)) * (size - weight_dtype_bytes(dtype))
        return self._parameters(tp, self.vocabulary_per_gpu(tp), part, dp) * size - quantised

    def kv_bytes_per_token(self, tp: int = 1, kv_dtype: str = "bf16", pp: int = 1, stage: int = 0) -> int:
        """Bytes that the keys and values of one token take on one of the ``tp`` GPUs of a pipeline stage.

        Raises:
            EstimatorError: when ``tp`` or ``pp`` do not fit the model or ``kv_dtype`` is not known.
        """
        if kv_dtype not in DTYPE_BYTES:
            raise EstimatorError("kv_dtype", kv_dtype, "is not known", f"choose one of {', '.join(DTYPE_BYTES)}")
        layers = self.pipeline_stage(pp, stage).layers
        return 2 * layers * self.kv_heads_per_gpu(tp) * self.head_dim * DTYPE_BYTES[kv_dtype]

    @property
    def tensors_between_layers(self) -> int:
        """Tensors of ``hidden_size`` per token that one layer hands to the next, and one pipeline stage to the next.

        vLLM adds the residual within the norm that follows, so hidden state and residual travel side by side; where
        attention and MLP share a norm there is one sum.
        """
        return 1 if self.parallel_attention_mlp else 2

    @property
    def mlp_width(self) -> int:
        """Inner width of what one token passes through in the MLP of a layer."""
        return self.intermediate_size

    @property
    def linear_flops_per_token(self) -> int:
        """Floating-point operations of one token in the matrix products of all layers, without the LM head."""
        return 2 * self.num_layers * sum(self._layer_matrices(1))

    @property
    def lm_head_flops_per_sequence(self) -> int:
        """Floating-point operations of one row of logits."""
        return 2 * self.hidden_size * self.vocab_size

    @property
    def attention_flops_per_pair(self) -> int:
        """Floating-point operations for each (query token, key token) pair, all layers.

        A decode that reads ``kv`` tokens has ``kv`` pairs; a causal chunk of ``c`` tokens over a history of ``h`` has
        ``c * h + c * (c + 1) / 2``.
        """
        return 4 * self.num_layers * self.num_q_heads * self.head_dim

    def _layer_matrices(self, tp: int) -> tuple[int, int, int, int]:
        """Weights of one layer's qkv, output, up (and gate) and down projections on one of ``tp`` GPUs."""
        q_width = self.q_heads_per_gpu(tp) * self.head_dim
        kv_width = self.kv_heads_per_gpu(tp) * self.head_dim
        inner = self.intermediate_size // tp
        up = inner * (2 if self.gated_mlp else 1)
        hidden = self.hidden_size
        return hidden * (q_width + 2 * kv_width), q_width * hidden, hidden * up, inner * hidden

    def _layer_parameters(self, tp: int, dp: int = 1) -> int:
        matrices = self._layer_matrices(tp)
        # Biases of the projections that split their output are split with it; the others are whole on every GPU.
        biases = (matrices[0] // self.hidden_size) * self.qkv_bias + self.hidden_size * self.output_bias
        biases += (matrices[2] // self.hidden_size + self.hidden_size) * self.mlp_bias
        norms = (1 if self.parallel_attention_mlp else 2) * self._norm_parameters
        return sum(matrices) + biases + norms + 2 * self.head_dim * self.qk_norm

    def _parameters(self, tp: int, vocabulary: int, stage: Stage, dp: int = 1) -> int:
        """Parameters of a stage on one of ``tp`` GPUs, whose part of the embedding table has ``vocabulary`` rows."""
        parameters = stage.layers * self._layer_parameters(tp, dp)
        if stage.first:
            parameters += vocabulary * self.hidden_size
        if stage.last:
            head = 0 if self.tied_embeddings and stage.first else vocabulary * self.hidden_size
            parameters += head + vocabulary * self.lm_head_bias + self._norm_parameters
        return parameters

    @property
    def _norm_parameters(self) -> int:
        return self.hidden_size * (2 if self.norm_bias else 1)


def _is_integer(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
