"""From an operator's shape to what its estimator sees: numbers for the trees, and a roofline.

The trees predict log(time / roofline). A forest cannot extrapolate; the roofline does it for it:
a launch floor plus the time of the arithmetic plus the time of the memory or link traffic, at the device's peak rates.
Features are logarithms of the quantities kernels are tiled and bound by, so that a shape never measured lands near
measured shapes that keep the device busy in the same way. Computed in float64, handed on as float32, by the same code
in training and in prediction.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from estimators.features import attention, collectives, elementwise, gemm, latent, moe
from estimators.features.roofline import ACTIVATION_BYTES, Floats, Operator, Roofline
from estimators.profiles import DTYPES

__all__ = [
    "ACTIVATION_BYTES",
    "OPERATORS",
    "SOURCE_FILES",
    "Floats",
    "Operator",
    "Roofline",
    "features_and_roofline",
    "operators_of",
]

OPERATORS: Mapping[str, Operator] = {
    "gemm": gemm.GEMM,
    "prefill_attention": attention.PREFILL_ATTENTION,
    "decode_attention": attention.DECODE_ATTENTION,
    "latent_prefill": latent.LATENT_PREFILL,
    "latent_decode": latent.LATENT_DECODE,
    "latent_bmm": gemm.LATENT_BMM,
    "moe": moe.MOE,
    "all_reduce": collectives.ALL_REDUCE,
    "all_gather": collectives.ALL_GATHER,
    "reduce_scatter": collectives.REDUCE_SCATTER,
    "all_to_all": collectives.ALL_TO_ALL,
    **elementwise.ELEMENTWISE_OPERATORS,
}
#: The code that a prediction depends on, besides the trained files.
SOURCE_FILES: tuple[Path, ...] = tuple(sorted(Path(__file__).parent.glob("*.py")))


def operators_of(dtype: str) -> tuple[str, ...]:
    """Operators that there can be in a dtype: all in bf16, fp32; in others those whose weights or KV cache have it."""
    return tuple(operator for operator in OPERATORS if dtype in DTYPES[operator])


def features_and_roofline(
    operator: str, columns: Mapping[str, Floats], roofline: Roofline
) -> tuple[NDArray[np.float32], Floats]:
    """Compute what the trees of ``operator`` see.

    Args:
        operator: a key of ``OPERATORS``.
        columns: the operator's columns, float64, all of length n.
        roofline: the constants.

    Returns:
        Features, float32 of shape (n, features), and the roofline in seconds, float64 of shape (n,).
    """
    values, seconds = OPERATORS[operator].compute(columns, roofline)
    features = np.empty((len(seconds), len(values)), dtype=np.float32)
    for index, value in enumerate(values):
        features[:, index] = value
    return features, seconds
