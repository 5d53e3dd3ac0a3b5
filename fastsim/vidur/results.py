"""What a run under parity returns: the frames and the summary of any run, and Vidur's own columns."""

import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from fastsim.config import SimulationConfig
from fastsim.errors import ConfigError
from fastsim.kernel import state as ours
from fastsim.kernel.state import records
from fastsim.kernel.vidur.state import State
from fastsim.result import SimulationResult, summarize

if TYPE_CHECKING:
    import polars as pl

    from estimators import DeviceSpec, ModelSpec
    from estimators.vidur_tables import OperatorTables
    from traces import Workload

_VIDUR_COLUMNS = {
    "execution_time_s": "execution_s",
    "model_execution_time_s": "model_execution_s",
    "preempted_time_s": "preempted_s",
    "final_prompt_tokens": "prefill",
    "final_output_tokens": "decode",
    "processed_tokens": "processed",
}


@dataclass(frozen=True)
class ParityResult(SimulationResult):
    """One run under ``parity="vidur"``.

    Attributes:
        vidur: the tables of Vidur's loop after the run.
    """

    vidur: State = field(repr=False)

    @functools.cached_property
    def requests(self) -> "pl.DataFrame | None":
        """One row per request, in order of arrival, as in any result; null where a time limit came first.

        Besides: ``execution_time_s`` (its stage runs), ``model_execution_time_s`` (the same without the host),
        ``preempted_time_s`` (the gaps between them), the prompt and output that restarts left it with, and
        ``processed_tokens``.
        """
        frame = super().requests
        if frame is None:
            return None
        import polars as pl
        import polars.selectors as cs

        more = {name: np.ascontiguousarray(self.vidur.work.requests[key]) for name, key in _VIDUR_COLUMNS.items()}
        columns = {name: pl.Series(values) for name, values in more.items()}
        return frame.with_columns(cs.float().fill_nan(None), **columns)

    @functools.cached_property
    def batches(self) -> "pl.DataFrame | None":
        """One row per micro-batch and stage, in order of their start, with Vidur's keys; None without the log."""
        if not self.config.record_batches:
            return None
        import polars as pl

        log = self.vidur.log[: int(self.vidur.cluster["num_stage_runs"][0])]
        assert log.dtype.names is not None
        return pl.DataFrame({name: np.ascontiguousarray(log[name]) for name in log.dtype.names})


def translate(vidur: State, workload: "Workload") -> ours.State:
    """Vidur's state in the tables of our own loop; NaN where something never happened."""
    theirs = vidur.work.requests
    requests = records(ours.REQUEST, len(theirs))
    for name in ("prompt_tokens", "output_tokens", "request_class", "session"):
        requests[name] = getattr(workload, name)
    for name in ("arrival_s", "replica"):
        requests[name] = theirs[name]
    requests["preemptions"] = theirs["restarts"]
    requests["row"] = np.arange(len(requests))
    completed = theirs["processed"] == theirs["prefill"] + theirs["decode"]
    requests["scheduled_s"] = np.where(theirs["scheduled"] == 1, theirs["scheduled_s"], np.nan)
    requests["first_token_s"] = np.where(completed | (theirs["first_token_s"] > 0), theirs["first_token_s"], np.nan)
    requests["completed_s"] = np.where(completed, theirs["completed_s"], np.nan)
    replicas = records(ours.REPLICA, len(vidur.replicas))
    for name in set(vidur.replicas.dtype.names or ()) & set(replicas.dtype.names or ()):
        replicas[name] = vidur.replicas[name]
    stages = records(ours.STAGE, len(vidur.stages))
    stages["busy_s"] = vidur.stages["busy_s"]
    # Theirs are sums over stage runs: the means over those runs stay what they were.
    weight = np.divide(
        replicas["active_s"], replicas["busy_s"], where=replicas["busy_s"] > 0, out=np.zeros(len(replicas))
    )
    for name in ("block_seconds", "running_seconds"):
        replicas[name] *= weight
    nothing = [records(dtype, size) for dtype, size in ((ours.CLUSTER, 1), (ours.BATCH, 0), (ours.PENDING, 0))]
    return ours.State(requests, replicas, nothing[0], vidur.tbt, nothing[1], stages, nothing[2], replicas)


def summarize_parity(
    config: SimulationConfig,
    workload: "Workload",
    tables: "OperatorTables",
    model: "ModelSpec",
    device: "DeviceSpec",
    state: ours.State,
) -> dict[str, Any]:
    """The summary of any run; where a time limit came first, its metrics are those of the completed requests.

    Raises:
        ConfigError: no request completed.
    """
    completed = state.requests[~np.isnan(state.requests["completed_s"])]
    if len(completed) == 0:
        limit_s = config.parity_choice.time_limit_s
        raise ConfigError("parity.time_limit_s", limit_s, "comes before any request completes", "give a longer one")
    summary = summarize(config, workload, tables, model, device, state._replace(requests=completed))
    summary["simulation"]["requests"] = len(workload)
    return summary
