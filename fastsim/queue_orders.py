"""Keys of the queue orders: what `fastsim.options.QUEUES` sorts the waiting requests by."""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from fastsim.config import SimulationConfig
    from traces import Workload

#: Child of the configuration's seed from which prediction errors are drawn, apart from those of workloads and routers.
_PREDICTION_ERRORS = 0x51F
_MOST_TOKENS = 2**31 - 1


def prediction_stream(config: "SimulationConfig") -> np.random.Generator:
    """The stream of prediction errors of a run."""
    return np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=(_PREDICTION_ERRORS,)))


def order_keys(
    config: "SimulationConfig", workload: "Workload", predictions: np.random.Generator | None = None
) -> npt.NDArray[np.int64] | None:
    """Key of each request in its configuration's queue order, [num_requests]; None where all are equal.

    With a prediction error the predicted output tokens of a request are output_tokens * exp(error * z), z standard
    normal, rounded, and at least 1.

    Args:
        config: what serves.
        workload: what arrives, or the next of it.
        predictions: where the latter's prediction errors come from; None for the beginning of `prediction_stream`.
    """
    if config.queue == "priority":
        return workload.request_class.astype(np.int64)
    if config.queue == "sjf":
        if config.queue_order.prediction_error == 0:
            return workload.output_tokens
        rng = prediction_stream(config) if predictions is None else predictions
        with np.errstate(over="ignore"):  # clipped below
            factor = np.exp(config.queue_order.prediction_error * rng.standard_normal(len(workload)))
        predicted: npt.NDArray[np.float64] = np.rint(workload.output_tokens * factor)
        return predicted.clip(1, _MOST_TOKENS).astype(np.int64)
    return None
