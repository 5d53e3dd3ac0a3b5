"""The clock of one replica (VLLM.md part 4, depth 1): one iteration at a time, nothing hidden behind it."""

from collections import deque
from dataclasses import dataclass

from reference.batch import Batch
from reference.requests import Request
from reference.results import BatchRecord, ReplicaResult
from reference.tables import ReferenceTables
from reference.vllm_v1 import VllmV1


@dataclass(frozen=True)
class Iteration:
    """The iteration that is running.

    Attributes:
        batch: Its work.
        duration_s: How long it takes.
        end_s: When it ends.
    """

    batch: Batch
    duration_s: float
    end_s: float


class SynchronousEngine:
    """One replica: form a batch, run it, process its outputs, again.

    Attributes:
        replica: Id of the replica.
        outstanding: Requests assigned and not completed.
        result: What has happened so far.
    """

    def __init__(self, replica: int, policy: VllmV1, tables: ReferenceTables) -> None:
        """Start idle at time 0."""
        self.replica = replica
        self.outstanding = 0
        self.result = ReplicaResult(replica)
        self._policy = policy
        self._tables = tables
        self._clock_s = 0.0
        self._arrivals: deque[Request] = deque()
        self._running: Iteration | None = None
        self._iteration_bound = 0

    def assign(self, request: Request) -> None:
        """Take a request from the router; requests come in the order of arrival."""
        request.replica = self.replica
        self._arrivals.append(request)
        self.outstanding += 1
        self._iteration_bound += self._policy.iteration_bound(request)

    def advance_to(self, time_s: float) -> None:
        """Process every iteration that ends at or before a time, and form batches only before it."""
        while True:
            if self._running is not None:
                if self._running.end_s > time_s:
                    return
                self._finish(self._running)
            if not self._policy.has_unfinished and self._arrivals:
                self._clock_s = max(self._clock_s, self._arrivals[0].arrival_s)
            while self._arrivals and self._arrivals[0].arrival_s <= self._clock_s:
                self._policy.add(self._arrivals.popleft())
            if not self._policy.has_unfinished or self._clock_s >= time_s:
                return
            self._start()

    def _start(self) -> None:
        """Form a batch now, log it and let it run."""
        if self.result.iterations == self._iteration_bound:
            raise AssertionError(f"replica {self.replica} passed its bound of {self._iteration_bound} iterations")
        batch = self._policy.schedule()
        if not batch.members:
            raise AssertionError(f"replica {self.replica} has requests but an empty batch at {self._clock_s} s")
        duration_s = self._tables.iteration_s(
            batch.num_tokens,
            len(batch.members),
            batch.num_decodes,
            batch.decode_kv,
            [(chunk.history, chunk.tokens) for chunk in batch.chunks],
        )
        if not 0.0 <= duration_s < float("inf"):
            raise AssertionError(f"the tables give an iteration of {duration_s} s")
        for member in batch.members:
            if member.request.scheduled_s is None:
                member.request.scheduled_s = self._clock_s
        self._running = Iteration(batch, duration_s, self._clock_s + duration_s)
        self.result.batches.append(
            BatchRecord(
                replica=self.replica,
                start_s=self._clock_s,
                end_s=self._running.end_s,
                num_tokens=batch.num_tokens,
                num_sequences=len(batch.members),
                num_decodes=batch.num_decodes,
                decode_kv=batch.decode_kv,
                chunks=[(chunk.request.request_id, chunk.history, chunk.tokens) for chunk in batch.chunks],
                blocks_used=self._policy.pool.num_used,
                preempted=[request.request_id for request in batch.preempted],
                members=[(member.request.request_id, member.tokens) for member in batch.members],
            )
        )

    def _finish(self, iteration: Iteration) -> None:
        """End the running iteration: move the clock, stamp its tokens."""
        self._running = None
        self._clock_s = iteration.end_s
        number = self.result.iterations
        self.result.iterations += 1
        self.result.busy_s += iteration.duration_s
        for member in self._policy.process_outputs(iteration.batch):
            request = member.request
            if member.is_decode and request.last_token_iteration == number - 1:
                self.result.token_gaps_s.append(iteration.duration_s)
            elif request.token_times_s:
                self.result.token_gaps_s.append(self._clock_s - request.token_times_s[-1])
            request.token_times_s.append(self._clock_s)
            request.last_token_iteration = number
            if request.finished:
                self.outstanding -= 1
