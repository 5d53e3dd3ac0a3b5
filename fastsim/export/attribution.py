"""Why a latency is what it is: its parts, request by request, which add up to it.

What is *exact* are the times that the simulation gives: front end, queueing, preemption, and all the rest together.
That rest, the time in batches, is divided by a *model*: what the request would take alone (`fastsim.export.alone`), at
most all of it, and interference, which is what is left: iterations that took longer, or came later, because of others,
and prompts that were computed again after a preemption.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastsim.config import SimulationConfig
from fastsim.windows import measured

if TYPE_CHECKING:
    import polars as pl

    from fastsim.export.alone import Alone

Floats = npt.NDArray[np.float64]

#: The parts, in the order in which a request meets them, and what they are.
PARTS = {
    "front_end": "from the client to the replica and back",
    "queueing": "sent, and not yet in its first batch",
    "prefill_alone": "its own prompt, as on an idle replica",
    "decode_alone": "its own output, as on an idle replica",
    "interference": "batches that are longer, or later, because of other requests",
    "preemption": "preempted, and not yet scheduled again",
}
#: Part of the requests that are the slowest.
SLOWEST = 0.01
METRICS = {"ttft": "time to first token", "tbt": "time between tokens", "e2e": "time from sending to the last token"}


@dataclass(frozen=True)
class Explanation:
    """One latency.

    Attributes:
        metric: a key of `METRICS`.
        groups: ``"mean"`` of all requests and ``"slowest"`` of the slowest 1 % by this metric: ``requests``,
            ``value_s``, and ``parts_s``, which add up to it.
    """

    metric: str
    groups: Mapping[str, Mapping[str, Any]]


def explain(config: SimulationConfig, requests: "pl.DataFrame", alone: "Alone") -> list[Explanation]:
    """Explain every latency of a run.

    Args:
        config: what served.
        requests: one row per request, as `fastsim.result.SimulationResult.requests`.
        alone: how long requests would take on an idle replica.

    Returns:
        By metric; without that between tokens where no request has two.
    """
    columns = {name: requests[name].to_numpy() for name in requests.columns if not name.startswith("session")}
    until_first, after_first = parts_until_first_token(config, columns, alone), parts_after(columns, alone)
    whole = {name: until_first[name] + after_first[name] for name in PARTS}
    gaps = columns["output_tokens"] - 1.0
    counted = np.zeros(len(gaps), bool)
    counted[measured(config, columns)] = True
    found = [_explanation("ttft", until_first, np.ones(len(gaps)), counted)]
    if gaps.any():  # as in the summary those between tokens are of the whole run
        found.append(_explanation("tbt", after_first, gaps, np.ones(len(gaps), bool)))
    return [*found, _explanation("e2e", whole, np.ones(len(gaps)), counted)]


def parts_until_first_token(
    config: SimulationConfig, columns: Mapping[str, npt.NDArray[Any]], alone: "Alone"
) -> dict[str, Floats]:
    """Parts of the time to first token of each request, [n] each [s]."""
    engine = config.engine_choice
    ingress_s = engine.ingress_s + engine.ingress_s_per_token * columns["prompt_tokens"]
    # Sums of times are rounded, so a request that waits for nothing may seem to be early.
    queueing_s = np.maximum(0.0, columns["scheduled_s"] - columns["arrival_s"] - ingress_s)
    total_s = columns["first_token_s"] - columns["arrival_s"]
    fixed = {"front_end": ingress_s + engine.egress_s, "queueing": queueing_s}
    fixed["preemption"] = columns.get("preempted_prefill_s", np.zeros(len(total_s)))
    prefill_s = alone.prefill_s(columns["prompt_tokens"].astype(np.int64), columns["cached_tokens"].astype(np.int64))
    return _divided(total_s, fixed, "prefill_alone", prefill_s)


def parts_after(columns: Mapping[str, npt.NDArray[Any]], alone: "Alone") -> dict[str, Floats]:
    """Parts of the time from the first token to the last of each request, [n] each [s]."""
    total_s = columns["completed_s"] - columns["first_token_s"]
    nothing = np.zeros(len(total_s))
    preempted_s = columns.get("preempted_s", nothing) - columns.get("preempted_prefill_s", nothing)
    decode_s = alone.decode_s(columns["prompt_tokens"].astype(np.int64), columns["output_tokens"].astype(np.int64))
    return _divided(total_s, {"preemption": np.maximum(0.0, preempted_s)}, "decode_alone", decode_s)


def _divided(total_s: Floats, fixed: Mapping[str, Floats], own: str, own_s: Floats) -> dict[str, Floats]:
    """All parts: those that are fixed, the request's own work of what they leave, and interference, the rest."""
    parts = {name: np.zeros(len(total_s)) for name in PARTS} | dict(fixed)
    left_s = total_s - sum(fixed.values())
    parts[own] = np.clip(own_s, 0.0, np.maximum(0.0, left_s))
    parts["interference"] = left_s - parts[own]
    return parts


def _explanation(
    metric: str, parts: Mapping[str, Floats], weights: Floats, counted: npt.NDArray[np.bool_]
) -> Explanation:
    """Means of all requests and of the slowest ones.

    Args:
        metric: a key of `METRICS`.
        parts: by name, [n] each [s].
        weights: what each request is divided by and counts for, such as its gaps between tokens; 0 leaves it out [n].
        counted: the requests that count [n].
    """
    kept = np.flatnonzero(counted & (weights > 0))
    value_s = sum(values[kept] for values in parts.values()) / weights[kept]
    slowest = kept[np.argsort(-value_s, kind="stable")[: max(1, round(SLOWEST * len(kept)))]]
    groups = {}
    for name, rows in (("mean", kept), ("slowest", slowest)):
        parts_s = {part: float(values[rows].sum() / weights[rows].sum()) for part, values in parts.items()}
        groups[name] = {"requests": len(rows), "value_s": sum(parts_s.values()), "parts_s": parts_s}
    return Explanation(metric, groups)
