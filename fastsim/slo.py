"""Service level objectives: which part of the requests meet them, and how many of those there are in a second.

A request meets the objectives of its class if it meets all of them, and goodput counts such requests. One with a single
output token has no time per later token, and no gap between tokens; it meets objectives on these.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

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
    return describe_met(source, objectives, names, count_met(objectives, request_class, times), tbt_p99_s, duration_s)


class Met(NamedTuple):
    """How many requests of a class meet what is asked of them.

    Attributes:
        requests: how many there are.
        met: of these those that meet all objectives.
        each: by objective those that meet it.
    """

    requests: int
    met: int
    each: dict[str, int]


def count_met(
    objectives: Mapping[str, Any],
    request_class: npt.NDArray[np.integer[Any]],
    times: Mapping[str, npt.NDArray[np.float64]],
) -> dict[int, Met]:
    """How many requests of each class meet their objectives; the arguments are those of `describe_objectives`."""
    found = {}
    for number in np.unique(request_class).tolist():
        own = request_class == number
        met_all = np.ones(int(own.sum()), bool)
        each = {}
        for name, limit_s in _limits(objectives, number).items():
            # Not "at most": what a request does not have is no breach.
            kept = ~(times[name][own] > limit_s)
            each[name] = int(kept.sum())
            met_all &= kept
        found[number] = Met(len(met_all), int(met_all.sum()), each)
    return found


def add_met(counts: dict[int, Met], more: Mapping[int, Met]) -> None:
    """Add the counts of other requests to those of some, in place."""
    for number, new in more.items():
        old = counts.get(number, Met(0, 0, {}))
        each = {name: count + old.each.get(name, 0) for name, count in new.each.items()}
        counts[number] = Met(old.requests + new.requests, old.met + new.met, each)


def _limits(objectives: Mapping[str, Any], number: int) -> dict[str, float]:
    """The objectives of a class on times of requests [s]."""
    general = {name: limit for name, limit in objectives.items() if name in TIMES}
    own: dict[str, float] = objectives.get(str(number), {})
    return general | own


def describe_met(
    source: str,
    objectives: Mapping[str, Any],
    names: Mapping[int, str],
    counts: Mapping[int, Met],
    tbt_p99_s: float | None,
    duration_s: float,
) -> dict[str, Any]:
    """What `describe_objectives` says, from what `count_met` gives."""
    classes: dict[str, Any] = {}
    asked, met = dict.fromkeys(TIMES, 0), dict.fromkeys(TIMES, 0)
    for number, own in sorted(counts.items()):
        attained = {}
        for name, limit_s in _limits(objectives, number).items():
            asked[name] += own.requests
            met[name] += own.each[name]
            attained[name] = {"limit_s": limit_s, "attainment": own.each[name] / own.requests}
        named = {"name": names[number]} if number in names else {}
        classes[str(number)] = named | _goodput(own.requests, own.met, duration_s) | {"objectives": attained}
    whole = {name: {"requests": asked[name], "attainment": met[name] / asked[name]} for name in TIMES if asked[name]}
    requests, count = sum(own.requests for own in counts.values()), sum(own.met for own in counts.values())
    found = {"source": source} | _goodput(requests, count, duration_s) | {"objectives": whole, "classes": classes}
    if (limit := objectives.get(TBT_P99)) is not None:
        is_met = tbt_p99_s is None or tbt_p99_s <= limit
        found[TBT_P99] = {"limit_s": limit, "value_s": tbt_p99_s, "met": is_met}
    return found


def _goodput(requests: int, met: int, duration_s: float) -> dict[str, Any]:
    return {
        "requests": requests,
        "met": met,
        "attainment": met / requests,
        "goodput_requests_per_s": met / duration_s if duration_s > 0 else None,
    }
