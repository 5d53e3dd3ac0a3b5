"""Workload: which requests arrive, when, and how long they are."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from traces.arrivals import MAX_QPS, MIN_QPS
from traces.errors import MAX_TOKENS, TraceError, is_number, real_number, shown, whole_number


@dataclass(frozen=True, eq=False)
class Workload:
    """Requests in order of arrival, one element per request in every array; the arrays are read-only copies.

    Attributes:
        arrival_s: arrival times in seconds, finite, at least 0, nondecreasing; float64, shape (n,), n >= 1.
        prompt_tokens: prompt lengths, 1 to 2**31 - 1; int64, shape (n,).
        output_tokens: output lengths, 1 to 2**31 - 1; int64, shape (n,).
        provenance: where the requests come from; JSON-able.
        notes: sentences on what was changed on the way in, such as a sort or a cut.
        request_class: reserved, all 0; int32, shape (n,).
        session: reserved, all -1 (no session); int64, shape (n,).
    """

    arrival_s: NDArray[np.float64]
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    request_class: NDArray[np.int32] = field(init=False)
    session: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        """Check, sort by arrival (stable) and freeze; raises TraceError."""
        arrival_s = _arrivals(self.arrival_s)
        n = len(arrival_s)
        prompt_tokens = _tokens("prompt_tokens", self.prompt_tokens, n)
        output_tokens = _tokens("output_tokens", self.output_tokens, n)
        notes = tuple(self.notes)
        if np.any(arrival_s[1:] < arrival_s[:-1]):
            late = int(np.count_nonzero(arrival_s < np.maximum.accumulate(arrival_s)))
            notes += (f"{late} of {n} requests were out of order; sorted by arrival",)
            order = np.argsort(arrival_s, kind="stable")
            arrival_s, prompt_tokens, output_tokens = arrival_s[order], prompt_tokens[order], output_tokens[order]
        columns: dict[str, NDArray[Any]] = {
            "arrival_s": arrival_s,
            "prompt_tokens": prompt_tokens,
            "output_tokens": output_tokens,
            "request_class": np.zeros(n, np.int32),
            "session": np.full(n, -1, np.int64),
        }
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
    ) -> "Workload":
        """Make a workload of any three equally long sequences of numbers; whole floats are taken as tokens.

        Args:
            arrival_s: arrival times in seconds, finite and at least 0, in any order.
            prompt_tokens: prompt lengths, at least 1.
            output_tokens: output lengths, at least 1.
            provenance: where the requests come from.
            notes: sentences to carry along.

        Raises:
            TraceError: naming the argument and the index of the first bad element, as given.
        """
        arrays: tuple[Any, Any, Any] = (arrival_s, prompt_tokens, output_tokens)
        return cls(*arrays, provenance or {}, notes)

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
        return Workload(
            self.arrival_s * (self.qps / qps),
            self.prompt_tokens,
            self.output_tokens,
            {**self.provenance, "scaled_to_qps": qps},
            self.notes,
        )

    def head(self, n: int) -> "Workload":
        """The first ``n`` requests.

        Raises:
            TraceError: ``n`` is not a whole number from 1 to the number of requests; a workload is never looped.
        """
        n = whole_number("n", n, 1, len(self))
        return Workload(
            self.arrival_s[:n],
            self.prompt_tokens[:n],
            self.output_tokens[:n],
            {**self.provenance, "head": n},
            self.notes,
        )


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


def _tokens(name: str, values: ArrayLike, n: int) -> NDArray[np.int64]:
    """A checked int64 copy of token counts."""
    tokens = _numbers(name, values)
    if len(tokens) != n:
        problem = f"has {len(tokens)} elements where arrival_s has {n}"
        raise TraceError(name, len(tokens), problem, "give one number per request")
    bad = ~((tokens >= 1) & (tokens <= MAX_TOKENS) & (tokens == np.trunc(tokens)))
    if bad.any():
        index = int(bad.argmax())
        value = tokens[index].item()
        mend = f"give whole numbers from 1 to {MAX_TOKENS}"
        raise TraceError(name, value, f"is {value} at index {index}", mend)
    return tokens.astype(np.int64)
