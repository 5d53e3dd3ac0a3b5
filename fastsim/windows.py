"""Which requests of a run are measured, and whether its load was steady.

The measured ones arrive behind the warm-up and before the cool-down, which are counted from the first and from the last
arrival, in time or in requests.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastsim.errors import ConfigError
from fastsim.measuring import read_span

if TYPE_CHECKING:
    from fastsim.config import SimulationConfig

#: Spans of time whose mean numbers of outstanding requests are compared.
SPANS = 10
#: Part of the arrivals left out of that where no warm-up is given: a run begins with an empty system.
_FILLING = 0.2
#: The number grows if Mann and Kendall's z is above this (1 %, one-sided) ...
Z_GROWING = 2.326
#: ... and so large a part of the requests that arrived is what the line through it rises by.
PILED_UP = 0.02


class GrowingLoadWarning(UserWarning):
    """More and more requests were outstanding while they arrived."""


class Window(NamedTuple):
    """What of a run is measured.

    Attributes:
        counted: bool [n], which requests.
        start_s: when the warm-up ends [s].
        end_s: when the cool-down begins, else the last arrival [s].
    """

    counted: npt.NDArray[np.bool_]
    start_s: float
    end_s: float


def find_window(config: "SimulationConfig", arrival_s: npt.NDArray[np.float64]) -> Window | None:
    """The window of a run, or None where all of it is measured.

    Args:
        config: what was simulated.
        arrival_s: float64 [n], when requests arrived, in any order [s].

    Raises:
        ConfigError: no request arrives in the window.
    """
    if config.warmup is None and config.cooldown is None:
        return None
    n, ascending = len(arrival_s), np.sort(arrival_s)
    first, last = float(ascending[0]), float(ascending[-1])
    rank = np.empty(n, np.int64)
    rank[np.argsort(arrival_s, kind="stable")] = np.arange(n)
    counted, start_s, end_s = np.ones(n, bool), first, last
    for name in ("warmup", "cooldown"):
        if (value := getattr(config, name)) is None:
            continue
        amount, is_count = read_span(name, value)
        if is_count and name == "warmup":
            counted &= rank >= amount
            start_s = float(ascending[min(int(amount), n - 1)])
        elif is_count:
            counted &= rank < n - amount
            end_s = float(ascending[max(n - int(amount), 0)]) if amount > 0 else last
        elif name == "warmup":
            start_s = first + amount
            counted &= arrival_s >= start_s
        else:
            end_s = last - amount
            counted &= arrival_s <= end_s
        if not counted.any():
            wrong = f"leaves none of the {n} requests to be measured"
            raise ConfigError(name, value, wrong, "give less, or more requests")
    return Window(counted, start_s, end_s)


def measured(
    config: "SimulationConfig", requests: np.ndarray | Mapping[str, npt.NDArray[Any]]
) -> "slice | npt.NDArray[np.bool_]":
    """Which requests count, of those of a run in the order of its workload: an index into their records or columns."""
    window = find_window(config, requests["arrival_s"])
    if window is not None:
        return window.counted
    return slice(getattr(config.client_choice, "warmup_requests", 0), None)


def describe_window(config: "SimulationConfig", window: Window, requests: np.ndarray) -> dict[str, Any]:
    """What arrived and what completed in a window.

    Args:
        config: what was simulated.
        window: from `find_window`.
        requests: REQUEST records of the whole run.

    Returns:
        ``requests`` that are measured, and rates: arrivals, completions, and the output tokens of the requests that
        complete in it, whenever these tokens came.
    """
    length_s = window.end_s - window.start_s
    completed_s, counted = requests["completed_s"], int(window.counted.sum())
    inside = (completed_s >= window.start_s) & (completed_s <= window.end_s)
    tokens = int(requests["output_tokens"][inside].sum(dtype=np.int64))
    amounts = {
        "arrivals_per_s": counted,
        "completions_per_s": int(inside.sum()),
        "completed_output_tokens_per_s": tokens,
    }
    return {
        "warmup": config.warmup,
        "cooldown": config.cooldown,
        "start_s": window.start_s,
        "end_s": window.end_s,
        "requests": counted,
        **{name: amount / length_s if length_s > 0 else None for name, amount in amounts.items()},
    }


def describe_load(config: "SimulationConfig", requests: np.ndarray) -> dict[str, Any]:
    """Whether the number of outstanding requests still grows while requests arrive.

    The time from the warm-up (the first fifth where none is given) to the cool-down is cut into ten spans. The number
    grows if Mann and Kendall's test says so of its means over the spans (z above 2.326, 1 % one-sided), and the line
    through them (Theil and Sen's) rises by more than 2 % of the requests that arrived. Spans shorter than a request is
    served, from being scheduled to its last token, tell nothing.

    Args:
        config: what was simulated.
        requests: REQUEST records of the whole run, all completed.

    Returns:
        ``growing``: true, false, or None where the run is too short to tell; ``outstanding``, the ten means; ``z``; and
        ``piled_up``, the part of the arrivals that the line rises by.
    """
    arrival_s, completed_s = requests["arrival_s"].copy(), requests["completed_s"].copy()
    window = find_window(config, arrival_s)
    first, last = float(arrival_s.min()), float(arrival_s.max())
    start_s, end_s = (first, last) if window is None else window[1:]
    if config.warmup is None:
        start_s = max(start_s, first + _FILLING * (last - first))
    served_s = float((completed_s - requests["scheduled_s"]).mean())
    if end_s - start_s < SPANS * max(served_s, 1e-9):
        return {"growing": None, "outstanding": None, "z": None, "piled_up": None}
    edges = np.linspace(start_s, end_s, SPANS + 1)
    outstanding = np.diff(_area(arrival_s, edges) - _area(completed_s, edges)) / np.diff(edges)
    later, earlier = np.tril_indices(SPANS, -1)
    rises = outstanding[later] - outstanding[earlier]
    z = _z(float(np.sign(rises).sum()))
    arrived = int(np.count_nonzero((arrival_s >= start_s) & (arrival_s <= end_s)))
    piled_up = float(np.median(rises / (later - earlier))) * SPANS / max(arrived, 1)
    growing = z > Z_GROWING and piled_up > PILED_UP
    return {"growing": growing, "outstanding": outstanding.tolist(), "z": z, "piled_up": piled_up}


def find_growth(load: Mapping[str, Any]) -> list[Warning]:
    """What to warn about, given what `describe_load` says: nothing where the load is steady or not known."""
    if not load["growing"]:
        return []
    first, last = load["outstanding"][0], load["outstanding"][-1]
    return [
        GrowingLoadWarning(
            f"requests pile up: {first:,.0f} were outstanding in the first tenth of the time measured and {last:,.0f} "
            "in the last; more arrive than are served, or the run is too short, and its latencies depend on its length"
        )
    ]


def _area(times_s: npt.NDArray[np.float64], edges: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """By edge, the sum over the times before it of how long ago they were; float64 [edges] [s]."""
    place = np.searchsorted(edges, times_s)
    counts = np.bincount(place, minlength=len(edges) + 1)[: len(edges)].cumsum()
    # From the first edge on: sums of large times would lose the small differences.
    sums = np.bincount(place, times_s - edges[0], minlength=len(edges) + 1)[: len(edges)].cumsum()
    area: npt.NDArray[np.float64] = counts * (edges - edges[0]) - sums
    return area


def _z(score: float) -> float:
    """Mann and Kendall's z of a score over `SPANS` values."""
    deviation = (SPANS * (SPANS - 1) * (2 * SPANS + 5) / 18) ** 0.5
    return float((score - np.sign(score)) / deviation)
