"""What a transformer costs to hold and to run: sizes, bytes and floating-point operations of a decoder."""

from __future__ import annotations

import math
from dataclasses import dataclass

from estimators.dtypes import DTYPE_BYTES, activation_dtype, kv_dtype_bytes, weight_dtype_bytes
from estimators.errors import EstimatorError
from estimators.experts import Experts
from estimators.latent import LatentAttention
from estimators.stages import Stage, layers_of_stage
from estimators.weights import OTHER, PARTS, linear_weights_per_token, stage_weights

__all__ = ["ModelSpec", "Stage"]

# GPUs of one node of every built-in device. Larger splits can be asked about, but errors offer none that would not run.
NODE_GPUS = 8

# Engines pad the vocabulary to a multiple of this before they split it over GPUs (vLLM, SGLang: 64).
VOCABULARY_MULTIPLE = 64

# Tokens that a layer with a window keeps beside it: the first of its blocks is never left whole (vLLM's default size).
WINDOW_SLACK = 16


@dataclass(frozen=True)
class ModelSpec:
    """A decoder-only transformer.

    Attributes:
        name: for people; nothing depends on it.
        hidden_size: width of the residual stream.
        num_layers: transformer layers.
        num_q_heads: query heads.
        num_kv_heads: key/value heads (fewer than ``num_q_heads`` under grouped-query attention).
        head_dim: width of one head.
        rotary_dim: how much of a head is rotated (``head_dim`` unless rotation is partial).
        intermediate_size: inner width of the MLP; of no account where every layer has experts.
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
        experts: the mixture of experts that layers have in place of the MLP, None in a dense model.
        latent: the widths of latent attention (MLA), None where the cache has keys and values. With it ``head_dim`` is
            that of a query, and ``num_kv_heads`` is ``num_q_heads``.
        window: how many tokens back the attention of ``window_layers`` sees, the token itself included.
        window_layers: indices of the layers with such a sliding window, ascending.
        sandwich_norms: there is a norm before and one after both the attention and the MLP (Gemma 2 and 3).
        attention_sinks: every head has a learned logit beside those of the keys (gpt-oss).
        weight_dtype: type in which the checkpoint holds the matrices of its layers, None where any will do.
        unquantised: of ``estimators.weights.PARTS`` those whose matrices are in the type of the activations
            nevertheless.
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
    experts: Experts | None = None
    latent: LatentAttention | None = None
    window: int | None = None
    window_layers: tuple[int, ...] = ()
    sandwich_norms: bool = False
    attention_sinks: bool = False
    weight_dtype: str | None = None
    unquantised: tuple[str, ...] = ()
    kv_dtype: str | None = None

    def resolve_dtype(self, dtype: str = "auto") -> str:
        """Type of the weights where ``dtype`` is asked for; ``"auto"`` is that of the checkpoint, else bf16.

        Raises:
            EstimatorError: when ``dtype`` is not a type of weights, or not that of the checkpoint if it has one.
        """
        if dtype == "auto":
            return self.weight_dtype or "bf16"
        weight_dtype_bytes(dtype)
        if self.weight_dtype not in (None, dtype):
            wrong = f"is not the type of the weights of {self.name}"
            raise EstimatorError("dtype", dtype, wrong, f"give auto or {self.weight_dtype}")
        return dtype

    def part_dtype(self, part: str, dtype: str = "auto") -> str:
        """Type of the matrices of a part of the layers where ``dtype`` is asked for.

        Args:
            part: ``"attention"`` (the projections before it), ``"attention_output"`` (the one behind), ``"mlp"``,
                ``"experts"`` or ``"shared_experts"``; all else (router, norms, embedding, LM head) is never quantised.
            dtype: as ``resolve_dtype`` takes it.
        """
        resolved = self.resolve_dtype(dtype)
        quantised = part in PARTS and part not in self.unquantised
        return resolved if quantised else activation_dtype(resolved)

    def kv_cache_dtype(self, kv_dtype: str, dtype: str) -> str:
        """Type of the KV cache where ``kv_dtype`` is asked for and the layers' weights are of type ``dtype``.

        ``"auto"`` is what the checkpoint asks for, else the type of the activations, as in vLLM from 0.13 on. Before,
        vLLM read what checkpoints of NVIDIA's Model Optimizer ask for nowhere and took that of the activations
        (https://github.com/vllm-project/vllm/pull/29980).

        Raises:
            EstimatorError: when either is not known or they do not go together.
        """
        activations = activation_dtype(self.resolve_dtype(dtype))
        if kv_dtype == "auto":
            return self.kv_dtype or activations
        if kv_dtype not in (activations, "fp8"):
            mend = f"choose auto, {activations} or fp8"
            raise EstimatorError("kv_dtype", kv_dtype, f"does not go with dtype {dtype!r}", mend)
        return kv_dtype

    def tensor_parallel_sizes(self) -> tuple[int, ...]:
        """Numbers of GPUs the model can be split over; key/value heads are split or replicated, all else is split.

        Of experts each is split, or else they are dealt out.
        """
        return tuple(tp for tp in range(1, self.num_q_heads + 1) if self._splits_over(tp))

    def _splits_over(self, tp: int) -> bool:
        return (
            not (self.num_q_heads % tp or any(width % tp for width in self._split_widths))
            and not (self.num_kv_heads % tp and tp % self.num_kv_heads)
            and (self.experts is None or not self.experts.intermediate_size % tp or not self.experts.num_experts % tp)
        )

    @property
    def _split_widths(self) -> tuple[int, ...]:
        """Inner widths that every GPU has a part of."""
        if self.experts is None:
            return (self.intermediate_size,)
        dense = (self.intermediate_size,) if self.experts.dense_layers else ()
        return (*dense, self.experts.shared_intermediate_size)

    def check_tensor_parallel(self, tp: int, node_gpus: int = NODE_GPUS) -> None:
        """Raise ``EstimatorError`` unless the model can be split over ``tp`` GPUs.

        The error offers sizes up to ``node_gpus``; a larger ``tp`` that fits the model is no error here.
        """
        if isinstance(tp, bool) or not isinstance(tp, int) or tp < 1 or not self._splits_over(tp):
            mlp = self.intermediate_size if self.experts is None else self.experts.intermediate_size
            wrong = (
                f"does not divide the heads ({self.num_q_heads}, key/value {self.num_kv_heads}) and the MLP of {mlp}"
            )
            raise EstimatorError("tp", tp, wrong, self.tensor_parallel_mend(node_gpus))

    def tensor_parallel_mend(self, node_gpus: int) -> str:
        """Return the mend of an error about ``tp``: the sizes that fit the model and a node of ``node_gpus``."""
        sizes = [str(tp) for tp in self.tensor_parallel_sizes() if tp <= node_gpus]
        return f"choose {'one of ' if len(sizes) > 1 else ''}{', '.join(sizes)} for {self.name}"

    def pipeline_stage(self, pp: int = 1, stage: int = 0) -> Stage:
        """What the pipeline stage ``stage`` of ``pp`` holds, see ``layers_of_stage``.

        Raises:
            EstimatorError: when there are more stages than layers or no such stage.
        """
        held = layers_of_stage(self.num_layers, self.name, pp, stage)
        dense = held if self.experts is None else [layer for layer in self.experts.dense_layers if layer in held]
        windows = [layer for layer in self.window_layers if layer in held]
        return Stage(len(held), stage == 0, stage == pp - 1, len(windows), len(held) - len(dense))

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
        return sum(stage_weights(self, self.pipeline_stage(), 1, self.vocab_size, 1).values())

    @property
    def active_parameters(self) -> int:
        """Of ``num_parameters`` all but those of experts that a token is not routed to.

        The whole embedding table counts, as on most model cards.
        """
        used = self.experts.experts_per_token if self.experts else None
        return sum(stage_weights(self, self.pipeline_stage(), 1, self.vocab_size, 1, used).values())

    def weight_bytes(self, tp: int = 1, dtype: str = "auto", pp: int = 1, stage: int = 0, dp: int = 1) -> int:
        """Bytes of weights on one of the ``tp`` GPUs of a pipeline stage; ``dp`` engines share the experts, if any.

        With tied embeddings a last stage that is not the first holds a copy of the table.

        Raises:
            EstimatorError: when ``tp`` or ``pp`` do not fit the model or ``dtype`` is not a type of its weights.
        """
        self.check_tensor_parallel(tp)
        held = stage_weights(self, self.pipeline_stage(pp, stage), tp, self.vocabulary_per_gpu(tp), tp * dp)
        return math.ceil(sum(held[part] * DTYPE_BYTES[self.part_dtype(part, dtype)] for part in (*PARTS, OTHER)))

    def kv_bytes_per_token(
        self, tp: int = 1, kv_dtype: str = "bf16", pp: int = 1, stage: int = 0, length: int | None = None
    ) -> int:
        """Bytes that the cache of one token takes on one of the ``tp`` GPUs of a pipeline stage.

        Args:
            tp: GPUs that share the key/value heads. The latent vector of latent attention is whole on each.
            kv_dtype: of the cache.
            pp: number of pipeline stages.
            stage: which of them.
            length: of a request, tokens. Layers with a window keep no more of it than that and a block, so that on
                average over a request of this length a token takes less: MODELLED, as vLLM states the capacity of its
                cache at the greatest length. They keep every token when None.

        Raises:
            EstimatorError: when ``tp`` or ``pp`` do not fit the model or ``kv_dtype`` is not known.
        """
        size, part = kv_dtype_bytes(kv_dtype), self.pipeline_stage(pp, stage)
        self.check_tensor_parallel(tp)
        width = self.latent.cached_width if self.latent else 2 * self.kv_heads_per_gpu(tp) * self.head_dim
        if length is None or self.window is None or length <= self.window + WINDOW_SLACK:
            return part.layers * width * size
        kept = part.window_layers * (self.window + WINDOW_SLACK)
        return (part.layers - part.window_layers) * width * size - (-kept * width * size // length)

    @property
    def tensors_between_layers(self) -> int:
        """Tensors of ``hidden_size`` per token that one layer hands to the next, and one pipeline stage to the next.

        vLLM adds the residual within the norm that follows, so hidden state and residual travel side by side; where
        attention and MLP share a norm there is one sum.
        """
        return 1 if self.parallel_attention_mlp else 2

    @property
    def linear_flops_per_token(self) -> int:
        """Floating-point operations of one token in the matrix products of all layers, without the LM head."""
        return 2 * linear_weights_per_token(self)

    @property
    def lm_head_flops_per_sequence(self) -> int:
        """Floating-point operations of one row of logits."""
        return 2 * self.hidden_size * self.vocab_size

    @property
    def attention_flops_per_pair(self) -> int:
        """Floating-point operations for each (query token, key token) pair, all layers without a window.

        A decode that reads ``kv`` tokens has ``kv`` pairs; a causal chunk of ``c`` tokens over a history of ``h`` has
        ``c * h + c * (c + 1) / 2``. Latent attention counts with keys and values of every head, whichever way engines
        compute it.
        """
        return (self.num_layers - len(self.window_layers)) * self._pair_flops

    @property
    def window_flops_per_token(self) -> int:
        """Floating-point operations of one token in the attention of the layers with a window, taken as full."""
        return len(self.window_layers) * (self.window or 0) * self._pair_flops

    @property
    def _pair_flops(self) -> int:
        """Of one layer: the product of query and key, and that of probability and value."""
        value = self.latent.v_head_dim if self.latent else self.head_dim
        return 2 * self.num_q_heads * (self.head_dim + value)
