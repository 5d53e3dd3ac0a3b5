"""How the GPUs of a deployment share the work of an iteration."""

from __future__ import annotations

from dataclasses import dataclass

from estimators.errors import EstimatorError
from estimators.expert_traffic import EXPERT_EXCHANGES, EXPERT_LOADS
from estimators.model_spec import ModelSpec


@dataclass(frozen=True)
class Parallel:
    """How GPUs share a layer.

    Attributes:
        tp: GPUs of an engine: they share every layer but for its experts.
        dp: engines that share the experts; 1 where there are none to share.
        ep: GPUs that have some whole experts each, ``tp * dp``; 1 where each has its part of every expert.
        load: key of ``EXPERT_LOADS``.
        exchange: one of ``EXPERT_EXCHANGES``.
    """

    tp: int
    dp: int
    ep: int
    load: str
    exchange: str

    @classmethod
    def of(cls, model: ModelSpec, tp: int, dp: int, ep: int, load: str, exchange: str) -> Parallel:
        """Check the arguments; engines of a model without experts share nothing.

        Raises:
            EstimatorError: naming the one that is wrong.
        """
        check_sharing(model, tp, dp, ep)
        for field, value, known in (
            ("expert_load", load, tuple(EXPERT_LOADS)),
            ("expert_exchange", exchange, EXPERT_EXCHANGES),
        ):
            if value not in known:
                raise EstimatorError(field, value, "is not known", f"choose one of {', '.join(known)}")
        shared = dp if model.experts is not None else 1
        if shared > 1 and ep == 1 and exchange != "all_gather":
            wrong = "sends tokens to whole experts, of which each GPU has a part only"
            raise EstimatorError("expert_exchange", exchange, wrong, f"give all_gather or expert_parallel = {tp * dp}")
        return cls(tp, shared, ep, load, exchange)

    @property
    def gpus(self) -> int:
        """GPUs that share the experts."""
        return self.tp * self.dp


def check_sharing(model: ModelSpec, tp: int, dp: int, ep: int) -> None:
    """Raise ``EstimatorError`` unless ``dp`` engines of ``tp`` GPUs can share the experts of a model over ``ep``."""
    for name, value in (("data_parallel", dp), ("expert_parallel", ep)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise EstimatorError(name, value, "is not a number of GPUs", "give 1 or more")
    if ep > 1 and model.experts is None:
        raise EstimatorError("expert_parallel", ep, f"shares experts, and {model.name} has none", "give 1")
    if ep not in (1, tp * dp):
        wrong = f"is neither 1 nor all {tp * dp} GPUs (tp * data_parallel)"
        raise EstimatorError("expert_parallel", ep, wrong, f"give 1 or {tp * dp}" if tp * dp > 1 else "give 1")
    if model.experts is not None and ep > model.experts.num_experts:
        wrong = f"is more than the {model.experts.num_experts} experts of {model.name}"
        raise EstimatorError("expert_parallel", ep, wrong, "give 1, or fewer GPUs")
