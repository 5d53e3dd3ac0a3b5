"""Workload: which requests arrive, when, and how long they are."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from traces.arrivals import MAX_QPS, MIN_QPS
from traces.classes import check_shares, draw_classes
from traces.errors import (
    MAX_CLASS,
    MAX_SESSION,
    MAX_TOKENS,
    TraceError,
    is_number,
    real_number,
    shown,
    whole_number,
)

#: Smallest and largest value of every column but arrival_s.
RANGES: Final = {
    "prompt_tokens": (1, MAX_TOKENS),
    "output_tokens": (1, MAX_TOKENS),
    "request_class": (0, MAX_CLASS),
    "session": (-1, MAX_SESSION),
}
#: Columns that need not be given, and what they hold then.
DEFAULTS: Final = {"request_class": 0, "session": -1}
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
    """

    arrival_s: NDArray[np.float64]
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    request_class: NDArray[np.int32] = _NOT_GIVEN
    session: NDArray[np.int64] = _NOT_GIVEN

    def __post_init__(self) -> None:
        """Check, sort by arrival (stable) and freeze; raises TraceError."""
        arrival_s = _arrivals(self.arrival_s)
        n = len(arrival_s)
        columns: dict[str, NDArray[Any]] = {"arrival_s": arrival_s}
        columns |= {name: _whole_numbers(name, getattr(self, name), n) for name in RANGES}
        notes = tuple(self.notes)
        if np.any(arrival_s[1:] < arrival_s[:-1]):
            late = int(np.count_nonzero(arrival_s < np.maximum.accumulate(arrival_s)))
            notes += (f"{late} of {n} requests were out of order; sorted by arrival",)
            order = np.argsort(arrival_s, kind="stable")
            columns = {name: column[order] for name, column in columns.items()}
        for name, column in columns.items():
            column.setflags(write=False)
            object.__setattr__(self, name, column)
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

        Raises:
            TraceError: naming the argument and the index of the first bad element, as given.
        """
        arrays: tuple[Any, Any, Any] = (arrival_s, prompt_tokens, output_tokens)
        more: dict[str, Any] = {"request_class": request_class, "session": session}
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

    @cached_property
    def hash(self) -> str:
        """sha256 of the five arrays as hexadecimal text; provenance and notes do not count."""
        digest = hashlib.sha256()
        for name in ("arrival_s", "prompt_tokens", "output_tokens", "request_class", "session"):
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
        columns: dict[str, Any] = {name: getattr(self, name)[:n] for name in ("arrival_s", *RANGES)}
        return replace(self, **columns, provenance={**self.provenance, "head": n})

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


def _numbers(name: str, values: ArrayLike) -> NDArray[Any]:
    """A one-dimensional array of integers or floats, not copied where it is one already."""
    try:
        array = np.asarray(values)
    except ValueError as error:  # numpy's refusal of ragged sequences
        raise TraceError(name, values, "is not a flat sequence of numbers", "give one number per request") from error
    if array.ndim != 1:
        raise TraceError(name, values, f"has {array.ndim} dimensions", "give a flat sequence, one number per request")
    if array.dtype.kind in "iuf":
        return array
    for index, value in enumerate(np.asarray(values, dtype=object)):
        if not is_number(value):
            raise TraceError(name, value, f"is {shown(value)} at index {index}", "give numbers only")
    # What is left are durations, and Python integers beyond 64 bits.
    raise TraceError(name, values, f"has elements of type {array.dtype}", "give numbers that fit 64 bits")


def _arrivals(values: ArrayLike) -> NDArray[np.float64]:
    """A checked float64 copy of the arrival times."""
    # Adding 0.0 copies, and turns -0.0 into 0.0, which would hash differently.
    arrival_s: NDArray[np.float64] = np.add(_numbers("arrival_s", values), 0.0, dtype=np.float64)
    if len(arrival_s) == 0:
        raise TraceError("arrival_s", values, "is empty", "give at least one request")
    bad = ~((arrival_s >= 0) & (arrival_s < np.inf))
    if bad.any():
        index = int(bad.argmax())
        value = float(arrival_s[index])
        raise TraceError("arrival_s", value, f"is {value} at index {index}", "give finite seconds of at least 0")
    return arrival_s


def _whole_numbers(name: str, values: Any, n: int) -> NDArray[Any]:
    """A checked copy of a column of whole numbers, int64 or, of classes, int32."""
    dtype = np.int32 if name == "request_class" else np.int64
    if values is None and name in DEFAULTS:
        return np.full(n, DEFAULTS[name], dtype)
    column = _numbers(name, values)
    if len(column) != n:
        problem = f"has {len(column)} elements where arrival_s has {n}"
        raise TraceError(name, len(column), problem, "give one number per request")
    low, high = RANGES[name]
    bad = ~((column >= low) & (column <= high) & (column == np.trunc(column)))
    if bad.any():
        index = int(bad.argmax())
        value = column[index].item()
        raise TraceError(name, value, f"is {value} at index {index}", f"give whole numbers from {low} to {high}")
    return column.astype(dtype)
