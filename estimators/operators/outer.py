"""What an iteration runs before and behind its layers."""

from __future__ import annotations

from estimators.model_spec import ModelSpec, Stage
from estimators.operators.calls import OperatorCall, Types, collective, gemm, moves

# vLLM samples greedily in about ten kernels, two of which move the logits: 2 + 4 bytes per logit to make them float32,
# 4 to find the largest. Other sampling (temperature, top-k, top-p) takes a few such passes more and is not modelled.
_SAMPLING_KERNELS = 5
# An all-gather in units of the all-reduce of its result: half the traffic, in practice 0.6 to 0.75 of the time (NCCL on
# H100, 2 and 8 GPUs, from a million elements).
_GATHER_SHARE = 0.65
_LOGIT_BYTES = 4
# The LM head of a large vocabulary is wider than any product in the catalogues: it is timed as this many columns at
# most, so often as it takes. Its time is that of reading the weights, which the parts share out.
_WIDEST_PRODUCT = 65536


def outer_calls(model: ModelSpec, tp: int, types: Types, stage: Stage) -> list[OperatorCall]:
    """Calls of a stage outside its layers."""
    return [
        *(_first_calls(model, tp, types) if stage.first else _input_calls(model, tp, types)),
        *(_last_calls(model, tp, types) if stage.last else ()),
    ]


def _first_calls(model: ModelSpec, tp: int, types: Types) -> list[OperatorCall]:
    """Calls of the first stage before its layers."""
    hidden = model.hidden_size
    calls = [moves("embedding", "tokens", 2 * hidden * types.size, 1, types, "embedding", hidden)]
    if tp > 1:
        # The table is split by rows: each GPU looks up its own and the sum is the embedding.
        calls.append(collective("embedding_all_reduce", "all_reduce", "tokens", tp, hidden, 1, types))
    return calls


def _input_calls(model: ModelSpec, tp: int, types: Types) -> list[OperatorCall]:
    """Calls of a later stage before its layers.

    Each GPU of the stage before has sent a part of every tensor to its counterpart here, and these share the parts.
    """
    if tp == 1:
        return []
    share = _GATHER_SHARE * model.tensors_between_layers
    return [collective("input_gather", "all_reduce", "tokens", tp, model.hidden_size, share, types)]


def _last_calls(model: ModelSpec, tp: int, types: Types) -> list[OperatorCall]:
    """Calls of the last stage after its layers."""
    hidden, vocabulary, logits = model.hidden_size, model.vocabulary_per_gpu(tp), model.vocab_size
    parts, cast = -(-vocabulary // _WIDEST_PRODUCT), (types.size + _LOGIT_BYTES) * logits
    calls = [moves("final_norm", "tokens", 4 * hidden * types.size, 1, types, "norm", hidden)]
    calls.append(gemm("lm_head", "sequences", -(-vocabulary // parts), hidden, parts, types.activations))
    if tp > 1:
        width, share = vocabulary * tp, _GATHER_SHARE
        calls.append(collective("logits_gather", "all_reduce", "sequences", tp, width, share, types))
    find = _LOGIT_BYTES * logits
    calls.append(moves("logits_cast", "sequences", cast, 1, types, "logits_cast", logits, _SAMPLING_KERNELS))
    calls.append(moves("sample", "sequences", find, 1, types, "sampling", logits, _SAMPLING_KERNELS))
    return calls
