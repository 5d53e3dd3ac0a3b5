"""What a run returns."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class BatchRecord:
    """One iteration.

    Attributes:
        replica: Where it ran.
        formed_s: When the batch was formed.
        start_s: When it started on the device if batches are scheduled ahead, else when it was formed.
        end_s: When it left the last stage.
        num_tokens: All tokens.
        num_sequences: All requests.
        num_decodes: Requests that decode.
        decode_kv: KV tokens the decodes read together, the ones being written included.
        chunks: (request id, history, tokens) of each prefill chunk, in batch order.
        blocks_used: KV blocks held once the batch had its blocks.
        preempted: Ids of the requests preempted while the batch was formed, in the order of preemption; with stages
            also those preempted in attempts since the batch before that led to none.
        members: (request id, tokens) of each request, in batch order.
        swapped_out_blocks: KV blocks copied to host memory since the batch before was formed.
        swapped_in_blocks: KV blocks copied back for this batch.
        stage_times: When it started and ended on each stage; empty with one stage, where start_s and end_s say it.
    """

    replica: int
    formed_s: float
    start_s: float
    end_s: float
    num_tokens: int
    num_sequences: int
    num_decodes: int
    decode_kv: int
    chunks: list[tuple[int, int, int]]
    blocks_used: int
    preempted: list[int]
    members: list[tuple[int, int]]
    swapped_out_blocks: int = 0
    swapped_in_blocks: int = 0
    stage_times: list[tuple[float, float]] = field(default_factory=list)


@dataclass
class ReplicaResult:
    """What one engine did.

    Attributes:
        replica: Id of its replica.
        iterations: Number of iterations.
        busy_s: Sum of their durations on all stages, added batch by batch, in each stage by stage.
        token_gaps_s: Every gap between two tokens of a request, as they occurred (time between tokens).
        batches: Its iterations, in order.
        preempted_s: When each preemption happened.
        held: Begin and end of each time between two events with something in flight, KV blocks held and requests in
            flight then; not kept of one stage that schedules synchronously, where a batch holds what it took.
    """

    replica: int
    iterations: int = 0
    busy_s: float = 0.0
    token_gaps_s: list[float] = field(default_factory=list)
    batches: list[BatchRecord] = field(default_factory=list)
    preempted_s: list[float] = field(default_factory=list)
    held: list[tuple[float, float, int, int]] = field(default_factory=list)


@dataclass(frozen=True)
class RequestResult:
    """What happened to one request.

    Attributes:
        replica: Where it ran.
        arrival_s: When its client sent it.
        scheduled_s: When the first batch that held it was formed, kept through preemptions.
        first_token_s: When its first output token reached its client.
        completed_s: When its last output token reached its client.
        preemptions: How often it was preempted.
        cached_tokens: Prompt tokens found in the prefix cache at its first admission.
        token_times: When each of its output tokens reached its client, in seconds.
        preempted_s: How long it waited in all to be scheduled again after preemptions.
        worst_tbt_s: Longest time between two of its tokens, 0 for one token.
    """

    replica: int
    arrival_s: float
    scheduled_s: float
    first_token_s: float
    completed_s: float
    preemptions: int
    cached_tokens: int
    token_times: list[float]
    preempted_s: float = 0.0
    worst_tbt_s: float = 0.0


@dataclass(frozen=True)
class ReferenceResult:
    """A whole run.

    Attributes:
        requests: One entry per request, in the order they were handed in.
        replicas: One entry per engine: those of a replica side by side, in most runs one.
    """

    requests: list[RequestResult]
    replicas: list[ReplicaResult]

    @property
    def token_gaps_s(self) -> list[float]:
        """Every gap between two tokens of a request: replica by replica, in each as they occurred."""
        return [gap_s for replica in self.replicas for gap_s in replica.token_gaps_s]

    @property
    def batches(self) -> list[BatchRecord]:
        """Every iteration: replica by replica, in each in order."""
        return [batch for replica in self.replicas for batch in replica.batches]
