"""The clock of one replica (VLLM.md part 4, synchronous): nothing is hidden behind an iteration but other stages."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from reference.batch import Batch
from reference.config import ReferenceConfig
from reference.engine import Engine, Policy
from reference.requests import Request
from reference.tables import ReferenceTables


@dataclass(frozen=True)
class Iteration:
    """A micro-batch in flight.

    Attributes:
        batch: Its work.
        durations_s: How long each stage takes.
        end_s: When it leaves the last stage.
    """

    batch: Batch
    durations_s: list[float]
    end_s: float


class SynchronousEngine(Engine):
    """Form a batch, run it through the stages, process its outputs, again.

    Up to `num_stages` micro-batches are in flight. Each stage is a FIFO server, so a micro-batch starts on a stage when
    it has left the one before and the micro-batch before it has left this one; all that is known when it is formed. A
    stage takes the time of its tables; every stage but the last adds its send_latency_s + send_s_per_token * tokens;
    then each adds swap_s_per_block for every block copied out since the batch before, or in for this one.

    At one time: first all micro-batches that end, oldest first, then all arrivals, then micro-batches are formed until
    none is left to form or all slots are taken. That is tried at the times at which one ended on this replica, or a
    request arrived here with nothing in flight (or with something, if the policy `schedules_on_arrival`). An attempt
    that gave no batch but preempted somebody is made again at once if nothing is in flight.
    """

    def __init__(
        self, replica: int, policy: Policy, tables: Sequence[ReferenceTables], config: ReferenceConfig
    ) -> None:
        """Start idle at time 0; tables are one per stage."""
        super().__init__(replica, policy, config)
        no_cost = (0.0,) * config.num_stages
        self._send_latency_s = config.send_latency_s or no_cost
        self._send_s_per_token = config.send_s_per_token or no_cost
        self._swap_s_per_block = config.swap_s_per_block
        self._tables = tables
        self._in_flight: deque[Iteration] = deque()
        self._stage_free_s = [0.0] * config.num_stages
        self._try_to_start = False
        self._event_s = 0.0

    @property
    def next_s(self) -> float:
        """When the oldest micro-batch ends."""
        return self._in_flight[0].end_s if self._in_flight else math.inf

    def finish(self, clock_s: float) -> list[Request]:
        """Process every micro-batch that ends at a time; returns the requests that complete."""
        completed = []
        self._pass_time(clock_s)
        while self.next_s <= clock_s:
            iteration = self._in_flight.popleft()
            for duration_s in iteration.durations_s:
                self.result.busy_s += duration_s
            duration_s = iteration.durations_s[0] if self._num_stages == 1 else None
            completed += self._deliver(iteration.batch, clock_s, duration_s)
            self._try_to_start = True
        return completed

    def start(self, clock_s: float) -> None:
        """Form micro-batches while a slot is free and the policy finds one."""
        while self._arrivals:
            self._policy.add(self._arrivals.popleft())
            self._try_to_start |= self._policy.schedules_on_arrival or not self._in_flight
        if not self._try_to_start:
            return
        self._try_to_start = False
        self._policy.begin_round()
        while len(self._in_flight) < self._num_stages:
            batch = self._schedule(clock_s, len(self._in_flight))
            if batch is None:
                return
            self._run(batch, clock_s)

    def _pass_time(self, clock_s: float) -> None:
        """Nothing has happened here up to a time."""
        if self._num_stages > 1 and self._in_flight:
            self.hold(self._event_s, clock_s, sum(len(iteration.batch.members) for iteration in self._in_flight))
        self._event_s = clock_s

    def _run(self, batch: Batch, clock_s: float) -> None:
        """Log a micro-batch formed now and let it run."""
        durations_s, stage_times = [], []
        begin_s = clock_s
        for stage, tables in enumerate(self._tables):
            duration_s = self._table_s(batch, tables)
            if stage < self._num_stages - 1:
                duration_s += self._send_latency_s[stage] + self._send_s_per_token[stage] * batch.num_tokens
            if (num_copied := self._swapped_out_blocks + batch.swapped_in_blocks) > 0:
                duration_s += self._swap_s_per_block * num_copied
            start_s = max(begin_s, self._stage_free_s[stage])
            begin_s = self._stage_free_s[stage] = start_s + duration_s
            durations_s.append(duration_s)
            stage_times.append((start_s, begin_s))
        self._in_flight.append(Iteration(batch, durations_s, begin_s))
        self._log(batch, clock_s, clock_s, begin_s, stage_times if self._num_stages > 1 else [])
