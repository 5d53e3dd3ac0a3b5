"""Models whose MLP is a mixture of experts, and how long their experts take."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from estimators.attention_grid import fill_holes, grid_of, resample
from estimators.errors import EstimatorError
from estimators.layout import FloatArray, IntArray
from estimators.model_spec import ModelSpec


@dataclass(frozen=True)
class ExpertsSpec(ModelSpec):
    """A transformer whose layers route each token to a few of many small gated MLPs.

    ``intermediate_size`` is the inner width of one expert. Over ``tp`` GPUs every expert is split, or each has some of
    them, which weighs the same; so it is where the GPUs of several engines share them.

    Attributes:
        num_experts: experts of a layer.
        experts_per_token: how many of them a token is routed to.
    """

    num_experts: int = 1
    experts_per_token: int = 1

    @property
    def mlp_width(self) -> int:
        """Inner width of what one token passes through."""
        return self.experts_per_token * self.intermediate_size

    @property
    def linear_flops_per_token(self) -> int:
        """Floating-point operations of one token in the matrix products of all layers, without the LM head."""
        qkv, output, up, down = self._layer_matrices(1)
        return 2 * self.num_layers * (qkv + output + self._router + self.experts_per_token * (up + down))

    @property
    def _router(self) -> int:
        return self.hidden_size * self.num_experts

    def _layer_parameters(self, tp: int, dp: int = 1) -> int:
        _, _, up, down = self._layer_matrices(tp)
        experts = -(-self.num_experts // dp)
        return super()._layer_parameters(tp) + self._router + (experts - 1) * (up + down)

    def expected_experts(self, tokens: IntArray) -> FloatArray:
        """Experts of one layer that have a token, on average over routers that favour none of them."""
        missed = (1.0 - self.experts_per_token / self.num_experts) ** tokens
        return np.asarray(self.num_experts * (1.0 - missed))


def refuse_experts(model: ModelSpec) -> None:
    """Raise ``EstimatorError`` if a model has experts, whose times no estimator predicts."""
    if isinstance(model, ExpertsSpec):
        wrong = "is a mixture of experts, whose times are not estimated yet"
        raise EstimatorError("model", model.name, wrong, "give tables of a layerwise profile, or choose a dense model")


def expert_seconds(
    keys: IntArray, seconds: FloatArray, model: ExpertsSpec, tokens: IntArray, gpus: int = 1
) -> FloatArray:
    """Seconds of the experts of one layer on one of the GPUs that share them.

    Whether a GPU holds some whole experts or its part of each, it reads so large a part of the weights of those that
    are activated, and computes so large a part of the products: as one with all experts does for a part of the tokens
    that activate a part of the experts. What is less than was measured takes as long as the least.

    Args:
        keys: measured tokens and activated experts, shape (rows, 2).
        seconds: measured, shape (rows,).
        model: says how many experts so many tokens activate.
        tokens: numbers of tokens, 1 or more, sorted or not.
        gpus: how many share what was measured.

    Returns:
        Linear between measurements, shape (tokens.size,).
    """
    (measured, experts), grid = grid_of(keys, seconds)
    rows = resample(fill_holes((measured, experts), grid), measured, tokens / gpus, 0)
    # Both axes at once: the row of each number of tokens at its own number of experts.
    pairs = zip(rows, model.expected_experts(tokens) / gpus, strict=True)
    return np.array([np.interp(activated, experts, row) for row, activated in pairs])
