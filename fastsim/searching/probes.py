"""One probe of a capacity: the workload at one rate, and whether the limits hold.

A probe holds if every limit does and no queue builds up: if the last tenth of the requests to arrive does not wait, on
average, longer to be scheduled than 2 % of the time in which requests arrive and than a request is served.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastsim.errors import ConfigError
from fastsim.searching.limits import ATTAINMENT, METRICS, Limit

if TYPE_CHECKING:
    from fastsim.config import SimulationConfig
    from fastsim.kernel.state import State
    from traces import Workload

#: A queue has built up where the last tenth waits longer than this part of the time in which requests arrive.
PILED_UP = 0.02
_LAST = 10
#: What every probe that is not stopped tells, besides its limits.
_ALWAYS = (
    *((metric, quantile) for metric in ("ttft_s", "tpot_s") for quantile in ("p50", "p90", "p99")),
    ("e2e_s", "p50"),
    ("scheduling_delay_s", "p99"),
)


@dataclass(frozen=True)
class Probe:
    """One simulation at one rate.

    Attributes:
        qps: requests that arrive in a second, (n - 1) / (last - first arrival).
        holds: whether every limit holds and no queue builds up.
        stopped_early: the simulation ended as soon as it was certain that a limit breaks; then there are no metrics.
        binding: which limit breaks, or is the nearest to, in words.
        metrics: value of each limit by its key, such as ``"ttft_s.p90"``; and always ``ttft_s`` and ``tpot_s`` at p50,
            p90 and p99, ``e2e_s.p50``, ``scheduling_delay_s.p99``, ``throughput_requests_per_s``, ``mfu``,
            ``waiting_last_s`` (mean scheduling delay of the last tenth to arrive), ``served_s`` (mean time from being
            scheduled to the last token) and ``arriving_s`` (last arrival less the first). A value that no request has
            is left out.
        requests: that were simulated, as far as the simulation went.
        wall_s: it took.
    """

    qps: float
    holds: bool
    stopped_early: bool
    binding: str
    metrics: Mapping[str, float]
    requests: int
    wall_s: float


class Prober:
    """Probes one configuration under one workload at any rate; what rates share is prepared once."""

    def __init__(
        self, config: "SimulationConfig", workload: "Workload", limits: Sequence[Limit], tables: Any = None
    ) -> None:
        """Prepare the probes.

        Args:
            config: what serves; nothing is recorded that no limit needs.
            workload: what arrives, at any rate.
            limits: from `read_limits`.
            tables: as `fastsim.simulate` takes them; looked up, or built and cached, when not given.

        Raises:
            ConfigError: arrivals have no rate or none that can be scaled, requests have no objectives of which a part
                could be attained, or as `fastsim.simulate`.
            estimators.EstimatorError: unknown model or device, or a model that cannot be split that way.
        """
        from fastsim.machine import tables_for
        from fastsim.slo import objectives_of

        _check(config, workload)
        _, self.objectives, _ = objectives_of(config.slo, workload)
        if any(limit.metric == ATTAINMENT for limit in limits) and not any(self.objectives.values()):
            mend = "give slo of the configuration, or of the workload, such as ttft_s = 1.0"
            raise ConfigError("slo.attainment", None, "has no objectives that a request could meet", mend)
        self.config = config.with_fields(record_batches=False, record_metrics=_needs_notes(config))
        self.workload, self.limits = workload, tuple(limits)
        self.tables = tables_for(config, workload.block_tokens > 0) if tables is None else tables

    def __call__(self, qps: float) -> Probe:
        """Simulate the workload at a rate."""
        from fastsim.simulation import _simulate

        started = time.perf_counter()
        workload = self.workload.scaled(qps)
        result, _ = _simulate(self.config, workload, self.tables)
        metrics = measure(result.config, result.state, self.limits, self.objectives)
        metrics |= {name: result.summary["metrics"][name] or 0.0 for name in ("throughput_requests_per_s", "mfu")}
        holds, binding = judge(metrics, self.limits)
        return Probe(qps, holds, False, binding, metrics, len(workload), time.perf_counter() - started)


def _check(config: "SimulationConfig", workload: "Workload") -> None:
    """Refuse what has no rate that could be changed.

    Raises:
        ConfigError: as said.
    """
    if config.client != "open":
        mend = 'give client = "open"'
        raise ConfigError("client", config.client, "sends as fast as it is served, at no rate", mend)
    if not np.isnan(workload.think_s).all():
        mend = "give a workload without think times"
        raise ConfigError("think_s", None, "lets requests arrive when others complete, at no rate of their own", mend)
    if workload.qps is None:
        mend = "take one with arrivals spread over time"
        raise ConfigError("workload", None, "arrives at one time, which has no rate to change", mend)


def _needs_notes(config: "SimulationConfig") -> bool:
    """Whether an objective is on the longest gap between tokens, which only a run that records knows."""
    tables = [config.slo, *(table for table in config.slo.values() if isinstance(table, Mapping))]
    return any("worst_tbt_s" in table for table in tables)


def measure(
    config: "SimulationConfig", state: "State", limits: Sequence[Limit], objectives: Mapping[str, Any]
) -> dict[str, float]:
    """What the limits are about, and what every probe tells, of a finished run.

    Args:
        config: what was simulated; its warm-up and cool-down are not measured, but count where a queue builds up.
        state: after the run, with requests in the order of the workload and the times of their clients.
        limits: from `read_limits`.
        objectives: of each request, from `fastsim.slo.objectives_of`.
    """
    from fastsim.metrics import latencies
    from fastsim.windows import measured

    requests = state.requests
    counted = requests[measured(config, requests)]
    values = {name: np.sort(column) for name, column in latencies(counted).items() if name in METRICS}
    found: dict[str, float] = {}
    for metric, quantile in {*_ALWAYS, *((limit.metric, limit.quantile) for limit in limits)}:
        limit = Limit(metric, quantile, 0.0)
        if metric == ATTAINMENT:
            found[limit.key] = _attained(state, counted, measured(config, requests), objectives)
        elif metric == "tbt_s":
            if (value := _of_gaps(state, limit)) is not None:
                found[limit.key] = value
        elif len(values[metric]) > 0:
            found[limit.key] = _statistic(values[metric], limit)
    return found | _queue(requests)


def _statistic(ascending: npt.NDArray[np.float64], limit: Limit) -> float:
    """The mean, or a quantile by linear interpolation."""
    if limit.part is None:
        return float(ascending.mean())
    rank = limit.part * (len(ascending) - 1)
    below = int(rank)
    low, high = ascending[below], ascending[min(below + 1, len(ascending) - 1)]
    return float(low + (high - low) * (rank - below))


def _of_gaps(state: "State", limit: Limit) -> float | None:
    """The same of all times between tokens, from their histogram; None of none."""
    from fastsim.kernel.histogram import NUM_BUCKETS, bucket_values

    counts = state.integers[:NUM_BUCKETS]
    cumulated = np.cumsum(counts)
    n = int(cumulated[-1])
    if n == 0:
        return None
    if limit.part is None:
        return float(state.replicas["tbt_sum_s"].sum()) / n
    rank = limit.part * (n - 1)
    below = int(rank)
    low, high = bucket_values()[np.searchsorted(cumulated, [below, min(below + 1, n - 1)], side="right")]
    return float(low + (high - low) * (rank - below))


def _attained(state: "State", counted: np.ndarray, which: Any, objectives: Mapping[str, Any]) -> float:
    """The part of the requests that meet the objectives of their class."""
    from fastsim.kernel.prepare_series import worst_tbt_s
    from fastsim.slo import describe_objectives, times_of

    needs_worst = any("worst_tbt_s" in table for table in (objectives, *objectives.values()) if hasattr(table, "keys"))
    times = times_of(counted, worst_tbt_s(state)[which] if needs_worst else None)
    return float(describe_objectives("", objectives, {}, counted["request_class"], times, None, 0.0)["attainment"])


def _queue(requests: np.ndarray) -> dict[str, float]:
    """What says whether a queue builds up, of all requests of a run in the order of their arrival."""
    arrival_s, scheduled_s = (np.ascontiguousarray(requests[name]) for name in ("arrival_s", "scheduled_s"))
    last = slice(-max(len(requests) // _LAST, 1), None)
    return {
        "waiting_last_s": float((scheduled_s[last] - arrival_s[last]).mean()),
        "served_s": float((requests["completed_s"] - scheduled_s).mean()),
        "arriving_s": float(arrival_s[-1] - arrival_s[0]),
    }


def judge(metrics: Mapping[str, float], limits: Sequence[Limit]) -> tuple[bool, str]:
    """Whether a probe holds, and which limit breaks, or is the nearest to, in words."""
    values = [metrics.get(limit.key) for limit in limits]
    waiting_s, arriving_s = metrics["waiting_last_s"], metrics["arriving_s"]
    if waiting_s > max(PILED_UP * arriving_s, metrics["served_s"]):
        queue = f"a queue builds up: the last tenth of the requests waits {waiting_s:.3g} s to be scheduled"
    else:
        queue = ""
    broken = not all(limit.holds(value) for limit, value in zip(limits, values, strict=True))
    if queue and not broken:
        return False, queue
    strains = [limit.strain(value) for limit, value in zip(limits, values, strict=True)]
    nearest = int(np.argmax(strains))
    return not broken, describe(limits[nearest], values[nearest])


def describe(limit: Limit, value: float | None) -> str:
    """A limit and a value of it in words."""
    if value is None:
        return f"{limit.name}: of no request"
    if limit.metric == ATTAINMENT:
        return f"{limit.name} {value:.2%}, at least {limit.limit:.4g}"
    return f"{limit.name} {value:.3g} s, at most {limit.limit:.3g} s"
