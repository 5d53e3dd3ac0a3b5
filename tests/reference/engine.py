"""The clock of one replica (VLLM.md part 4, synchronous): nothing is hidden behind an iteration but other stages."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from reference.batch import Batch, BatchMember
from reference.blocks import BlockPool
from reference.config import ReferenceConfig
from reference.requests import Request
from reference.results import BatchRecord, ReplicaResult
from reference.tables import ReferenceTables


class Policy(Protocol):
    """What the engine asks of a batch policy.

    Attributes:
        pool: The KV blocks.
        has_unfinished: Whether schedule() could find a request now or later; those in flight need not count.
        schedules_on_arrival: Whether a free micro-batch slot is tried when a request arrives while others are in
            flight; if not, only when a micro-batch ends.
    """

    pool: BlockPool
    schedules_on_arrival: bool

    @property
    def has_unfinished(self) -> bool: ...

    def add(self, request: Request) -> None: ...

    def begin_round(self) -> None: ...

    def schedule(self) -> Batch: ...

    def process_outputs(self, batch: Batch) -> list[BatchMember]: ...

    def iteration_bound(self, request: Request) -> int | None: ...


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


class SynchronousEngine:
    """One replica: form a batch, run it through the stages, process its outputs, again.

    Up to `num_stages` micro-batches are in flight. Each stage is a FIFO server, so a micro-batch starts on a stage when
    it has left the one before and the micro-batch before it has left this one; all that is known when it is formed. A
    stage takes the time of its tables; every stage but the last adds its send_latency_s + send_s_per_token * tokens;
    then each adds swap_s_per_block for every block copied out since the batch before, or in for this one.

    At one time: first all micro-batches that end, oldest first, then all arrivals, then micro-batches are formed until
    none is left to form or all slots are taken. That is tried at the times at which one ended on this replica, or a
    request arrived here with nothing in flight (or with something, if the policy `schedules_on_arrival`). An attempt
    that gave no batch but preempted somebody is made again at once if nothing is in flight.

    Bounds on the number of iterations (docs/policies.md, section 8): under fcfs with recompute over the whole run, if
    the policy knows one for each request; and in every run between two completions.

    Attributes:
        replica: Id of the replica.
        outstanding: Requests assigned and not completed.
        outstanding_tokens: Prompt and output tokens of those, all of them until the request completes.
        result: What has happened so far.
    """

    def __init__(
        self,
        replica: int,
        policy: Policy,
        tables: ReferenceTables | Sequence[ReferenceTables],
        config: ReferenceConfig | None = None,
    ) -> None:
        """Start idle at time 0; tables are one per stage, or one for all; without a config there is one stage."""
        self.replica = replica
        self.outstanding = 0
        self.outstanding_tokens = 0
        self.result = ReplicaResult(replica)
        self._policy = policy
        num_stages = config.num_stages if config is not None else 1
        no_cost = (0.0,) * num_stages
        self._send_latency_s = (config.send_latency_s if config is not None else ()) or no_cost
        self._send_s_per_token = (config.send_s_per_token if config is not None else ()) or no_cost
        self._tables = [tables] * num_stages if isinstance(tables, ReferenceTables) else list(tables)
        if len(self._tables) != num_stages:
            raise ValueError(f"there are {len(self._tables)} tables, one is needed for each of {num_stages} stages")
        self._clock_s = 0.0
        self._arrivals: deque[Request] = deque()
        self._in_flight: deque[Iteration] = deque()
        self._stage_free_s = [0.0] * num_stages
        self._try_to_start = False
        self._preempted: list[Request] = []
        self._swapped_out_blocks = 0
        self._started = 0
        self._swap_s_per_block = config.swap_s_per_block if config is not None else 0.0
        total_is_bounded = config is None or (config.queue_order, config.preemption_mode) == ("fcfs", "recompute")
        self._iteration_bound: int | None = 0 if total_is_bounded else None
        self._started_since_completion = 0

    @property
    def kv_blocks(self) -> int:
        """KV blocks held now."""
        return self._policy.pool.num_used

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

    def advance_to(self, time_s: float) -> None:
        """Process every micro-batch that ends at or before a time, and form micro-batches only before it."""
        while True:
            while self._in_flight and self._in_flight[0].end_s <= self._clock_s:
                self._finish(self._in_flight.popleft())
                self._try_to_start = True
            while self._arrivals and self._arrivals[0].arrival_s <= self._clock_s:
                self._policy.add(self._arrivals.popleft())
                self._try_to_start |= self._policy.schedules_on_arrival or not self._in_flight
            if self._clock_s >= time_s:
                return
            if self._try_to_start:
                self._start_all()
            next_s = min(
                self._in_flight[0].end_s if self._in_flight else math.inf,
                self._arrivals[0].arrival_s if self._arrivals else math.inf,
            )
            if next_s > time_s or next_s == math.inf:
                return
            self._clock_s = next_s

    def _start_all(self) -> None:
        """Form micro-batches while a slot is free and the policy finds one."""
        self._try_to_start = False
        self._policy.begin_round()
        while len(self._in_flight) < len(self._tables) and self._policy.has_unfinished:
            batch = self._policy.schedule()
            self._preempted += batch.preempted
            self._swapped_out_blocks += batch.swapped_out_blocks
            if not batch.members:
                if self._in_flight:
                    return
                if not batch.preempted:
                    raise AssertionError(f"replica {self.replica} has requests but an empty batch at {self._clock_s} s")
                self._policy.begin_round()
                continue
            self._count_iteration()
            self._start(batch)

    def _count_iteration(self) -> None:
        """Hold the bounds."""
        if self._started == self._iteration_bound:
            raise AssertionError(f"replica {self.replica} passed its bound of {self._iteration_bound} iterations")
        self._started += 1
        bound = len(self._tables) * self.outstanding_tokens**2
        if self._started_since_completion == bound:
            raise AssertionError(f"replica {self.replica} completed nothing in {bound} iterations")
        self._started_since_completion += 1

    def _start(self, batch: Batch) -> None:
        """Log a micro-batch formed now and let it run."""
        durations_s, stage_times = [], []
        begin_s = self._clock_s
        for stage, tables in enumerate(self._tables):
            duration_s = tables.iteration_s(
                batch.num_tokens,
                len(batch.members),
                batch.num_decodes,
                batch.decode_kv,
                [(chunk.history, chunk.tokens) for chunk in batch.chunks],
                batch.decode_contexts,
            )
            if stage < len(self._tables) - 1:
                duration_s += self._send_latency_s[stage] + self._send_s_per_token[stage] * batch.num_tokens
            if (num_copied := self._swapped_out_blocks + batch.swapped_in_blocks) > 0:
                duration_s += self._swap_s_per_block * num_copied
            if not 0.0 <= duration_s < float("inf"):
                raise AssertionError(f"the tables give an iteration of {duration_s} s")
            start_s = max(begin_s, self._stage_free_s[stage])
            begin_s = self._stage_free_s[stage] = start_s + duration_s
            durations_s.append(duration_s)
            stage_times.append((start_s, begin_s))
        for member in batch.members:
            if member.request.scheduled_s is None:
                member.request.scheduled_s = self._clock_s
        self._in_flight.append(Iteration(batch, durations_s, begin_s))
        self.result.batches.append(
            BatchRecord(
                replica=self.replica,
                start_s=self._clock_s,
                end_s=begin_s,
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
                stage_times=stage_times if len(self._tables) > 1 else [],
            )
        )
        self._preempted = []
        self._swapped_out_blocks = 0

    def _finish(self, iteration: Iteration) -> None:
        """End the oldest micro-batch: stamp its tokens."""
        number = self.result.iterations
        self.result.iterations += 1
        for duration_s in iteration.durations_s:
            self.result.busy_s += duration_s
        one_stage = len(self._tables) == 1
        for member in self._policy.process_outputs(iteration.batch):
            request = member.request
            if one_stage and member.is_decode and request.last_token_iteration == number - 1:
                self.result.token_gaps_s.append(iteration.durations_s[0])
            elif request.token_times_s:
                self.result.token_gaps_s.append(self._clock_s - request.token_times_s[-1])
            request.token_times_s.append(self._clock_s)
            request.last_token_iteration = number
            if request.finished:
                self._started_since_completion = 0
                self.outstanding -= 1
                self.outstanding_tokens -= request.prompt_tokens + request.output_tokens
