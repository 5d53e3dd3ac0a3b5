"""Workloads too large to be held: their requests some at a time, in order of arrival."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from traces.classes import class_stream, next_classes
from traces.errors import TraceError, whole_number
from traces.generators import Recipe, draw_lengths, read_recipe, streams
from traces.summed import in_parts
from traces.workload import Workload

#: Requests of a chunk: few enough to stay in a processor's cache, and enough that Python between them costs nothing.
CHUNK_REQUESTS: Final = 1 << 16


@dataclass(eq=False, kw_only=True)
class WorkloadStream(ABC):
    """Requests some at a time: iterating gives workloads, their chunks, in order of arrival.

    Each iteration begins anew, and holds a few chunks at a time.

    Attributes:
        chunk_requests: requests of each chunk but the last.
        provenance: where the requests come from; JSON-able.
        given_notes: sentences that are known before an iteration.
    """

    chunk_requests: int
    provenance: Mapping[str, Any]
    given_notes: tuple[str, ...] = ()

    #: No block of their text has an id.
    block_tokens: ClassVar[int] = 0

    @abstractmethod
    def __len__(self) -> int:
        """Number of requests."""

    @abstractmethod
    def __iter__(self) -> Iterator[Workload]:
        """The chunks, in order."""

    @property
    @abstractmethod
    def most_tokens(self) -> int | None:
        """Most tokens of a prompt and its output together, where that is known."""

    @property
    @abstractmethod
    def has_classes(self) -> bool:
        """Whether requests are of other classes than 0."""

    @property
    def notes(self) -> tuple[str, ...]:
        """The notes of the workload, once an iteration has come to its end."""
        return self.given_notes

    @property
    def hash(self) -> str:
        """sha256 of the provenance, which is all that the requests depend on, as hexadecimal text."""
        return hashlib.sha256(json.dumps(self.provenance, sort_keys=True).encode()).hexdigest()


@dataclass(eq=False, kw_only=True)
class DrawnStream(WorkloadStream):
    """What `traces.generators.generate` draws, chunk by chunk; the chunks together are it, to the last bit.

    Arrivals of diurnal, gamma, poisson, static and weibull processes are drawn with their chunk; those of the others at
    once, 8 bytes a request.

    Attributes:
        recipe: what is drawn.
        num_cut: requests that lost tokens to max_total_tokens in the latest iteration, so far.
    """

    recipe: Recipe
    num_cut: int = field(default=0, init=False)

    def __len__(self) -> int:
        """Number of requests."""
        return self.recipe.num_requests

    @property
    def most_tokens(self) -> int | None:
        """Most tokens of a prompt and its output together, where there is a limit."""
        return self.recipe.max_total_tokens

    @property
    def has_classes(self) -> bool:
        """Whether requests are of other classes than 0."""
        return self.recipe.shares is not None and len(self.recipe.shares) > 1

    @property
    def notes(self) -> tuple[str, ...]:
        """The notes of the workload, once an iteration has come to its end."""
        return (*self.given_notes, *self.recipe.notes_on_cut(self.num_cut))

    def __iter__(self) -> Iterator[Workload]:
        """Draw the chunks, in order."""
        recipe = self.recipe
        self.num_cut = 0
        arrival_stream, length_stream = streams(recipe.seed)
        classes = class_stream(recipe.seed)
        for arrival_s in in_parts(recipe.process, recipe.num_requests, arrival_stream, self.chunk_requests):
            n = len(arrival_s)
            prompt, output, cut = draw_lengths(recipe.distribution, n, length_stream, recipe.max_total_tokens)
            self.num_cut += cut
            more: dict[str, Any] = {}
            if recipe.shares is not None:
                more["request_class"] = next_classes(n, recipe.shares, classes)
            yield Workload(arrival_s, prompt, output, self.provenance, **more)


def stream(*, chunk_requests: int = CHUNK_REQUESTS, **parameters: Any) -> DrawnStream:
    """A workload to be drawn while it is used.

    Args:
        chunk_requests: requests of each chunk, at least 1; nothing else depends on it.
        **parameters: those of `traces.generators.generate`, but no conversations: their turns wait for each other.

    Raises:
        TraceError: as `generate` says, or there are conversations.
    """
    size = whole_number("chunk_requests", chunk_requests, 1)
    recipe = read_recipe(**parameters)
    if recipe.talk is not None:
        problem = "cannot be streamed, as their turns wait for each other"
        raise TraceError("conversations", parameters["conversations"], problem, "give Workload.generate them")
    return DrawnStream(chunk_requests=size, provenance=recipe.provenance, given_notes=recipe.notes, recipe=recipe)
