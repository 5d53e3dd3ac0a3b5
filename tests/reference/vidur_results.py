"""What a run under parity returns: the columns of Vidur's own results, times in seconds."""

from dataclasses import dataclass

from reference.requests import Request


@dataclass(eq=False)
class VidurRequest(Request):
    """A request with the clocks that Vidur keeps for it; 0.0: never happened.

    `prompt_tokens` and `output_tokens` may change at a restart (oddity 6), their sum does not.

    Attributes:
        first_token_s: When its prefill first ended, kept through restarts.
        completed_s: When it ended.
        execution_s: Sum of the times of its stage runs.
        model_execution_s: The same without CPU overhead.
        preempted_s: Sum of the gaps between the end of one stage run and the start of the next.
        last_stage_end_s: End of its latest stage run.
    """

    first_token_s: float = 0.0
    completed_s: float = 0.0
    execution_s: float = 0.0
    model_execution_s: float = 0.0
    preempted_s: float = 0.0
    last_stage_end_s: float = 0.0

    @property
    def processed_tokens(self) -> int:
        """Vidur's n: the first output counts as processed as soon as the prefill ends."""
        return self.computed_tokens if self.computed_tokens < self.prefill_tokens else self.known_tokens


@dataclass(frozen=True)
class StageRecord:
    """One micro-batch on one stage.

    Attributes:
        batch: Number of the micro-batch in order of formation, over all replicas.
        replica: Where it ran.
        stage: On which stage.
        formed_s: When the micro-batch was formed.
        start_s: When the stage started it.
        end_s: When the stage ended it.
        total_s: What the stage took.
        model_s: The same without CPU overhead.
        num_requests: Its requests.
        num_tokens: Its tokens.
        num_prefill_tokens: Those of chunks.
        num_chunks: Requests that prefill.
        num_decodes: Requests that decode.
        decode_kv: Attention key, see AttentionKeys.
        prefill_kv: The same.
        prefill_chunk: The same.
        blocks_used: KV blocks held on the replica when the stage started.
    """

    batch: int
    replica: int
    stage: int
    formed_s: float
    start_s: float
    end_s: float
    total_s: float
    model_s: float
    num_requests: int
    num_tokens: int
    num_prefill_tokens: int
    num_chunks: int
    num_decodes: int
    decode_kv: int
    prefill_kv: int
    prefill_chunk: int
    blocks_used: int


@dataclass(frozen=True)
class VidurResult:
    """A whole run.

    Attributes:
        requests: In the order they were handed in.
        stages: One entry per micro-batch and stage, in order of their start.
        num_batches: Micro-batches formed.
        num_events: Events made, those left over at the time limit included.
    """

    requests: list[VidurRequest]
    stages: list[StageRecord]
    num_batches: int
    num_events: int
