"""What every engine does: the requests of one replica, the batches that its policy forms, the tokens that come."""

import math
from collections import deque
from typing import Protocol

from reference.batch import Batch, BatchMember
from reference.blocks import BlockPool
from reference.config import ReferenceConfig
from reference.requests import Request
from reference.results import BatchRecord, ReplicaResult
from reference.tables import ReferenceTables
from reference.waiting import WaitingQueue


class Policy(Protocol):
    """What the engine asks of a batch policy.

    Attributes:
        pool: The KV blocks.
        waiting: Requests not admitted.
        has_unfinished: Whether schedule() could find a request now or later; those in flight need not count.
        schedules_on_arrival: Whether a free micro-batch slot is tried when a request arrives while others are in
            flight; if not, only when a micro-batch ends.
    """

    pool: BlockPool
    waiting: WaitingQueue
    schedules_on_arrival: bool

    @property
    def has_unfinished(self) -> bool: ...

    def add(self, request: Request) -> None: ...

    def begin_round(self) -> None: ...

    def schedule(self) -> Batch: ...

    def process_outputs(self, batch: Batch) -> list[BatchMember]: ...

    def iteration_bound(self, request: Request) -> int | None: ...

    def num_found(self, request: Request) -> int: ...


class Engine:
    """One replica; a subclass says when its batches are formed and how long they take.

    The caller goes from one time to the next at which anything happens: `finish` what ends at it on all replicas,
    `assign` the requests that arrive at it, and `start` what can be started.

    Bounds on the number of iterations (docs/policies.md, section 8): under fcfs with recompute over the whole run, if
    the policy knows one for each request; and in every run between two completions.

    Attributes:
        replica: Id of the replica.
        outstanding: Requests assigned and not completed.
        outstanding_tokens: Prompt and output tokens of those, all of them until the request completes.
        result: What has happened so far.
    """

    def __init__(self, replica: int, policy: Policy, config: ReferenceConfig) -> None:
        """Start idle at time 0."""
        self.replica = replica
        self.outstanding = 0
        self.outstanding_tokens = 0
        self.result = ReplicaResult(replica)
        self._policy = policy
        self._num_stages = config.num_stages
        self._arrivals: deque[Request] = deque()
        self._preempted: list[Request] = []
        self._swapped_out_blocks = 0
        self._started = 0
        total_is_bounded = (config.queue_order, config.preemption_mode) == ("fcfs", "recompute")
        self._iteration_bound: int | None = 0 if total_is_bounded else None
        self._started_since_completion = 0

    @property
    def kv_blocks(self) -> int:
        """KV blocks held now."""
        return self._policy.pool.num_used

    @property
    def free_blocks(self) -> int:
        """KV blocks in the free queue now."""
        return self._policy.pool.num_free

    @property
    def has_arrivals(self) -> bool:
        """Whether requests have been assigned of which the policy does not know yet."""
        return bool(self._arrivals)

    @property
    def num_waiting(self) -> int:
        """Requests assigned and not admitted."""
        return len(self._arrivals) + len(self._policy.waiting)

    @property
    def num_running(self) -> int:
        """Requests admitted."""
        return self.outstanding - self.num_waiting

    @property
    def next_s(self) -> float:
        """When the next batch ends that is in flight; infinite if none is."""
        raise NotImplementedError

    def num_found(self, request: Request) -> int:
        """Prompt tokens of a request that has not been assigned yet, found in the prefix cache now."""
        return self._policy.num_found(request)

    def assign(self, request: Request) -> None:
        """Take a request from the router; requests come in the order of arrival."""
        request.replica = self.replica
        self._arrivals.append(request)
        self.outstanding += 1
        self.outstanding_tokens += request.prompt_tokens + request.output_tokens
        bound = self._policy.iteration_bound(request)
        if bound is None or self._iteration_bound is None:
            self._iteration_bound = None
        else:
            self._iteration_bound += bound

    def finish(self, clock_s: float) -> list[Request]:
        """Process what ends at a time; returns the requests that complete."""
        raise NotImplementedError

    def start(self, clock_s: float) -> None:
        """Form the batches that can be formed at a time, after all its arrivals have been assigned."""
        raise NotImplementedError

    def _schedule(self, clock_s: float, num_in_flight: int) -> Batch | None:
        """Let the policy form a batch.

        Returns:
            A batch with members, or None if there can be none before something in flight ends.
        """
        while self._policy.has_unfinished:
            batch = self._policy.schedule()
            self._preempted += batch.preempted
            self.result.preempted_s += [clock_s] * len(batch.preempted)
            for request in batch.preempted:
                request.preempted_at_s = clock_s
            self._swapped_out_blocks += batch.swapped_out_blocks
            if batch.members:
                self._count_iteration()
                for member in batch.members:
                    if member.request.scheduled_s is None:
                        member.request.scheduled_s = clock_s
                    self._end_preemption(member.request, clock_s)
                return batch
            if num_in_flight > 0:
                return None
            if not batch.preempted:
                raise AssertionError(f"replica {self.replica} has requests but an empty batch at {clock_s} s")
            self._policy.begin_round()
        return None

    @staticmethod
    def _end_preemption(request: Request, clock_s: float) -> None:
        """A request waits no longer because it was preempted, if it was."""
        if request.preempted_at_s is not None:
            request.preempted_s += clock_s - request.preempted_at_s
            request.preempted_at_s = None

    def hold(self, begin_s: float, clock_s: float, num_in_flight: int) -> None:
        """Note that since an event nothing has happened here, while so many requests were in flight."""
        self.result.held.append((begin_s, clock_s, self.kv_blocks, num_in_flight))

    def _count_iteration(self) -> None:
        """Hold the bounds."""
        if self._started == self._iteration_bound:
            raise AssertionError(f"replica {self.replica} passed its bound of {self._iteration_bound} iterations")
        self._started += 1
        bound = self._num_stages * self.outstanding_tokens**2
        if self._started_since_completion == bound:
            raise AssertionError(f"replica {self.replica} completed nothing in {bound} iterations")
        self._started_since_completion += 1

    def _table_s(self, batch: Batch, tables: ReferenceTables) -> float:
        """Seconds of a batch on a stage."""
        duration_s = tables.iteration_s(
            batch.num_tokens,
            len(batch.members),
            batch.num_decodes,
            batch.decode_kv,
            [(chunk.history, chunk.tokens) for chunk in batch.chunks],
            batch.decode_contexts,
        )
        if not 0.0 <= duration_s < math.inf:
            raise AssertionError(f"the tables give an iteration of {duration_s} s")
        return duration_s

    def _log(
        self, batch: Batch, formed_s: float, start_s: float, end_s: float, stage_times: list[tuple[float, float]]
    ) -> None:
        """Log a batch that has just been formed."""
        self.result.batches.append(
            BatchRecord(
                replica=self.replica,
                formed_s=formed_s,
                start_s=start_s,
                end_s=end_s,
                num_tokens=batch.num_tokens,
                num_sequences=len(batch.members),
                num_decodes=batch.num_decodes,
                decode_kv=batch.decode_kv,
                chunks=[(chunk.request.request_id, chunk.history, chunk.tokens) for chunk in batch.chunks],
                blocks_used=self._policy.pool.num_used,
                preempted=[request.request_id for request in self._preempted],
                members=[(member.request.request_id, member.tokens) for member in batch.members],
                swapped_out_blocks=self._swapped_out_blocks,
                swapped_in_blocks=batch.swapped_in_blocks,
                stage_times=stage_times,
            )
        )
        self._preempted = []
        self._swapped_out_blocks = 0

    def _deliver(self, batch: Batch, clock_s: float, duration_s: float | None) -> list[Request]:
        """Stamp the tokens of a batch.

        Args:
            batch: What has run.
            clock_s: When its tokens come.
            duration_s: What a gap is called if the request had a token in the iteration just before; None: the
                difference of the two times, as all others are.

        Returns:
            The requests that complete, in batch order.
        """
        number = self.result.iterations
        self.result.iterations += 1
        completed = []
        for member in self._policy.process_outputs(batch):
            request = member.request
            if duration_s is not None and member.is_decode and request.last_token_iteration == number - 1:
                request.token_gaps_s.append(duration_s)
                self.result.token_gaps_s.append(duration_s)
            elif request.token_times_s:
                request.token_gaps_s.append(clock_s - request.token_times_s[-1])
                self.result.token_gaps_s.append(request.token_gaps_s[-1])
            request.token_times_s.append(clock_s)
            request.last_token_iteration = number
            if request.finished:
                completed.append(request)
                self._end_preemption(request, clock_s)
                self._started_since_completion = 0
                self.outstanding -= 1
                self.outstanding_tokens -= request.prompt_tokens + request.output_tokens
        return completed
