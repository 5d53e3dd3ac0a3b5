"""Several kinds of clients at once, each with its share of the requests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from traces.classes import check_shares
from traces.errors import MAX_QPS, MIN_QPS, TraceError, real_number, shown, whole_number
from traces.generators import WITHOUT_RATE, generate
from traces.objectives import Objective
from traces.workload import Workload

_FIRST_KEY: Final = 7


@dataclass(frozen=True)
class ClientClass:
    """One kind of clients; their requests are a class of the workload, the first one given the most important.

    Attributes:
        share: part of all requests that they send, above 0.
        arrivals: as for `traces.generate`, one that has a rate.
        arrival_options: as for `traces.generate`, without ``qps``.
        lengths: as for `traces.generate`.
        length_options: as for `traces.generate`.
        objective: what they are promised; either all kinds have one, or none.
    """

    share: float
    arrivals: str = "poisson"
    arrival_options: Mapping[str, object] = field(default_factory=dict)
    lengths: str = "azure_conv_2023"
    length_options: Mapping[str, object] = field(default_factory=dict)
    objective: Objective | None = None


def mix(
    classes: Sequence[ClientClass],
    *,
    num_requests: int,
    qps: float,
    max_total_tokens: int | None = 8192,
    seed: int = 0,
) -> Workload:
    """Draw the requests of several kinds of clients, each independent of the others.

    Each kind has streams of its own, so the first k requests are the same whatever ``num_requests``, and the lengths of
    each kind are the same whatever its arrivals.

    Args:
        classes: the kinds, 1 to 128, whose shares sum to 1.
        num_requests: how many requests in all.
        qps: mean rate of all of them.
        max_total_tokens: as for `traces.generate`.
        seed: an integer of at least 0.

    Raises:
        TraceError: an argument is out of range.
    """
    n, seed = whole_number("num_requests", num_requests, 1), whole_number("seed", seed, 0, 2**128 - 1)
    qps = real_number("qps", qps, MIN_QPS, MAX_QPS)
    if not classes or not all(isinstance(kind, ClientClass) for kind in classes):
        raise TraceError("classes", classes, f"is {shown(classes)}", "give a sequence of ClientClass")
    shares = check_shares([kind.share for kind in classes])
    objectives = tuple(kind.objective for kind in classes if kind.objective is not None)
    if objectives and len(objectives) < len(classes):
        raise TraceError("objective", None, "is given for some classes only", "give one for each, or for none")
    counts = [min(n, int(1.1 * n * share) + 64) for share in shares]
    parts = [
        _drawn(classes, index, counts[index], shares[index] * qps, max_total_tokens, seed)
        for index in range(len(shares))
    ]
    while True:
        arrival_s = np.concatenate([part.arrival_s for part in parts])
        last_s = np.partition(arrival_s, n - 1)[n - 1]
        short = [i for i, part in enumerate(parts) if counts[i] < n and part.arrival_s[-1] < last_s]
        if not short:
            break
        for i in short:
            counts[i] = min(n, 2 * counts[i])
            parts[i] = _drawn(classes, i, counts[i], shares[i] * qps, max_total_tokens, seed)
    order = np.argsort(arrival_s, kind="stable")[:n]
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts])[order]
        for name in ("prompt_tokens", "output_tokens")
    }
    columns["request_class"] = np.repeat(np.arange(len(parts)), [len(part) for part in parts])[order]
    generators = [{"share": share, **part.provenance["generator"]} for share, part in zip(shares, parts, strict=True)]
    provenance = {"mix": {"classes": generators, "num_requests": n, "qps": qps, "seed": seed}, "numpy": np.__version__}
    return Workload(arrival_s[order], **columns, provenance=provenance, objectives=objectives)


def _drawn(
    classes: Sequence[ClientClass], index: int, count: int, qps: float, max_total_tokens: int | None, seed: int
) -> Workload:
    """The first requests of one kind."""
    kind = classes[index]
    if kind.arrivals in WITHOUT_RATE:
        mend = "choose a process with a rate"
        raise TraceError("arrivals", kind.arrivals, f"is {kind.arrivals!r}, which has no share of a rate", mend)
    words = np.random.SeedSequence(seed, spawn_key=(_FIRST_KEY, index)).generate_state(4)
    return generate(
        num_requests=count,
        qps=qps,
        arrivals=kind.arrivals,
        arrival_options=kind.arrival_options,
        lengths=kind.lengths,
        length_options=kind.length_options,
        max_total_tokens=max_total_tokens,
        seed=int.from_bytes(words.tobytes(), "little"),
    )
