"""The requests of a workload with arrivals of their own, or more or fewer of them in the same time."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from traces.arrivals import ARRIVALS
from traces.block_ids import BlockIds, offsets_of
from traces.choices import choose
from traces.columns import RANGES
from traces.errors import MAX_SESSION, TraceError, real_number, whole_number
from traces.workload import Workload

_ARRIVAL_KEY, _RATE_KEY = 0, 6  # of the streams of the seed; `traces.generators` has the others


def with_arrivals(
    workload: Workload,
    arrivals: str = "poisson",
    arrival_options: Mapping[str, object] | None = None,
    qps: float | None = None,
    seed: int = 0,
) -> Workload:
    """The same requests in the same order, arriving anew: for files that have lengths only.

    Of a session the first request gets an arrival, as does each request outside one; the others of the session stand
    where the first does, and wait for the one before them if they have think times.

    Args:
        workload: the requests.
        arrivals: a name in ``traces.arrivals.ARRIVALS``.
        arrival_options: fields of that process.
        qps: its rate, for the processes that have one; or give it in ``arrival_options``.
        seed: an integer of at least 0; the arrivals are those that `traces.generate` draws from it.

    Raises:
        TraceError: an unknown choice, or a value out of range.
    """
    seed = whole_number("seed", seed, 0, 2**128 - 1)
    options = dict(arrival_options or {}) | ({} if qps is None else {"qps": qps})
    process = choose("arrivals", ARRIVALS, arrivals, options)
    unit, firsts = _units(workload)
    rank = np.empty(len(firsts), np.int64)
    rank[np.argsort(firsts, kind="stable")] = np.arange(len(firsts))
    arrival_s = process.sample(len(firsts), _stream(seed, _ARRIVAL_KEY))[rank[unit]]
    provenance = {
        **workload.provenance,
        "arrivals": {"arrivals": arrivals, "arrival_options": dict(vars(process)), "seed": seed},
    }
    return replace(workload, arrival_s=arrival_s, provenance=provenance)


def with_rate(workload: Workload, rate_scale: float, seed: int = 0) -> Workload:
    """More or fewer requests in the same time, whose patterns stay what they are, unlike with `Workload.scaled`.

    Fewer: each session, or request outside one, is left out with the same probability. More: copies of the workload,
    the first in place, the others begun at a random place and going round, each session as a whole; the last of them
    is thinned if ``rate_scale`` is no whole number. Sessions and block ids of copies are their own: what users share in
    the workload, such as a system prompt, its copies do not share with it.

    Args:
        workload: the requests.
        rate_scale: requests for each of the workload, 0.001 to 1000.
        seed: an integer of at least 0.

    Raises:
        TraceError: an argument is out of range, or no request is left.
    """
    rate_scale = real_number("rate_scale", rate_scale, 1e-3, 1e3)
    stream = _stream(whole_number("seed", seed, 0, 2**128 - 1), _RATE_KEY)
    unit, firsts = _units(workload)
    period_s = 0.0 if workload.qps is None else workload.duration_s + 1 / workload.qps
    num_copies = math.ceil(rate_scale)
    rows, arrival_s, copy_of = [], [], []
    for copy in range(num_copies):
        keep = stream.random(len(firsts)) < rate_scale - copy
        kept = np.flatnonzero(keep[unit])
        starts_s = workload.arrival_s[firsts]
        moved_s = np.zeros(len(firsts))
        if copy and period_s:
            begin_s = float(workload.arrival_s[0])
            moved_s = begin_s + (starts_s - begin_s + stream.random() * period_s) % period_s - starts_s
        rows.append(kept)
        arrival_s.append(workload.arrival_s[kept] + moved_s[unit[kept]])
        copy_of.append(np.full(len(kept), copy))
    taken, copies = np.concatenate(rows), np.concatenate(copy_of)
    if not len(taken):
        raise TraceError("rate_scale", rate_scale, f"is {rate_scale:g}, which leaves no request", "give more")
    columns: dict[str, Any] = {name: getattr(workload, name)[taken] for name in (*RANGES, "think_s")}
    num_sessions = int(workload.session.max()) + 1
    if num_sessions * num_copies - 1 > MAX_SESSION:
        problem = f"is {rate_scale:g}, too much for sessions numbered up to {num_sessions - 1}"
        raise TraceError("rate_scale", rate_scale, problem, "number the sessions from 0")
    columns["session"] = np.where(columns["session"] < 0, -1, columns["session"] + copies * num_sessions)
    times_s = np.concatenate(arrival_s)
    order = np.argsort(times_s, kind="stable")
    columns = {name: column[order] for name, column in columns.items()}
    provenance = {**workload.provenance, "rate_scale": rate_scale, "rate_seed": seed}
    return replace(
        workload,
        arrival_s=times_s[order],
        **columns,
        blocks=_blocks(workload, taken[order], copies[order]),
        provenance=provenance,
    )


def _units(workload: Workload) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """What stays together, sessions or single requests: the unit of each request, shape (n,), and where each begins."""
    alone = -1 - np.arange(len(workload))
    names = np.where(workload.session < 0, alone, workload.session)
    _, firsts, unit = np.unique(names, return_index=True, return_inverse=True)
    return unit, firsts


def _blocks(workload: Workload, rows: NDArray[np.int64], copies: NDArray[np.int64]) -> BlockIds:
    """The block ids of these requests, those of each copy of their own."""
    if not workload.block_tokens:
        return BlockIds.none(len(rows))
    names, numbered = np.unique(workload.block_ids, return_inverse=True)
    blocks = BlockIds(numbered, workload.block_offsets, workload.block_tokens).gathered(rows)
    ids = blocks.values + np.repeat(copies, blocks.counts) * len(names)
    return BlockIds(ids, offsets_of(blocks.counts), workload.block_tokens)


def _stream(seed: int, key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(key,))))
