"""The kernel for other people's compiled code: what `fastsim.kernel.run` takes, and how to start over.

docs/embedding.md shows a loop that runs a thousand simulations without returning to Python.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastsim.config import SimulationConfig
from fastsim.errors import ConfigError
from fastsim.kernel.state import State
from fastsim.options import ROUTERS
from fastsim.preparing import compile_kernel, load_parts, start_state

if TYPE_CHECKING:
    from estimators import IterationTables
    from traces import Workload


class KernelInputs(NamedTuple):
    """What `fastsim.kernel.run` takes, in its order.

    Attributes:
        state: the state before the first arrival, which a run changes.
        tables: how long iterations take, float64 [size] [s].
        policies: the batch policy and the router.
    """

    state: State
    tables: npt.NDArray[np.float64]
    policies: tuple[Any, Any]


def kernel_inputs(
    config: SimulationConfig,
    workload: "Workload",
    tables: "IterationTables | Sequence[IterationTables] | None" = None,
) -> KernelInputs:
    """Make what `fastsim.kernel.run` takes.

    After ``run(*inputs)`` the records of ``state.requests`` say when each request was scheduled and had its tokens, at
    the replicas: what lies between them and the clients is added by `fastsim.simulate` alone.

    Args:
        config: what serves.
        workload: what arrives.
        tables: as `fastsim.simulate` takes them.

    Returns:
        The arguments of one run; `fastsim.kernel.copy_state` and `fastsim.kernel.reset` make more of them.

    Raises:
        ConfigError: as `fastsim.simulate` says; also a configuration under parity, or one that keeps its batches.
        estimators.EstimatorError: as `fastsim.simulate` says.
    """
    if config.parity is not None:
        raise ConfigError("parity", config.parity, "has a kernel of its own", "leave it out, or use fastsim.simulate")
    if config.record_batches:
        mend = "leave it out, or use fastsim.simulate"
        raise ConfigError("record_batches", True, "needs a log that grows while the kernel runs", mend)
    model, device, pool, joined = load_parts(config, workload, tables)
    _, policies = compile_kernel(config, workload)
    reads_replicas = ROUTERS[config.router].reads_replicas  # type: ignore[attr-defined]
    state, values = start_state(config, workload, joined, model, device, pool, reads_replicas)
    return KernelInputs(state, values, policies)
