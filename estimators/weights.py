"""How many weights the parts of a model have, on one of the GPUs that share it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from estimators.model_spec import ModelSpec
    from estimators.stages import Stage

#: Parts of a layer whose matrices may be of a type of their own. All else is of the type of the activations.
PARTS = ("attention", "attention_output", "mlp", "experts", "shared_experts")
OTHER = "other"


def stage_weights(
    model: ModelSpec, stage: Stage, tp: int, vocabulary: int, gpus: int, experts: int | None = None
) -> dict[str, int]:
    """Weights of a pipeline stage on one GPU.

    Args:
        model: what has them.
        stage: which of its layers, and whether the embedding and the LM head.
        tp: GPUs that share all but the routed experts.
        vocabulary: rows of the embedding table on each of them.
        gpus: that share the routed experts, be it some whole ones each or a part of every one.
        experts: how many of a layer count, all when None.

    Returns:
        In the matrices of each of ``PARTS`` of all layers, and all others under ``OTHER``.
    """
    dense, routed = stage.layers - stage.expert_layers, stage.expert_layers
    *inputs, output = attention_matrices(model, tp)
    weights = {
        "attention": stage.layers * sum(inputs),
        "attention_output": stage.layers * output,
        "mlp": dense * _mlp(model, model.intermediate_size, tp),
        "experts": 0,
        "shared_experts": 0,
    }
    other = stage.layers * _attention_others(model, tp) + dense * _mlp_biases(model, tp)
    if model.experts is not None and routed:
        counted = model.experts.num_experts if experts is None else experts
        weights["experts"] = routed * -(-counted * _mlp(model, model.experts.intermediate_size) // gpus)
        weights["shared_experts"] = routed * _mlp(model, model.experts.shared_intermediate_size, tp)
        other += routed * (_router(model) + -(-counted * _expert_biases(model) // gpus))
    if stage.first:
        other += vocabulary * model.hidden_size
    if stage.last:
        head = 0 if model.tied_embeddings and stage.first else vocabulary * model.hidden_size
        other += head + vocabulary * model.lm_head_bias + _norm(model)
    return weights | {OTHER: other}


def attention_matrices(model: ModelSpec, tp: int = 1) -> tuple[int, ...]:
    """Weights of the matrices of one layer's attention on one of ``tp`` GPUs.

    Of query, key and value together and the output; of latent attention the query's (one, or down and up), those of
    keys and values down and up, and the output. Those that go down are whole on every GPU.
    """
    hidden, heads = model.hidden_size, model.q_heads_per_gpu(tp)
    if (latent := model.latent) is None:
        q_width, kv_width = heads * model.head_dim, model.kv_heads_per_gpu(tp) * model.head_dim
        return hidden * (q_width + 2 * kv_width), q_width * hidden
    rank = latent.q_lora_rank
    query = [hidden] if rank is None else [hidden * rank, rank]
    query[-1] *= heads * latent.qk_head_dim
    up = latent.kv_lora_rank * heads * (latent.qk_nope_head_dim + latent.v_head_dim)
    return *query, hidden * latent.cached_width, up, heads * latent.v_head_dim * hidden


def linear_weights_per_token(model: ModelSpec) -> int:
    """Weights of the matrices that one token is multiplied with, routers included, without the LM head."""
    stage = model.pipeline_stage()
    used = model.experts.experts_per_token if model.experts else None
    weights = stage_weights(model, stage, 1, 0, 1, used)
    routers = stage.expert_layers * model.hidden_size * model.experts.num_experts if model.experts else 0
    return sum(weights[part] for part in PARTS) + routers


def _mlp(model: ModelSpec, inner: int, tp: int = 1) -> int:
    return (3 if model.gated_mlp else 2) * model.hidden_size * (inner // tp)


def _mlp_biases(model: ModelSpec, tp: int) -> int:
    # Biases of the projections that split their output are split with it; the others are whole on every GPU.
    up = (2 if model.gated_mlp else 1) * model.intermediate_size // tp
    return (up + model.hidden_size) * model.mlp_bias


def _router(model: ModelSpec) -> int:
    if model.experts is None:
        return 0
    return model.experts.num_experts * (model.hidden_size + model.experts.router_bias)


def _expert_biases(model: ModelSpec) -> int:
    """Of one routed expert."""
    if model.experts is None or not model.experts.bias:
        return 0
    return (2 if model.gated_mlp else 1) * model.experts.intermediate_size + model.hidden_size


def _attention_others(model: ModelSpec, tp: int) -> int:
    """Biases, norms and sinks of a layer, those of the MLP's norms included."""
    heads = model.q_heads_per_gpu(tp)
    others = heads * model.attention_sinks + model.hidden_size * model.output_bias
    others += (1 if model.parallel_attention_mlp else 4 if model.sandwich_norms else 2) * _norm(model)
    if model.latent is not None:
        return others + model.latent.kv_lora_rank + (model.latent.q_lora_rank or 0)
    widths = (heads + 2 * model.kv_heads_per_gpu(tp)) * model.head_dim
    return others + widths * model.qkv_bias + 2 * model.head_dim * model.qk_norm


def _norm(model: ModelSpec) -> int:
    return model.hidden_size * (2 if model.norm_bias else 1)
