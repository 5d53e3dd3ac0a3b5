"""A replica of several engines (docs/policies.md, section 13): who gets a request, and rounds in lockstep."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from reference.asynchronous import DEPTH
from reference.batch import Batch
from reference.config import ReferenceConfig
from reference.engine import Engine, Policy
from reference.overheads import launch_s, padded, process_s
from reference.requests import Request
from reference.tables import ReferenceTables


class DataParallelReplica:
    """What a router and the clock see of several engines; each request goes to one of them and stays there.

    Attributes:
        engines: The engines, in order of their numbers.
    """

    def __init__(self, engines: Sequence[Engine]) -> None:
        """Take engines that are idle at time 0."""
        self.engines = engines

    @property
    def outstanding(self) -> int:
        """Requests assigned and not completed."""
        return sum(engine.outstanding for engine in self.engines)

    @property
    def outstanding_tokens(self) -> int:
        """Their prompts and outputs."""
        return sum(engine.outstanding_tokens for engine in self.engines)

    @property
    def kv_blocks(self) -> int:
        """KV blocks held now."""
        return sum(engine.kv_blocks for engine in self.engines)

    @property
    def next_s(self) -> float:
        """When the next batch ends that is in flight; infinite if none is."""
        return min(engine.next_s for engine in self.engines)

    def num_found(self, request: Request) -> int:
        """Prompt tokens of a request that the engine that would get it now has in its prefix cache."""
        return self._choose().num_found(request)

    def assign(self, request: Request) -> None:
        """Hand a request to an engine."""
        self._choose().assign(request)

    def finish(self, clock_s: float) -> list[Request]:
        """Process what ends at a time; returns the requests that complete."""
        return [request for engine in self.engines for request in engine.finish(clock_s)]

    def start(self, clock_s: float) -> None:
        """Form the batches that can be formed at a time."""
        for engine in self.engines:
            engine.start(clock_s)

    def _choose(self) -> Engine:
        """The engine with the smallest 4 * waiting + running, the lowest number of equals."""
        return min(self.engines, key=lambda engine: 4 * engine.num_waiting + engine.num_running)


class LockstepEngine(Engine):
    """One of several engines whose batches are formed, run and processed together."""

    def __init__(self, replica: int, policy: Policy, tables: ReferenceTables, config: ReferenceConfig) -> None:
        """Start idle at time 0."""
        super().__init__(replica, policy, config)
        self._tables = tables
        self._swap_s_per_block = config.swap_s_per_block

    def take_arrivals(self) -> None:
        """Let the policy know of the requests that have arrived."""
        while self._arrivals:
            self._policy.add(self._arrivals.popleft())

    def form(self, clock_s: float, num_in_flight: int) -> Batch | None:
        """A batch at a time at which so many rounds are in flight; None if it would have no member."""
        return self._schedule(clock_s, num_in_flight)

    def own_s(self, batch: Batch | None, num_tokens: int) -> float:
        """Seconds of the engine's own part of a round: of its batch padded to so many tokens, or of a dummy."""
        if batch is None:
            return self._tables.iteration_s(num_tokens, 1, 0, 0, [])
        seconds = self._tables.iteration_s(
            num_tokens,
            len(batch.members),
            batch.num_decodes,
            batch.decode_kv,
            [(chunk.history, chunk.tokens) for chunk in batch.chunks],
            batch.decode_contexts,
        )
        if (num_copied := self._swapped_out_blocks + batch.swapped_in_blocks) > 0:
            seconds += self._swap_s_per_block * num_copied
        return seconds

    def log(self, batch: Batch, formed_s: float, start_s: float, end_s: float) -> None:
        """Log a batch that has just been formed."""
        self._log(batch, formed_s, start_s, end_s, [])

    def deliver(self, batch: Batch, clock_s: float, seconds: float, gap_s: float | None) -> list[Request]:
        """Process a batch that kept the device busy for some seconds; for the others see `Engine._deliver`."""
        self.result.busy_s += seconds
        return self._deliver(batch, clock_s, gap_s)


@dataclass(frozen=True)
class Round:
    """A round in flight.

    Attributes:
        batches: The batch of each engine, or None for a dummy.
        seconds: How long the round takes.
        end_s: When it ends.
    """

    batches: list[Batch | None]
    seconds: float
    end_s: float

    @property
    def most_members(self) -> int:
        """Requests of the largest batch."""
        return max(len(batch.members) for batch in self.batches if batch is not None)


class LockstepReplica(DataParallelReplica):
    """Engines that form their batches at the same times and wait for each other, as their expert layers do."""

    engines: Sequence[LockstepEngine]

    def __init__(self, engines: Sequence[LockstepEngine], tables: ReferenceTables, config: ReferenceConfig) -> None:
        """Start idle at time 0."""
        super().__init__(engines)
        self._tables = tables
        self._config = config
        self._depth = DEPTH if config.is_asynchronous else 1
        self._in_flight: deque[Round] = deque()
        self._clock_s = 0.0
        self._device_free_s = 0.0
        self._looks = False

    @property
    def next_s(self) -> float:
        """When the oldest round will have been processed."""
        if not self._in_flight:
            return math.inf
        oldest = self._in_flight[0]
        if not self._config.is_asynchronous:
            return oldest.end_s
        return max(self._clock_s, oldest.end_s) + process_s(self._config, oldest.most_members)

    def finish(self, clock_s: float) -> list[Request]:
        """Process the oldest round if that ends at a time; returns the requests that complete."""
        if self.next_s > clock_s:
            return []
        oldest = self._in_flight.popleft()
        if self._config.is_asynchronous:
            for engine in self.engines:
                engine.hold(self._clock_s, clock_s, 0)
        self._clock_s = clock_s
        self._looks = True
        gap_s = None if self._config.is_asynchronous else oldest.seconds
        completed = []
        for engine, batch in zip(self.engines, oldest.batches, strict=True):
            if batch is not None:
                completed += engine.deliver(batch, clock_s, oldest.seconds, gap_s)
        return completed

    def start(self, clock_s: float) -> None:
        """Form a round, or two, if one has just been processed or nobody had anything to do."""
        has_arrivals = any(engine.has_arrivals for engine in self.engines)
        if not self._looks and (self._in_flight or not has_arrivals):
            return
        self._looks = False
        self._clock_s = clock_s
        for engine in self.engines:
            engine.take_arrivals()
        while True:
            batches = [engine.form(clock_s, len(self._in_flight)) for engine in self.engines]
            if not any(batches):
                return
            self._launch(batches)
            if len(self._in_flight) == self._depth or self._in_flight[0].end_s <= clock_s:
                return

    def _launch(self, batches: list[Batch | None]) -> None:
        """Let a round run."""
        seconds = self._round_s(batches)
        most = max(len(batch.members) for batch in batches if batch is not None)
        start_s = self._clock_s
        if self._config.is_asynchronous:
            start_s = max(start_s + launch_s(self._config, most), self._device_free_s)
        else:
            seconds += launch_s(self._config, most) + process_s(self._config, most)
        self._device_free_s = start_s + seconds
        self._in_flight.append(Round(batches, seconds, self._device_free_s))
        for engine, batch in zip(self.engines, batches, strict=True):
            if batch is not None:
                engine.log(batch, self._clock_s, start_s, self._device_free_s)

    def _round_s(self, batches: list[Batch | None]) -> float:
        """Seconds on the devices: the slowest engine's own part, and the experts of all."""
        numbers = [1 if batch is None else batch.num_tokens for batch in batches]
        sizes = self._config.capture_sizes
        if sizes and all(number <= sizes[-1] for number in numbers):
            largest = max(padded(number, sizes) for number in numbers)
            numbers = [min(largest, self._tables.max_tokens)] * len(numbers)
        own_s = max(
            engine.own_s(batch, number) for engine, batch, number in zip(self.engines, batches, numbers, strict=True)
        )
        return own_s + self._tables.expert_s(sum(numbers))
