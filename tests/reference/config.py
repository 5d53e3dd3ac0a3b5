"""Configuration of a run of the reference simulator."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ReferenceConfig:
    """Everything a run needs besides the requests and the tables; sizes in tokens unless said.

    Attributes:
        num_usable_blocks: KV blocks a replica can give out (N of VLLM.md: the null block is not counted).
        block_size: Tokens of one KV block (b).
        max_num_seqs: Most requests in the running list of a replica (M).
        max_num_batched_tokens: Most tokens of one iteration (the start value of B).
        max_model_len: Most tokens of one request, prompt and outputs together (L).
        long_prefill_token_threshold: Most tokens a request gets in one iteration; 0 switches the limit off.
        full_sequence_gate: Whether admission asks for room for the whole known sequence, not just its first chunk.
        batch_policy: Name in `reference.simulate.BATCH_POLICIES`.
        replicas: Copies of the model.
        router: Name in `reference.simulate.ROUTERS`.
    """

    num_usable_blocks: int
    block_size: int = 16
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 2048
    max_model_len: int = 8192
    long_prefill_token_threshold: int = 0
    full_sequence_gate: bool = True
    batch_policy: str = "vllm_v1"
    replicas: int = 1
    router: str = "round_robin"

    def __post_init__(self) -> None:
        """Refuse sizes with which no engine would start.

        Raises:
            ValueError: A size is too small, or a full running list could not decode in one iteration.
        """
        for field in (
            "num_usable_blocks",
            "block_size",
            "max_num_seqs",
            "max_num_batched_tokens",
            "max_model_len",
            "replicas",
        ):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} is {getattr(self, field)}, it must be at least 1")
        if self.long_prefill_token_threshold < 0:
            raise ValueError(f"long_prefill_token_threshold is {self.long_prefill_token_threshold}, it must not be < 0")
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise ValueError(
                f"max_num_batched_tokens is {self.max_num_batched_tokens}, "
                f"it must be at least max_num_seqs ({self.max_num_seqs})"
            )
