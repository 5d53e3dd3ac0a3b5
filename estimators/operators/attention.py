"""The attention half of a layer: full, over a sliding window, or latent."""

from __future__ import annotations

from estimators.model_spec import ModelSpec, Stage
from estimators.operators.calls import OperatorCall, Types, cache_write, collective, gemm, moves
from estimators.operators.latent import latent_calls


def attention_calls(model: ModelSpec, tp: int, types: Types, stage: Stage) -> list[OperatorCall]:
    """Calls of the attention half of every layer of a stage."""
    hidden, layers = model.hidden_size, stage.layers
    # Norm over the sum with the residual: reads both, writes both.
    calls = [moves("input_norm", "tokens", 4 * hidden * types.size, layers, types, "norm", hidden)]
    inner = latent_calls if model.latent is not None else _heads_calls
    calls += inner(model, tp, types, stage)
    if tp > 1:
        calls.append(collective("attention_all_reduce", "all_reduce", "tokens", tp, hidden, layers, types))
    if model.sandwich_norms:
        calls.append(
            moves("attention_output_norm", "tokens", 2 * hidden * types.size, layers, types, "plain_norm", hidden)
        )
    return calls


def _heads_calls(model: ModelSpec, tp: int, types: Types, stage: Stage) -> list[OperatorCall]:
    """Attention of query heads that share key/value heads. Sinks are one number per head, and cost nothing."""
    hidden, size, layers = model.hidden_size, types.size, stage.layers
    q_heads, kv_heads, head_dim = model.q_heads_per_gpu(tp), model.kv_heads_per_gpu(tp), model.head_dim
    calls = [gemm("qkv_proj", "tokens", (q_heads + 2 * kv_heads) * head_dim, hidden, layers, types.attention)]
    if model.qk_norm:
        width = (q_heads + kv_heads) * head_dim
        calls.append(moves("qk_norm", "tokens", 2 * width * size, layers, types, "plain_norm", width, kernels=2))
    rotated = (q_heads + kv_heads) * model.rotary_dim
    calls.append(moves("rope", "tokens", 2 * rotated * size, layers, types, "rope", rotated))
    calls.append(cache_write(2 * kv_heads * head_dim, types, layers))
    heads = {"q_heads": q_heads, "kv_heads": kv_heads, "head_dim": head_dim}
    for prefix, count, window in (
        ("", layers - stage.window_layers, 0),
        ("window_", stage.window_layers, model.window or 0),
    ):
        if count:
            shape = heads | {"window": window}
            calls.append(
                OperatorCall(f"{prefix}decode_attention", "decode_attention", "decode", shape, count, types.kv)
            )
            calls.append(
                OperatorCall(f"{prefix}prefill_attention", "prefill_attention", "prefill", shape, count, types.kv)
            )
    calls.append(gemm("o_proj", "tokens", hidden, q_heads * head_dim, layers, types.attention_output))
    return calls
