"""The two clocks of a replica that schedules ahead (VLLM.md part 4, depth 2; docs/policies.md, section 10)."""

import math
from collections import deque
from dataclasses import dataclass

from reference.batch import Batch
from reference.config import ReferenceConfig
from reference.engine import Engine, Policy
from reference.overheads import launch_s, process_s
from reference.requests import Request
from reference.tables import ReferenceTables

DEPTH = 2
"""Most batches in flight."""


@dataclass(frozen=True)
class Launched:
    """A batch in flight.

    Attributes:
        batch: Its work.
        duration_s: Its seconds on the device.
        end_s: When the device is done with it.
    """

    batch: Batch
    duration_s: float
    end_s: float


class AsynchronousEngine(Engine):
    """Form a batch while the last one runs, and process the outputs of a batch while the next one runs.

    t is the time of the engine's CPU thread, G the time at which the device becomes free. At a t the engine looks for
    arrivals and forms a batch, which starts when it has been launched and the device is free. With less than two in
    flight, of which none is done, it forms another at once. Then it waits for the oldest, blind to arrivals meanwhile:
    its outputs are processed process_s after its end, or after the engine last looked, and that is the next t.
    """

    def __init__(self, replica: int, policy: Policy, tables: ReferenceTables, config: ReferenceConfig) -> None:
        """Start idle at time 0."""
        super().__init__(replica, policy, config)
        self._config = config
        self._tables = tables
        self._in_flight: deque[Launched] = deque()
        self._engine_s = 0.0
        self._device_free_s = 0.0
        self._looks = False

    @property
    def next_s(self) -> float:
        """When the outputs of the oldest batch will have been processed."""
        if not self._in_flight:
            return math.inf
        oldest = self._in_flight[0]
        return max(self._engine_s, oldest.end_s) + process_s(self._config, len(oldest.batch.members))

    def finish(self, clock_s: float) -> list[Request]:
        """Process the oldest batch if that ends at a time; returns the requests that complete."""
        if self.next_s > clock_s:
            return []
        launched = self._in_flight.popleft()
        self.result.busy_s += launched.duration_s
        self.hold(self._engine_s, clock_s, 0)
        self._engine_s = clock_s
        self._looks = True
        return self._deliver(launched.batch, clock_s, None)

    def start(self, clock_s: float) -> None:
        """Form a batch, or two, if the engine has just processed one or had nothing to do."""
        if not self._looks and (self._in_flight or not self._arrivals):
            return
        self._looks = False
        self._engine_s = clock_s
        while self._arrivals:
            self._policy.add(self._arrivals.popleft())
        while (batch := self._schedule(clock_s, len(self._in_flight))) is not None:
            self._launch(batch)
            if len(self._in_flight) == DEPTH or self._in_flight[0].end_s <= clock_s:
                return

    def _launch(self, batch: Batch) -> None:
        """Send a batch to the device."""
        duration_s = self._table_s(batch, self._tables)
        start_s = max(self._engine_s + launch_s(self._config, len(batch.members)), self._device_free_s)
        self._device_free_s = start_s + duration_s
        self._in_flight.append(Launched(batch, duration_s, self._device_free_s))
        self._log(batch, self._engine_s, start_s, self._device_free_s, [])
