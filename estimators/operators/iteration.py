"""The operators of one iteration."""

from __future__ import annotations

from estimators.model_spec import ModelSpec
from estimators.operators.attention import attention_calls
from estimators.operators.calls import OperatorCall, Types
from estimators.operators.mlp import mlp_calls
from estimators.operators.outer import outer_calls
from estimators.operators.parallel import Parallel


def iteration_calls(
    model: ModelSpec,
    tp: int = 1,
    dtype: str = "bf16",
    pp: int = 1,
    stage: int = 0,
    kv_dtype: str = "auto",
    data_parallel: int = 1,
    expert_parallel: int = 1,
    expert_load: str = "power_law_1.2",
    expert_exchange: str = "all_gather",
) -> tuple[OperatorCall, ...]:
    """List the operators of one iteration over the layers of a pipeline stage on one of its GPUs.

    Args:
        model: what runs.
        tp: GPUs that share each layer.
        dtype: of the weights of the layers, and with them of the rest but for quantised ones, see
            ``activation_dtype``; ``"auto"`` is that of the checkpoint.
        pp: number of pipeline stages.
        stage: which of them.
        kv_dtype: of the KV cache, see ``ModelSpec.kv_cache_dtype``.
        data_parallel: engines of ``tp`` GPUs each; where a model has experts they share them, and those calls grow with
            the tokens of all ``"engines"``.
        expert_parallel: GPUs that have some whole experts each: ``tp * data_parallel``, or 1 where each has a part of
            every expert.
        expert_load: how unevenly tokens are routed, a key of ``EXPERT_LOADS``.
        expert_exchange: how they come to the experts of other engines and back, one of ``EXPERT_EXCHANGES``.

    Raises:
        EstimatorError: when ``tp`` or ``pp`` do not fit the model, a dtype is not one that it can have, or its experts
            cannot be shared so.
    """
    dtype = model.resolve_dtype(dtype)
    model.check_tensor_parallel(tp)
    types, part = Types.of(model, dtype, kv_dtype), model.pipeline_stage(pp, stage)
    parallel = Parallel.of(model, tp, data_parallel, expert_parallel, expert_load, expert_exchange)
    return (
        *outer_calls(model, tp, types, part),
        *attention_calls(model, tp, types, part),
        *mlp_calls(model, parallel, types, part),
    )
