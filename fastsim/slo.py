"""Service level objectives: which part of the requests meet them, and how many of those there are in a second.

A request meets the objectives of its class if it meets all of them, and goodput counts such requests. One with a single
output token has no time per later token, and no gap between tokens; it meets objectives on these.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastsim.measuring import TBT_P99, TIMES

if TYPE_CHECKING:
    from traces import Workload


def objectives_of(
    configured: Mapping[str, Any], workload: "Workload"
) -> tuple[str, Mapping[str, Any], Mapping[int, str]]:
    """The objectives of a run, where they come from, and what its classes are called.

    Those of the configuration stand in place of all that the workload carries.
    """
    names = {number: promised.name for number, promised in enumerate(workload.objectives)}
    if configured:
        return "configuration", configured, names
    promised = {
        str(number): {name: vars(objective)[name] for name in TIMES if vars(objective).get(name) is not None}
        for number, objective in enumerate(workload.objectives)
    }
    return "workload", promised, names


def times_of(
    requests: np.ndarray, worst_tbt_s: npt.NDArray[np.float64] | None = None
) -> dict[str, npt.NDArray[np.float64]]:
    """What `describe_objectives` takes, of REQUEST records and what was recorded beside them, if it was."""
    arrival_s, first_s, completed_s = (requests[name].copy() for name in ("arrival_s", "first_token_s", "completed_s"))
    later = requests["output_tokens"] - 1.0
    tpot_s = np.divide(completed_s - first_s, later, where=later > 0, out=np.full(len(later), np.nan))
    times = {"ttft_s": first_s - arrival_s, "tpot_s": tpot_s, "e2e_s": completed_s - arrival_s}
    return times if worst_tbt_s is None else times | {"worst_tbt_s": worst_tbt_s}


def describe_objectives(
    source: str,
    objectives: Mapping[str, Any],
    names: Mapping[int, str],
    request_class: npt.NDArray[np.integer[Any]],
    times: Mapping[str, npt.NDArray[np.float64]],
    tbt_p99_s: float | None,
    duration_s: float,
) -> dict[str, Any]:
    """Attainment and goodput, of all requests and of each class.

    Args:
        source: where the objectives come from.
        objectives: what `read_objectives` gives.
        names: what classes are called, where they have names.
        request_class: integers [n].
        times: by name of `TIMES` float64 [n] [s], NaN where a request has no such time.
        tbt_p99_s: of the whole run [s].
        duration_s: in which the requests arrived, or were served [s].
    """
    n = len(request_class)
    met_all = np.ones(n, bool)
    asked = {name: np.zeros(n, bool) for name in TIMES}
    met = {name: np.zeros(n, bool) for name in TIMES}
    classes: dict[str, Any] = {}
    general = {name: limit for name, limit in objectives.items() if name in TIMES}
    for number in np.unique(request_class).tolist():
        limits = general | objectives.get(str(number), {})
        own = request_class == number
        for name, limit_s in limits.items():
            # Not "at most": what a request does not have is no breach.
            kept = ~(times[name][own] > limit_s)
            asked[name][own], met[name][own] = True, kept
            met_all[own] &= kept
        attained = {
            name: {"limit_s": limit_s, "attainment": float(met[name][own].mean())} for name, limit_s in limits.items()
        }
        named = {"name": names[number]} if number in names else {}
        classes[str(number)] = named | _goodput(met_all[own], duration_s) | {"objectives": attained}
    whole = {
        name: {"requests": int(asked[name].sum()), "attainment": float(met[name][asked[name]].mean())}
        for name in TIMES
        if asked[name].any()
    }
    found = {"source": source} | _goodput(met_all, duration_s) | {"objectives": whole, "classes": classes}
    if (limit_s := objectives.get(TBT_P99)) is not None:
        is_met = tbt_p99_s is None or tbt_p99_s <= limit_s
        found[TBT_P99] = {"limit_s": limit_s, "value_s": tbt_p99_s, "met": is_met}
    return found


def _goodput(met: npt.NDArray[np.bool_], duration_s: float) -> dict[str, Any]:
    count = int(met.sum())
    return {
        "requests": len(met),
        "met": count,
        "attainment": count / len(met),
        "goodput_requests_per_s": count / duration_s if duration_s > 0 else None,
    }
