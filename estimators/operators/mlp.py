"""The MLP half of a layer: dense, or a mixture of experts with or without some that every token passes."""

from __future__ import annotations

from estimators.expert_traffic import EXPERT_LOADS
from estimators.experts import Experts
from estimators.model_spec import ModelSpec, Stage
from estimators.operators.calls import Axis, Operator, OperatorCall, Types, collective, gemm, moves
from estimators.operators.parallel import Parallel

# Softmax over the router's logits and the choice of the largest are one kernel in vLLM. ASSUMPTION: it is not in the
# measured time of the experts, which begins with the tokens' experts chosen, sorts tokens by them and ends with the
# weighted sum.
_GATING_KERNELS = 1


def mlp_calls(model: ModelSpec, parallel: Parallel, types: Types, stage: Stage) -> list[OperatorCall]:
    """Calls of the MLP half of every layer of a stage."""
    hidden, size, layers, tp = model.hidden_size, types.size, stage.layers, parallel.tp
    dense = layers - stage.expert_layers
    # Where attention and MLP share the input norm: residual, both outputs in, sum out, as many bytes as a norm's.
    name = "residual_add" if model.parallel_attention_mlp else "post_attention_norm"
    calls = [moves(name, "tokens", 4 * hidden * size, layers, types, "norm", hidden)]
    if dense:
        calls += _mlp(model, "", model.intermediate_size, tp, types.mlp, types, dense)
    if model.experts is not None and stage.expert_layers:
        calls += _expert_calls(model, model.experts, parallel, types, stage.expert_layers)
    reduced = dense + stage.expert_layers * _reduces(parallel)
    if tp > 1 and reduced:
        calls.append(collective("mlp_all_reduce", "all_reduce", "tokens", tp, hidden, reduced, types))
    if model.sandwich_norms:
        calls.append(moves("mlp_output_norm", "tokens", 2 * hidden * size, layers, types, "plain_norm", hidden))
    return calls


def _mlp(
    model: ModelSpec, prefix: str, intermediate: int, tp: int, dtype: str, types: Types, layers: int
) -> list[OperatorCall]:
    """An ordinary MLP, split over ``tp`` GPUs."""
    hidden, inner = model.hidden_size, -(-intermediate // tp)
    width, up = (2 * inner, "gate_up_proj") if model.gated_mlp else (inner, "up_proj")
    act: Operator = "activation" if model.gated_mlp else "plain_activation"
    return [
        gemm(f"{prefix}{up}", "tokens", width, hidden, layers, dtype),
        moves(f"{prefix}act", "tokens", (width + inner) * types.size, layers, types, act, inner),
        gemm(f"{prefix}down_proj", "tokens", hidden, inner, layers, dtype),
    ]


def _expert_calls(
    model: ModelSpec, experts: Experts, parallel: Parallel, types: Types, layers: int
) -> list[OperatorCall]:
    """Router, experts, and the exchange of engines that share them; biases cost nothing beside the weights."""
    hidden, size, count = model.hidden_size, types.size, experts.num_experts
    chosen = 8 * experts.experts_per_token
    calls = [
        gemm("router", "tokens", count, hidden, layers, types.activations),
        moves("gating", "tokens", count * size + chosen, layers, types, "gating", count, _GATING_KERNELS),
    ]
    shape = {
        "hidden": hidden,
        "inter": experts.intermediate_size if parallel.ep > 1 else -(-experts.intermediate_size // parallel.gpus),
        "topk": experts.experts_per_token,
        "experts": count,
        "local_experts": -(-count // parallel.ep),
        "load": EXPERT_LOADS[parallel.load],
    }
    axis: Axis = "tokens" if parallel.dp == 1 else "engines"
    calls.append(OperatorCall("experts", "moe", axis, shape, layers, types.experts))
    if experts.shared_intermediate_size:
        calls += _mlp(
            model, "shared_", experts.shared_intermediate_size, parallel.tp, types.shared_experts, types, layers
        )
        calls.append(moves("shared_add", "tokens", 3 * hidden * size, layers, types, "add", hidden))
    if parallel.dp > 1:
        calls += _exchange_calls(hidden, experts.experts_per_token, parallel, types, layers)
    return calls


def _reduces(parallel: Parallel) -> bool:
    """Whether the GPUs of an engine add up what their experts made.

    Not where engines share whole experts: then each GPU brings a part of the engine's tokens, whose results come back
    complete and are gathered.
    """
    return parallel.dp == 1 or parallel.ep == 1


def _exchange_calls(hidden: int, topk: int, parallel: Parallel, types: Types, layers: int) -> list[OperatorCall]:
    """How the tokens of several engines come to the experts and back, which vLLM does in one of two ways.

    Whole experts: every GPU takes its part of the engine's tokens, and exchanges it with all others; the engine gathers
    what came back. Parts of every expert: each GPU exchanges the engine's tokens with its counterparts of the other
    engines, and then the engine adds up (``mlp_all_reduce``).
    """
    gpus = parallel.gpus if parallel.ep > 1 else parallel.dp
    calls = []
    if parallel.exchange == "all_gather":
        calls.append(collective("expert_gather", "all_gather", "engines", gpus, hidden, layers, types))
        calls.append(collective("expert_scatter", "reduce_scatter", "engines", gpus, hidden, layers, types))
    else:
        # A GPU sends each of its tokens to the GPUs of the token's experts, as many as these are at most; and its
        # tokens are one of so many parts. MODELLED: engines' kernels for it send less where experts share a GPU.
        copies = min(topk, gpus)
        elements = -(-hidden * copies // gpus)
        for name in ("expert_dispatch", "expert_combine"):
            calls.append(collective(name, "all_to_all", "engines", gpus, elements, layers, types))
    if parallel.tp > 1 and parallel.ep > 1:
        calls.append(collective("expert_output_gather", "all_gather", "tokens", parallel.tp, hidden, layers, types))
    return calls
