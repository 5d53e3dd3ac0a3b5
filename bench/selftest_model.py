"""The model of the self-test's engine: a Llama of random weights over a paged KV cache.

It runs the very functions that the profiler times (estimators/profiler/kernels), in the order of `iteration_calls`:
one product for queries, keys and values and one for gate and up, norms that add the residual, logits of every request
of the batch, and the likeliest token of each. Only the shape of the model is true; its text means nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from selftest_scheduler import Batch, Limits, Member

from estimators.errors import EstimatorError
from estimators.model_spec import ModelSpec
from estimators.profiler.hardware import torch_type
from estimators.profiler.kernels.attention import PER_REQUEST, attend_chunk, attend_decodes
from estimators.profiler.kernels.functions import (
    add_rms_norm,
    embed,
    gate_activation,
    greedy,
    linear,
    rms_norm,
    rotate,
    to_float,
    write_kv,
)

EPS, ROPE_THETA = 1e-5, 10000.0


@dataclass(frozen=True)
class Layer:
    """Weights of a layer; matrices are (outputs, inputs)."""

    input_norm: torch.Tensor
    qkv: torch.Tensor
    o: torch.Tensor
    post_norm: torch.Tensor
    gate_up: torch.Tensor
    down: torch.Tensor


@dataclass(frozen=True)
class Inputs:
    """A batch as the model reads it: tokens of the decodes, one each, then those of the chunks.

    Attributes:
        ids: int64 (tokens,).
        cos: (tokens, rotary_dim / 2), of the tokens' positions.
        sin: likewise.
        slots: int64 (tokens,), where their keys and values go.
        last: int64 (requests,), the last token of each.
        block_tables: int32 (decodes, blocks of the longest).
        kv_lens: int32 (decodes,).
        chunks: blocks (int32), history and tokens of each chunk.
        yields: of each request, whether its token counts.
    """

    ids: torch.Tensor
    cos: torch.Tensor
    sin: torch.Tensor
    slots: torch.Tensor
    last: torch.Tensor
    block_tables: torch.Tensor
    kv_lens: torch.Tensor
    chunks: list[tuple[torch.Tensor, int, int]]
    yields: list[bool]


class ModelRunner:
    """Runs a Llama on a device of torch; see `selftest_engine.Runner`."""

    def __init__(
        self,
        spec: ModelSpec,
        limits: Limits,
        max_model_len: int,
        device: torch.device,
        dtype: str = "fp32",
        backend: str = PER_REQUEST,
        seed: int = 0,
    ) -> None:
        """Draw weights and lay out the KV cache; ``backend`` is the attention's, ``dtype`` that of weights and cache.

        Raises:
            EstimatorError: the model has what this one has not.
        """
        _check_shape(spec)
        self.spec, self.device, self.dtype, self.backend = spec, device, torch_type(dtype), backend
        self.launches_compute = device.type == "cpu"
        self._block_size = limits.block_size
        self._generator = torch.Generator(device).manual_seed(seed)
        self.table = self._draw(spec.vocab_size, spec.hidden_size)
        self.layers = [self._layer() for _ in range(spec.num_layers)]
        self.final_norm = self._norm()
        self.lm_head = self.table if spec.tied_embeddings else self._draw(spec.vocab_size, spec.hidden_size)
        cache = (limits.num_blocks + 1, limits.block_size, spec.num_kv_heads, spec.head_dim)
        # Zeros written, not merely promised: a page that is touched for the first time costs what no engine pays later.
        self.k_caches, self.v_caches = (
            [torch.zeros(cache, dtype=self.dtype, device=device).fill_(0) for _ in self.layers] for _ in range(2)
        )
        angles = torch.outer(
            torch.arange(max_model_len, dtype=torch.float32),
            ROPE_THETA ** (-torch.arange(0, spec.rotary_dim, 2) / spec.rotary_dim),
        )
        self._cos, self._sin = (angle.to(device, self.dtype) for angle in (angles.cos(), angles.sin()))

    def _draw(self, outputs: int, inputs: int) -> torch.Tensor:
        drawn = torch.randn(outputs, inputs, generator=self._generator, device=self.device)
        return (drawn / inputs**0.5).to(self.dtype)

    def _norm(self) -> torch.Tensor:
        return torch.ones(self.spec.hidden_size, dtype=self.dtype, device=self.device)

    def _layer(self) -> Layer:
        spec = self.spec
        hidden, inner, queries = spec.hidden_size, spec.intermediate_size, spec.num_q_heads * spec.head_dim
        qkv = queries + 2 * spec.num_kv_heads * spec.head_dim
        return Layer(
            input_norm=self._norm(),
            qkv=self._draw(qkv, hidden),
            o=self._draw(hidden, queries),
            post_norm=self._norm(),
            gate_up=self._draw(2 * inner, hidden),
            down=self._draw(hidden, inner),
        )

    @torch.inference_mode()
    def prepare(self, batch: Batch) -> Inputs:
        """Make the tensors that the model reads."""
        members, decodes = batch.members, batch.decodes
        positions = [place for member in members for place in range(member.history, member.history + member.tokens)]
        ids = [one for member in members for one in member.request.tokens(member.history, _end(member))]
        slots = [slot for member in members for slot in self._slots(member)]
        last, tokens = [], 0
        for member in members:
            tokens += member.tokens
            last.append(tokens - 1)
        longest = max((len(member.request.blocks) for member in decodes), default=0)
        tables = [member.request.blocks + [0] * (longest - len(member.request.blocks)) for member in decodes]
        at = self._int64(positions)
        return Inputs(
            self._int64(ids),
            self._cos.index_select(0, at),
            self._sin.index_select(0, at),
            self._int64(slots),
            self._int64(last),
            self._int32(tables).view(len(decodes), longest),
            self._int32([_end(member) for member in decodes]),
            [(self._int32(member.request.blocks), member.history, member.tokens) for member in batch.chunks],
            [member.yields for member in members],
        )

    @torch.inference_mode()
    def launch(self, inputs: Inputs) -> tuple[torch.Tensor, Inputs]:
        """Begin to compute the next token of every request."""
        return greedy(to_float(self.logits(inputs))), inputs

    def wait(self) -> None:
        """Return when it has been computed."""
        if not self.launches_compute:
            torch.cuda.synchronize(self.device)

    def fetch(self, result: tuple[torch.Tensor, Inputs]) -> list[int]:
        """The tokens that count."""
        tokens, inputs = result
        return [token for token, yields in zip(tokens.tolist(), inputs.yields, strict=True) if yields]

    def logits(self, inputs: Inputs) -> torch.Tensor:
        """Logits of every request, (requests, vocabulary); the KV cache gets the tokens' keys and values."""
        residual = embed(inputs.ids, self.table)
        normed = rms_norm(residual, self.layers[0].input_norm, EPS)
        norms = [layer.input_norm for layer in self.layers[1:]] + [self.final_norm]
        for layer, caches, next_norm in zip(
            self.layers, zip(self.k_caches, self.v_caches, strict=True), norms, strict=True
        ):
            attended = linear(self._attend(linear(normed, layer.qkv), caches, inputs), layer.o)
            normed, residual = add_rms_norm(attended, residual, layer.post_norm, EPS)
            inner = linear(gate_activation(linear(normed, layer.gate_up)), layer.down)
            normed, residual = add_rms_norm(inner, residual, next_norm, EPS)
        return linear(normed.index_select(0, inputs.last), self.lm_head)

    def _attend(self, qkv: torch.Tensor, caches: tuple[torch.Tensor, torch.Tensor], inputs: Inputs) -> torch.Tensor:
        """Rotate, write the cache, and attend: (tokens, queries, keys and values) to (tokens, q_heads * head_dim)."""
        spec = self.spec
        heads = qkv.view(len(qkv), -1, spec.head_dim)
        q, k, v = heads.split([spec.num_q_heads, spec.num_kv_heads, spec.num_kv_heads], dim=1)
        q, k = rotate(q, k, inputs.cos, inputs.sin)
        write_kv(k, v, *caches, inputs.slots)
        scale, decodes = spec.head_dim**-0.5, len(inputs.kv_lens)
        parts = []
        if decodes:
            tables, lens = inputs.block_tables, inputs.kv_lens
            parts.append(attend_decodes(q[:decodes], *caches, tables, lens, scale, self.backend))
        begin = decodes
        for blocks, history, tokens in inputs.chunks:
            chunk = q[begin : begin + tokens]
            parts.append(attend_chunk(chunk, *caches, blocks, history, scale, self.backend))
            begin += tokens
        return (parts[0] if len(parts) == 1 else torch.cat(parts)).reshape(len(q), -1)

    def _slots(self, member: Member) -> list[int]:
        """Where the keys and values of a member's tokens go."""
        size, blocks = self._block_size, member.request.blocks
        return [blocks[place // size] * size + place % size for place in range(member.history, _end(member))]

    def _int64(self, numbers: Sequence[int]) -> torch.Tensor:
        return torch.tensor(numbers, dtype=torch.int64, device=self.device)

    def _int32(self, numbers: Sequence[int] | Sequence[list[int]]) -> torch.Tensor:
        return torch.tensor(numbers, dtype=torch.int32, device=self.device)


def _check_shape(spec: ModelSpec) -> None:
    """Refuse what is more than norms, attention of heads, and a gated MLP."""
    more = ("experts", "latent", "window", "qk_norm", "qkv_bias", "output_bias", "mlp_bias", "lm_head_bias")
    more += ("norm_bias", "parallel_attention_mlp", "sandwich_norms", "attention_sinks", "weight_dtype")
    found = [name for name in more if getattr(spec, name)] + ([] if spec.gated_mlp else ["no gate in its MLP"])
    if found:
        wrong = f"is more than a Llama's shape ({', '.join(found)})"
        raise EstimatorError("model", spec.name, wrong, "give the config.json of a Llama")


def _end(member: Member) -> int:
    """How many tokens of a request have been computed behind a batch."""
    return member.history + member.tokens
