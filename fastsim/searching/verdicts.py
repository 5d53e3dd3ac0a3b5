"""What a finished run says about its limits, and whether a queue built up in it.

A queue has built up where the last tenth of the requests to arrive waits, on average, longer to be scheduled than 2 %
of the time in which requests arrive, and than a request is served (from being scheduled to its last token). Where more
arrives than is served the wait grows with time, to 2 % once 2 % more arrives; where less does it stays short against a
run that is long. Waits, and so this rule, can only become longer where the same requests arrive faster, in all queues
in which nobody overtakes; with other rules that is nearly so.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastsim.searching.limits import ATTAINMENT, METRICS, Limit

if TYPE_CHECKING:
    from fastsim.config import SimulationConfig
    from fastsim.kernel.state import State

#: A queue has built up where the last tenth waits longer than this part of the time in which requests arrive.
PILED_UP = 0.02
_LAST = 10
#: What every probe that is not stopped tells, besides its limits.
_ALWAYS = (
    *((metric, quantile) for metric in ("ttft_s", "tpot_s") for quantile in ("p50", "p90", "p99")),
    ("e2e_s", "p50"),
    ("scheduling_delay_s", "p99"),
)


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
