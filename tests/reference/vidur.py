"""Vidur's event loop, exactly (VIDUR.md 4.1): the entry under parity="vidur".

One heap ordered by (time, event number). Events are numbered when they are made, so ties in time go by creation, and
all arrivals, made first, win every tie (oddity 1).
"""

import heapq
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from reference.batch import Batch
from reference.config import ReferenceConfig
from reference.simulate import BATCH_POLICIES
from reference.vidur_policy import VidurPolicy
from reference.vidur_results import StageRecord, VidurRequest, VidurResult
from reference.vidur_routing import ROUTERS
from reference.vidur_tables import VidurTables


@dataclass(frozen=True)
class MicroBatch:
    """A batch in flight: its number in order of formation, and when it was formed."""

    number: int
    formed_s: float
    batch: Batch


class Stage:
    """A pipeline stage: a FIFO server."""

    def __init__(self) -> None:
        """Start idle."""
        self.busy = False
        self.queue: deque[MicroBatch] = deque()


class Replica:
    """A batch policy and its stages."""

    def __init__(self, replica: int, config: ReferenceConfig) -> None:
        """Start idle."""
        policy = BATCH_POLICIES[config.batch_policy](config)
        if not isinstance(policy, VidurPolicy):
            raise ValueError(f"batch_policy is {config.batch_policy!r}, Vidur does not have it")
        self.replica = replica
        self.policy = policy
        self.stages = [Stage() for _ in range(config.num_stages)]
        self.num_in_flight = 0


class VidurLoop:
    """The heap and what each event does; a handler makes its follow-up events in Vidur's order."""

    def __init__(self, requests: Sequence[VidurRequest], tables: VidurTables, config: ReferenceConfig) -> None:
        """Make all arrivals."""
        self.replicas = [Replica(replica, config) for replica in range(config.replicas)]
        self.stages: list[StageRecord] = []
        self.num_batches = 0
        self._tables = tables
        self._router = ROUTERS[config.router](config)
        self._limit_s = config.time_limit_s if config.time_limit_s > 0 else math.inf
        self._now_s = 0.0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self.num_events = 0
        self._queue: list[VidurRequest] = []
        for request in requests:
            self._make(request.arrival_s, lambda request=request: self._arrive(request))

    def run(self) -> bool:
        """Handle events until none is left, or one later than the limit has been handled; says which."""
        while self._heap:
            self._now_s, _, handle = heapq.heappop(self._heap)
            handle()
            if self._now_s > self._limit_s:
                return False
        return True

    def _make(self, time_s: float, handle: Callable[[], None]) -> None:
        """Make an event."""
        heapq.heappush(self._heap, (time_s, self.num_events, handle))
        self.num_events += 1

    def _arrive(self, request: VidurRequest) -> None:
        """RequestArrival."""
        self._queue.append(request)
        self._make(self._now_s, self._route)

    def _route(self) -> None:
        """GlobalSchedule: drain the whole queue."""
        requests = sorted(self._queue, key=lambda request: request.arrival_s)
        self._queue = []
        chosen = self._router.assign(requests, [len(replica.policy.waiting) for replica in self.replicas])
        for request, replica in zip(requests, chosen, strict=True):
            request.replica = replica
            self.replicas[replica].policy.add(request)
        for replica in sorted(set(chosen)):
            self._make(self._now_s, lambda replica=self.replicas[replica]: self._schedule(replica))

    def _schedule(self, replica: Replica) -> None:
        """ReplicaSchedule: form micro-batches while there are slots, then announce them."""
        formed = []
        while replica.num_in_flight < len(replica.stages):
            batch = replica.policy.schedule()
            if not batch.members:
                break
            formed.append(MicroBatch(self.num_batches, self._now_s, batch))
            self.num_batches += 1
            replica.num_in_flight += 1
        for micro_batch in formed:
            for member in micro_batch.batch.members:
                if member.request.scheduled_s is None:
                    member.request.scheduled_s = self._now_s
            self._make(self._now_s, lambda micro_batch=micro_batch: self._reach_stage(replica, 0, micro_batch))

    def _reach_stage(self, replica: Replica, stage: int, micro_batch: MicroBatch) -> None:
        """BatchStageArrival."""
        replica.stages[stage].queue.append(micro_batch)
        self._make(self._now_s, lambda: self._start_stage(replica, stage))

    def _start_stage(self, replica: Replica, stage: int) -> None:
        """ReplicaStageSchedule."""
        server = replica.stages[stage]
        if server.busy or not server.queue:
            return
        micro_batch = server.queue.popleft()
        server.busy = True
        model_s = self._tables.model_s(micro_batch.batch, stage == len(replica.stages) - 1)
        total_s = model_s + self._tables.cpu_s(micro_batch.batch)
        for member in micro_batch.batch.members:
            if member.request.last_stage_end_s != 0.0:
                member.request.preempted_s += self._now_s - member.request.last_stage_end_s
        end_s = self._now_s + total_s
        self._log(replica, stage, micro_batch, end_s, total_s, model_s)
        self._make(end_s, lambda: self._end_stage(replica, stage, micro_batch, total_s, model_s))

    def _end_stage(self, replica: Replica, stage: int, micro_batch: MicroBatch, total_s: float, model_s: float) -> None:
        """BatchStageEnd."""
        replica.stages[stage].busy = False
        for member in micro_batch.batch.members:
            member.request.execution_s += total_s
            member.request.model_execution_s += model_s
            member.request.last_stage_end_s = self._now_s
        self._make(self._now_s, lambda: self._start_stage(replica, stage))
        if stage == len(replica.stages) - 1:
            self._make(self._now_s, lambda: self._end_batch(replica, micro_batch))
        else:
            self._make(self._now_s, lambda: self._reach_stage(replica, stage + 1, micro_batch))

    def _end_batch(self, replica: Replica, micro_batch: MicroBatch) -> None:
        """BatchEnd."""
        for member in replica.policy.process_outputs(micro_batch.batch):
            if member.request.first_token_s == 0.0:
                member.request.first_token_s = self._now_s
            if member.request.finished:
                member.request.completed_s = self._now_s
        replica.num_in_flight -= 1
        self._make(self._now_s, lambda: self._schedule(replica))

    def _log(
        self, replica: Replica, stage: int, micro_batch: MicroBatch, end_s: float, total_s: float, model_s: float
    ) -> None:
        """Record a stage run."""
        batch = micro_batch.batch
        keys = self._tables.attention_keys(batch)
        self.stages.append(
            StageRecord(
                batch=micro_batch.number,
                replica=replica.replica,
                stage=stage,
                formed_s=micro_batch.formed_s,
                start_s=self._now_s,
                end_s=end_s,
                total_s=total_s,
                model_s=model_s,
                num_requests=len(batch.members),
                num_tokens=batch.num_tokens,
                num_prefill_tokens=sum(chunk.tokens for chunk in batch.chunks),
                num_chunks=keys.num_chunks,
                num_decodes=keys.num_decodes,
                decode_kv=keys.decode_kv,
                prefill_kv=keys.prefill_kv,
                prefill_chunk=keys.prefill_chunk,
                blocks_used=replica.policy.pool.num_used,
            )
        )


def simulate_vidur(
    requests: Sequence[tuple[float, int, int]], tables: VidurTables, config: ReferenceConfig
) -> VidurResult:
    """Simulate a workload exactly as Vidur does, oddities included.

    Args:
        requests: (arrival in seconds, prompt tokens, output tokens) of each request; their order breaks ties.
        tables: Vidur's per-operator tables.
        config: The replicas, with parity "vidur".

    Returns:
        Vidur's own columns.

    Raises:
        ValueError: The configuration has no parity, Vidur has no such policy, or the run ended with requests or KV
            blocks left over, which Vidur dies of (oddities 5, 14 and 15).
        KeyError: A batch lies beyond a table (oddity 11).
    """
    if config.parity != "vidur":
        raise ValueError(f"parity is {config.parity!r}, simulate_vidur() needs 'vidur'")
    records = [
        VidurRequest(request_id, float(arrival_s), int(prompt), int(output), prefill_tokens=int(prompt))
        for request_id, (arrival_s, prompt, output) in enumerate(requests)
    ]
    loop = VidurLoop(records, tables, config)
    ended = loop.run()
    if ended and (
        not all(request.finished for request in records)
        or any(replica.policy.num_holders > 0 for replica in loop.replicas)
    ):
        raise ValueError("the run ended with requests or KV blocks left over, of which Vidur dies")
    return VidurResult(records, loop.stages, loop.num_batches, loop.num_events)
