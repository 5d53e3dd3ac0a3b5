"""Mixtures of experts, and how long a layerwise profile says that they take."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from estimators.attention_grid import fill_holes, grid_of, resample
from estimators.layout import FloatArray, IntArray


@dataclass(frozen=True)
class Experts:
    """Layers that route each token to a few of many small MLPs, gated or not as the model's.

    Over several GPUs every expert is split, or each has some of them, which weighs the same; so it is where the GPUs of
    several engines share them.

    Attributes:
        num_experts: routed experts of a layer.
        experts_per_token: how many of them a token is routed to.
        intermediate_size: inner width of one of them.
        shared_intermediate_size: inner width of the expert, or the sum of those, that every token passes, 0 for none.
        dense_layers: layers that have an ordinary MLP in their place.
        bias: the projections of the routed experts add biases.
        router_bias: the router adds a bias to the experts' scores, be it only for the choice.
    """

    num_experts: int
    experts_per_token: int
    intermediate_size: int
    shared_intermediate_size: int = 0
    dense_layers: tuple[int, ...] = ()
    bias: bool = False
    router_bias: bool = False

    @property
    def width(self) -> int:
        """Inner width of what one token passes through."""
        return self.experts_per_token * self.intermediate_size + self.shared_intermediate_size

    def expected_experts(self, tokens: IntArray) -> FloatArray:
        """Experts of one layer that have a token, on average over routers that favour none of them."""
        missed = (1.0 - self.experts_per_token / self.num_experts) ** tokens
        return np.asarray(self.num_experts * (1.0 - missed))


def expert_seconds(
    keys: IntArray, seconds: FloatArray, experts: Experts, tokens: IntArray, gpus: int = 1
) -> FloatArray:
    """Seconds of the experts of one layer on one of the GPUs that share them.

    Whether a GPU holds some whole experts or its part of each, it reads so large a part of the weights of those that
    are activated, and computes so large a part of the products: as one with all experts does for a part of the tokens
    that activate a part of the experts. What is less than was measured takes as long as the least.

    Args:
        keys: measured tokens and activated experts, shape (rows, 2).
        seconds: measured, shape (rows,).
        experts: say how many of them so many tokens activate.
        tokens: numbers of tokens, 1 or more, sorted or not.
        gpus: how many share what was measured.

    Returns:
        Linear between measurements, shape (tokens.size,).
    """
    (measured, activated), grid = grid_of(keys, seconds)
    rows = resample(fill_holes((measured, activated), grid), measured, tokens / gpus, 0)
    # Both axes at once: the row of each number of tokens at its own number of experts.
    pairs = zip(rows, experts.expected_experts(tokens) / gpus, strict=True)
    return np.array([np.interp(count, activated, row) for row, count in pairs])
