"""Workload: which requests arrive, when, and how long they are."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from traces.block_ids import BlockIds
from traces.classes import check_shares, draw_classes
from traces.columns import (
    NOTHING_TO_WAIT_FOR,
    RANGES,
    arrivals,
    nothing_to_wait_for,
    numbers,
    think_times,
    whole_numbers,
)
from traces.errors import MAX_QPS, MAX_SESSION, MIN_QPS, TraceError, real_number, shown, whole_number
from traces.objectives import Objective, check_objectives

if TYPE_CHECKING:
    from traces.stream import WorkloadStream

_NOT_GIVEN: Final[Any] = None


@dataclass(frozen=True, eq=False)
class Workload:
    """Requests in order of arrival, one element per request in every array; the arrays are read-only copies.

    Attributes:
        arrival_s: arrival times in seconds, finite, at least 0, nondecreasing; float64, shape (n,), n >= 1.
        prompt_tokens: prompt lengths, 1 to 2**31 - 1; int64, shape (n,).
        output_tokens: output lengths, 1 to 2**31 - 1; int64, shape (n,).
        provenance: where the requests come from; JSON-able.
        notes: sentences on what was changed on the way in, such as a sort or a cut.
        request_class: 0 to 127, a smaller one is more important; int32, shape (n,). All 0 unless given.
        session: number of the conversation that a request belongs to, 0 to 2**53 - 1, or -1 for none; int64, shape
            (n,). All -1 unless given.
        think_s: a request with a number here arrives so many seconds after the request before it of its session
            completes, and its ``arrival_s`` says only where it stands in the order; one with nan arrives at
            ``arrival_s``. Finite, at least 0, and only where the session has a request before it; float64, shape (n,).
            All nan unless given.
        blocks: which requests begin with the same text; see ``block_ids``.
        objectives: what the classes 0, 1, ... are promised, if anything; see `traces.objectives`. They change no
            simulation, and do not count in the hash.
    """

    arrival_s: NDArray[np.float64]
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    request_class: NDArray[np.int32] = _NOT_GIVEN
    session: NDArray[np.int64] = _NOT_GIVEN
    think_s: NDArray[np.float64] = _NOT_GIVEN
    blocks: BlockIds = _NOT_GIVEN
    objectives: tuple[Objective, ...] = ()

    def __post_init__(self) -> None:
        """Check, sort by arrival (stable) and freeze; raises TraceError."""
        arrival_s = arrivals(self.arrival_s)
        n = len(arrival_s)
        columns: dict[str, NDArray[Any]] = {"arrival_s": arrival_s}
        columns |= {name: whole_numbers(name, getattr(self, name), n) for name in RANGES}
        columns["think_s"] = think_times(self.think_s, n)
        blocks = BlockIds.none(n) if self.blocks is None else self.blocks
        blocks.check_against(columns["prompt_tokens"] + columns["output_tokens"])
        order = np.arange(n)
        if not isinstance(self.provenance, Mapping):
            raise TraceError("provenance", self.provenance, f"is {shown(self.provenance)}", "give a dict")
        if isinstance(self.notes, str) or not isinstance(self.notes, Sequence):
            raise TraceError("notes", self.notes, f"is {shown(self.notes)}", "give a tuple of sentences")
        notes = tuple(self.notes)
        if np.any(arrival_s[1:] < arrival_s[:-1]):
            late = int(np.count_nonzero(arrival_s < np.maximum.accumulate(arrival_s)))
            notes += (f"{late} of {n} requests were out of order; sorted by arrival",)
            order = np.argsort(arrival_s, kind="stable")
            columns = {name: column[order] for name, column in columns.items()}
            blocks = blocks.gathered(order)
        bad = nothing_to_wait_for(columns["think_s"], columns["session"])
        if bad.any():
            value, index = float(columns["think_s"][bad][0]), order[bad.argmax()]
            problem = f"is {value} at index {index}, which has no request of its session before it"
            raise TraceError("think_s", value, problem, NOTHING_TO_WAIT_FOR)
        for name, column in columns.items():
            column.setflags(write=False)
            object.__setattr__(self, name, column)
        object.__setattr__(self, "blocks", blocks)
        objectives = check_objectives(self.objectives, int(columns["request_class"].max()) + 1)
        object.__setattr__(self, "objectives", objectives)
        object.__setattr__(self, "provenance", dict(self.provenance))
        object.__setattr__(self, "notes", notes)

    @classmethod
    def from_arrays(
        cls,
        arrival_s: ArrayLike,
        prompt_tokens: ArrayLike,
        output_tokens: ArrayLike,
        provenance: Mapping[str, Any] | None = None,
        notes: tuple[str, ...] = (),
        request_class: ArrayLike | None = None,
        session: ArrayLike | None = None,
        think_s: ArrayLike | None = None,
        block_ids: Sequence[Sequence[int]] | NDArray[np.int64] | None = None,
        block_tokens: int | None = None,
        block_offsets: ArrayLike | None = None,
        objectives: Sequence[Objective] = (),
    ) -> "Workload":
        """Make a workload of any equally long sequences of numbers; whole floats are taken as whole numbers.

        Args:
            arrival_s: arrival times in seconds, finite and at least 0, in any order.
            prompt_tokens: prompt lengths, at least 1.
            output_tokens: output lengths, at least 1.
            provenance: where the requests come from.
            notes: sentences to carry along.
            request_class: 0 to 127, a smaller one is more important; None for all 0.
            session: conversations, 0 to 2**53 - 1, or -1 for a request outside one; None for all -1.
            think_s: seconds from the completion of the request before it in its session, or nan; None for all nan.
            block_ids: one sequence of ids per request; or, with ``block_offsets``, all ids in one flat array.
            block_tokens: tokens that an id stands for.
            block_offsets: where the ids of each request begin, and the end of the last; shape (n + 1,).
            objectives: what the classes are promised, the most important first; empty for nothing.

        Raises:
            TraceError: naming the argument and the index of the first bad element, as given.
        """
        arrays: tuple[Any, Any, Any] = (arrival_s, prompt_tokens, output_tokens)
        more: dict[str, Any] = {"request_class": request_class, "session": session, "think_s": think_s}
        more["objectives"] = objectives
        if block_ids is not None or block_tokens is not None or block_offsets is not None:
            n = len(numbers("arrival_s", arrival_s))
            more["blocks"] = BlockIds.checked(block_ids, block_offsets, block_tokens, n)
        return cls(*arrays, provenance or {}, notes, **more)

    @staticmethod
    def read(path: str | os.PathLike[str]) -> "Workload":
        """Read a public trace file; see :func:`traces.readers.read`."""
        from traces.readers import read

        return read(path)

    @staticmethod
    def generate(**parameters: Any) -> "Workload":
        """Draw a synthetic workload; takes the arguments of :func:`traces.generators.generate`."""
        from traces.generators import generate

        return generate(**parameters)

    @staticmethod
    def stream(**parameters: Any) -> "WorkloadStream":
        """Draw a synthetic workload while it is used; takes the arguments of :func:`traces.stream.stream`."""
        from traces.stream import stream

        return stream(**parameters)

    @staticmethod
    def scan(path: str | os.PathLike[str]) -> "WorkloadStream":
        """Read one of our Parquet files while it is used; see :func:`traces.scanning.scan`."""
        from traces.scanning import scan

        return scan(path)

    def __len__(self) -> int:
        """Number of requests."""
        return len(self.arrival_s)

    @property
    def num_requests(self) -> int:
        """Number of requests."""
        return len(self)

    @property
    def duration_s(self) -> float:
        """Last arrival less the first, in seconds."""
        return float(self.arrival_s[-1] - self.arrival_s[0])

    @property
    def qps(self) -> float | None:
        """Arrival rate (n - 1) / duration_s in requests per second; None for one request or all at one time."""
        duration_s = self.duration_s
        rate = (len(self) - 1) / duration_s if duration_s > 0 else np.inf
        return rate if rate < np.inf else None

    @property
    def block_ids(self) -> NDArray[np.int64]:
        """Ids of blocks of text, 0 to 2**62 - 1, of all requests one after the other, shape (m,).

        Id number q of a request stands for its tokens ``q * block_tokens`` up to ``(q + 1) * block_tokens``, prompt and
        output together: requests with the same id at the same place are equal from their first token to the end of that
        block. What a request has no id for is its own, seen nowhere else.
        """
        return self.blocks.values

    @property
    def block_offsets(self) -> NDArray[np.int64]:
        """Where the ids of each request begin, and the end of the last, shape (n + 1,)."""
        return self.blocks.offsets

    @property
    def block_tokens(self) -> int:
        """Tokens that an id stands for, or 0 where requests have no ids."""
        return self.blocks.tokens

    @cached_property
    def hash(self) -> str:
        """sha256 of the arrays as hexadecimal text, without think times and ids where no request has any.

        Provenance and notes do not count.
        """
        digest = hashlib.sha256()
        names = ["arrival_s", "prompt_tokens", "output_tokens", "request_class", "session"]
        if not np.isnan(self.think_s).all():
            names.append("think_s")
        if self.block_tokens:
            digest.update(f"block_tokens {self.block_tokens}\n".encode())
            names += ["block_ids", "block_offsets"]
        for name in names:
            column = getattr(self, name)
            digest.update(f"{name} {column.dtype.str} {len(column)}\n".encode())
            digest.update(column)
        return digest.hexdigest()

    def scaled(self, qps: float) -> "Workload":
        """The same requests at another rate: all arrival times are multiplied by ``self.qps / qps``.

        Raises:
            TraceError: ``qps`` is not a number from 1e-9 to 1e9, or this workload has no rate to scale.
        """
        qps = real_number("qps", qps, MIN_QPS, MAX_QPS)
        if self.qps is None:
            problem = f"is {qps:g}, but a workload whose requests all arrive at one time has no rate to scale"
            raise TraceError("qps", qps, problem, "take one with arrivals spread over time")
        provenance = {**self.provenance, "scaled_to_qps": qps}
        return replace(self, arrival_s=self.arrival_s * (self.qps / qps), provenance=provenance)

    def head(self, n: int) -> "Workload":
        """The first ``n`` requests.

        Raises:
            TraceError: ``n`` is not a whole number from 1 to the number of requests; a workload is never looped.
        """
        n = whole_number("n", n, 1, len(self))
        columns: dict[str, Any] = {name: getattr(self, name)[:n] for name in ("arrival_s", *RANGES, "think_s")}
        return replace(self, **columns, blocks=self.blocks.head(n), provenance={**self.provenance, "head": n})

    def repeated(self, times: int) -> "Workload":
        """The same requests again and again, each copy behind the other at the same rate.

        A copy begins one mean gap, ``1 / qps``, after the last arrival of the copy before it; where all requests arrive
        at one time, so do all copies. Sessions are numbered anew in each copy; block ids are the same, so text returns.

        Raises:
            TraceError: ``times`` is not a whole number of at least 1, or sessions would need numbers above 2**53 - 1.
        """
        times = whole_number("times", times, 1)
        copy = np.repeat(np.arange(times), len(self))
        period_s = 0.0 if self.qps is None else self.duration_s + 1 / self.qps
        columns: dict[str, Any] = {name: np.tile(getattr(self, name), times) for name in (*RANGES, "think_s")}
        num_sessions = int(self.session.max()) + 1
        if num_sessions * times - 1 > MAX_SESSION:
            problem = f"is {times}, too many for sessions numbered up to {num_sessions - 1}"
            raise TraceError(
                "times", times, problem, f"number the sessions from 0, or give {MAX_SESSION // num_sessions}"
            )
        columns["session"] = np.where(columns["session"] < 0, -1, columns["session"] + copy * num_sessions)
        arrival_s = np.tile(self.arrival_s, times) + copy * period_s
        provenance = {**self.provenance, "repeated": times}
        return replace(self, arrival_s=arrival_s, **columns, blocks=self.blocks.repeated(times), provenance=provenance)

    def with_classes(self, shares: Sequence[float], seed: int = 0) -> "Workload":
        """The same requests with other classes, class k drawn with probability ``shares[k]``.

        The seed's stream of classes is one of its own: `traces.generators.generate` draws the same ones, whatever else
        it draws, and the first k requests get the same whatever the number of requests.

        Args:
            shares: 1 to 128 numbers above 0 that sum to 1 within 1e-9.
            seed: an integer of at least 0.

        Raises:
            TraceError: a share or the seed is out of range.
        """
        shares, seed = check_shares(shares), whole_number("seed", seed, 0, 2**128 - 1)
        provenance = {**self.provenance, "classes": {"shares": shares, "seed": seed}}
        return replace(self, request_class=draw_classes(len(self), shares, seed), provenance=provenance)
