"""What element-wise kernels cost: they move bytes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators.devices import DeviceSpec

# Duration of an element-wise kernel that has next to nothing to do, as a GPU profiler reports it. Measured: 2 to 3 us
# in the layer profiles of vLLM 0.19 on two GPUs of the Ada and Blackwell generations.
KERNEL_SECONDS = 2.5e-6
# From the end of one kernel to the start of the next that depends on it inside a CUDA graph; profilers leave it out.
# ASSUMPTION: with the figure above it makes the 3 us that others found for small kernels inside engines.
GRAPH_GAP_SECONDS = 0.5e-6
# Share of the nominal memory bandwidth that streaming kernels reach. Measured: 0.9 to 1.0 (additions over 50 MB and
# more on A100 and H100, activations over 130 MB on the two GPUs above).
MEMORY_EFFICIENCY = 0.93
# Element-wise kernels read what the kernel before has just written, so part of it is still in the second-level cache:
# all of it while a kernel moves little, none at 1 / this many cache sizes. Fitted on the layer profiles above (0.42).
CACHE_DECAY = 0.4


def bandwidth_seconds(num_bytes: ArrayLike, device: DeviceSpec, kernels: int = 1) -> NDArray[np.float64]:
    """Time of element-wise kernels inside a CUDA graph, seconds.

    A fixed part per kernel plus the bytes at a mixture of cache and memory speed. A sum, not the larger of the two:
    both fit the profiles at the ends, the sum fits better between.

    Args:
        num_bytes: read and written by all ``kernels`` together.
        device: whose bandwidths count.
        kernels: how many launches.
    """
    moved = np.asarray(num_bytes, dtype=np.float64)
    cached = np.maximum(0.0, 1.0 - CACHE_DECAY * moved / device.l2_bytes)
    from_memory = (1.0 - cached) / (MEMORY_EFFICIENCY * device.memory_bandwidth)
    fixed = kernels * (KERNEL_SECONDS + GRAPH_GAP_SECONDS)
    return np.asarray(fixed + moved * (cached / device.l2_bandwidth + from_memory), dtype=np.float64)
