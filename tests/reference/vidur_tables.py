"""Vidur's time of one stage run, from its per-operator tables (VIDUR.md 4.12). Milliseconds inside, as there."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from reference.batch import Batch

CPU_OPERATORS = ("schedule", "sampler_e2e", "prepare_inputs_e2e", "process_model_outputs", "ray_comm_time")


def round_up(x: int, multiple: int) -> int:
    """The smallest multiple that is not less than x."""
    return -(-x // multiple) * multiple


@dataclass(frozen=True)
class AttentionKeys:
    """What Vidur looks up for the attention of a batch.

    Attributes:
        num_decodes: Requests whose prefill is complete.
        decode_kv: Mean of their KV tokens, cut to an integer, rounded up to the granularity; 0 without decodes.
        num_chunks: The other requests.
        prefill_kv: Sum of their tokens in KV, each rounded up to the granularity; 0 without chunks.
        prefill_chunk: Square root, rounded half to even, of the sum of the squares of their tokens.
    """

    num_decodes: int
    decode_kv: int
    num_chunks: int
    prefill_kv: int
    prefill_chunk: int


@dataclass(frozen=True)
class VidurTables:
    """Per-operator tables of one layer and the constants around them.

    Attributes:
        operators: For each operator milliseconds by key: (tokens,), (batch, kv) for attn_decode, (kv, chunk^2) for
            attn_prefill, (batch,) for the CPU operators, which are absent if CPU overhead is not modelled.
        num_layers: Layers of one stage.
        tensor_parallel: GPUs of one stage.
        grouped_query_attention: Whether the model has fewer KV heads than query heads.
        post_attention_norm: Whether the model has a norm before the MLP.
        decode_overhead_fraction: Added to the attention of several decodes.
        prefill_overhead_fraction: Added to the attention of several chunks.
        launch_overhead_ms: Added to each all-reduce.
        skew_overhead_per_device_ms: Added to each all-reduce, times tensor_parallel ** 1.25.
        kv_granularity: What KV tokens are rounded up to.
    """

    operators: Mapping[str, Mapping[tuple[int, ...], float]]
    num_layers: int
    tensor_parallel: int
    grouped_query_attention: bool
    post_attention_norm: bool
    decode_overhead_fraction: float
    prefill_overhead_fraction: float
    launch_overhead_ms: float
    skew_overhead_per_device_ms: float
    kv_granularity: int

    def attention_keys(self, batch: Batch) -> AttentionKeys:
        """Aggregate a batch as Vidur does."""
        decodes = [member.history + member.tokens for member in batch.members if member.is_decode]
        chunks = batch.chunks
        return AttentionKeys(
            num_decodes=len(decodes),
            decode_kv=round_up(int(sum(decodes) / len(decodes)), self.kv_granularity) if decodes else 0,
            num_chunks=len(chunks),
            prefill_kv=sum(round_up(chunk.history, self.kv_granularity) for chunk in chunks),
            prefill_chunk=round(math.sqrt(sum(chunk.tokens**2 for chunk in chunks))),
        )

    def model_s(self, batch: Batch, is_last_stage: bool) -> float:
        """Seconds on the GPUs; the order of the additions is Vidur's.

        Raises:
            KeyError: The batch lies beyond a table (oddity 11).
        """
        key = (round_up(batch.num_tokens, 8),)
        ms = self.operators
        attention = self.attention_keys(batch)
        all_reduce = 0.0
        if self.tensor_parallel > 1:
            skew = self.skew_overhead_per_device_ms * self.tensor_parallel**1.25
            all_reduce = ms["all_reduce"][key] + self.launch_overhead_ms + skew
        attention_layer = (
            ms["attn_pre_proj"][key]
            + ms["attn_post_proj"][key]
            + ms["attn_rope"][key]
            + ms["attn_kv_cache_save"][batch.num_tokens,]
            + self._decode_ms(attention)
            + self._prefill_ms(attention)
            + all_reduce
            + ms["input_layernorm"][key]
        )
        mlp_layer = (
            ms["mlp_up_proj"][key]
            + ms["mlp_down_proj"][key]
            + ms["mlp_act"][key]
            + all_reduce
            + (ms["post_attention_layernorm"][key] if self.post_attention_norm else 0.0)
        )
        layer = attention_layer + mlp_layer + ms["add"][key]
        send = 0.0 if is_last_stage else ms["send_recv"][key]
        return (layer * self.num_layers + send) * 1e-3

    def cpu_s(self, batch: Batch) -> float:
        """Seconds of the host, at every stage (oddity 23); 0 where it is not modelled."""
        if "schedule" not in self.operators:
            return 0.0
        key = (len(batch.members),)
        return sum((self.operators[name][key] for name in CPU_OPERATORS), 0.0) * 1e-3

    def _decode_ms(self, keys: AttentionKeys) -> float:
        """Attention of all decodes in one layer."""
        if keys.num_decodes == 0:
            return 0.0
        fraction = self.decode_overhead_fraction if self.grouped_query_attention and keys.num_decodes > 1 else 0.0
        return self.operators["attn_decode"][keys.num_decodes, keys.decode_kv] * (1 + fraction)

    def _prefill_ms(self, keys: AttentionKeys) -> float:
        """Attention of all chunks in one layer."""
        if keys.num_chunks == 0:
            return 0.0
        fraction = self.prefill_overhead_fraction if self.grouped_query_attention and keys.num_chunks > 1 else 0.0
        return self.operators["attn_prefill"][keys.prefill_kv, keys.prefill_chunk**2] * (1 + fraction)
