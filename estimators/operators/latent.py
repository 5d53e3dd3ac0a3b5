"""Multi-head latent attention (DeepSeek), as vLLM runs it.

Queries and the latent that keys and values share are projected down by one product that every GPU does whole. Decodes
read the latent itself: the up-projection of keys is absorbed into the queries and that of values into the output, two
batched products around the kernel. Chunks project the latent of all they see, new tokens and history, up to keys and
values, and attend to those as to ordinary heads; the two results are merged.
"""

from __future__ import annotations

from estimators.latent import LatentAttention
from estimators.model_spec import ModelSpec, Stage
from estimators.operators.calls import OperatorCall, Types, cache_write, gemm, moves


def latent_calls(model: ModelSpec, tp: int, types: Types, stage: Stage) -> list[OperatorCall]:
    """Calls of latent attention, from the norm before it to the output projection."""
    latent, heads, layers = model.latent, model.q_heads_per_gpu(tp), stage.layers
    assert latent is not None
    rank, rotated = latent.kv_lora_rank, (heads + 1) * latent.qk_rope_head_dim
    calls = _query_calls(model, latent, heads, types, layers)
    calls.append(moves("latent_norm", "tokens", 2 * rank * types.size, layers, types, "plain_norm", rank))
    calls.append(moves("rope", "tokens", 2 * rotated * types.size, layers, types, "rope", rotated))
    calls.append(cache_write(rank + latent.qk_rope_head_dim, types, layers))
    calls += _decode_calls(latent, heads, types, layers)
    calls += _prefill_calls(latent, heads, types, layers)
    width = heads * latent.v_head_dim
    calls.append(gemm("o_proj", "tokens", model.hidden_size, width, layers, types.attention_output))
    return calls


def _query_calls(
    model: ModelSpec, latent: LatentAttention, heads: int, types: Types, layers: int
) -> list[OperatorCall]:
    """Projections of queries, down and up, and the one of the latent."""
    hidden, down = model.hidden_size, latent.kv_lora_rank + latent.qk_rope_head_dim
    width = heads * (latent.qk_nope_head_dim + latent.qk_rope_head_dim)
    rank = latent.q_lora_rank
    if rank is None:
        return [
            gemm("q_proj", "tokens", width, hidden, layers, types.attention),
            gemm("kv_a_proj", "tokens", down, hidden, layers, types.attention),
        ]
    return [
        gemm("qkv_a_proj", "tokens", rank + down, hidden, layers, types.attention),
        moves("q_norm", "tokens", 2 * rank * types.size, layers, types, "plain_norm", rank),
        gemm("q_b_proj", "tokens", width, rank, layers, types.attention),
    ]


def _decode_calls(latent: LatentAttention, heads: int, types: Types, layers: int) -> list[OperatorCall]:
    """What decodes do; the absorbed matrices are in the type of the activations, whatever the checkpoint's."""
    rank, nope, value = latent.kv_lora_rank, latent.qk_nope_head_dim, latent.v_head_dim
    absorb, expand = {"heads": heads, "n": rank, "k": nope}, {"heads": heads, "n": value, "k": rank}
    return [
        OperatorCall("q_absorb", "latent_bmm", "decodes", absorb, layers, types.activations),
        OperatorCall("latent_decode", "latent_decode", "decode", {"heads": heads}, layers, types.kv),
        OperatorCall("v_expand", "latent_bmm", "decodes", expand, layers, types.activations),
    ]


def _prefill_calls(latent: LatentAttention, heads: int, types: Types, layers: int) -> list[OperatorCall]:
    """What chunks do, by their tokens and by those before them."""
    size, rope = types.size, latent.qk_rope_head_dim
    width, cached = heads * (latent.qk_nope_head_dim + latent.v_head_dim), latent.kv_lora_rank + rope
    # Keys are laid together from their two parts, of which heads share the rotated one.
    keys = 2 * heads * (latent.qk_nope_head_dim + rope) * size
    return [
        gemm("kv_b_proj", "chunk", width, latent.kv_lora_rank, layers, types.attention),
        moves("key_concat", "chunk", keys, layers, types),
        moves("history_gather", "history", (types.kv_size + size) * cached, layers, types),
        gemm("history_kv_b_proj", "history", width, latent.kv_lora_rank, layers, types.attention),
        moves("history_key_concat", "history", keys, layers, types),
        OperatorCall("latent_prefill", "latent_prefill", "prefill", {"heads": heads}, layers, types.kv),
        moves("merge", "resumed", 3 * heads * latent.v_head_dim * size, layers, types),
    ]
