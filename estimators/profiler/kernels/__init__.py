"""The operators of a serving engine as plain functions on tensors, and how each is made ready for timing.

Importing it imports torch.
"""

from estimators.profiler.kernels import (  # noqa: F401 (they register operators)
    elementwise,
    experts,
    latent,
    mixed,
    products,
    sequences,
)
from estimators.profiler.kernels.prepared import Prepared, operators, prepare

__all__ = ["Prepared", "operators", "prepare"]
