"""Batch policies as choices: the fields of each, what each refuses, and what each tells its kernel.

docs/policies.md has the rules. Nothing here imports numba or numpy: masks are computed on the arrays handed in.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from fastsim.batch_policy import FOR_LIFE, SWAP, WHOLE_PROMPT, Pool, Scheduler, preemption_field
from fastsim.engines import Sglang, TrtLlm
from fastsim.errors import ConfigError


@dataclass(frozen=True)
class VllmV1(Scheduler):
    """vLLM's V1 scheduler; the names are vLLM's own.

    Attributes:
        max_num_seqs: most requests running at a time.
        max_num_batched_tokens: most tokens in one iteration.
        long_prefill_token_threshold: longest prefill chunk, 0 for no limit.
        scheduler_reserve_full_isl: admit a request only if all its known tokens fit into free blocks (vLLM >= 0.19).
        enable_chunked_prefill: cut a prompt that exceeds what is left of max_num_batched_tokens.
        preemption_mode: ``"recompute"``, or ``"swap"`` the KV of a preempted request to host memory (not in vLLM V1).
        enable_prefix_caching: reuse KV blocks of equal text; None as the engine preset says, and with ``ideal`` exactly
            if the workload names its blocks.
    """

    kernel: ClassVar[str] = "vllm_v1:schedule"
    null_blocks: ClassVar[int] = 1

    max_num_batched_tokens: int = 2048
    long_prefill_token_threshold: int = 0
    scheduler_reserve_full_isl: bool = True
    enable_chunked_prefill: bool = True
    preemption_mode: str = preemption_field()
    enable_prefix_caching: bool | None = None

    def check(self, max_model_len: int, block_size: int) -> None:
        """Refuse what the engine refuses at its start.

        Args:
            max_model_len: longest request [tokens].
            block_size: tokens per KV block.

        Raises:
            ConfigError: a limit below 1, or limits that contradict each other.
        """
        super().check(max_model_len, block_size)
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise ConfigError(
                "scheduler.max_num_batched_tokens",
                self.max_num_batched_tokens,
                f"is less than max_num_seqs = {self.max_num_seqs}, so a decode could be left out of every iteration",
                f"give {self.max_num_seqs} or more, or lower max_num_seqs",
            )
        if not self.enable_chunked_prefill and self.max_num_batched_tokens < max_model_len:
            raise ConfigError(
                "scheduler.max_num_batched_tokens",
                self.max_num_batched_tokens,
                f"is less than max_model_len = {max_model_len} without chunked prefill: a long prompt could never run",
                f"give {max_model_len} or more, or enable chunked prefill",
            )

    def limits(self, pool: Pool) -> dict[str, float]:
        """Fields of the kernel's REPLICA record, with their values."""
        return super().limits(pool) | {"stays_running": 1}

    def check_stages(self, pipeline_parallel: int) -> None:
        """Any number of stages: max_num_seqs is that of all micro-batches together."""

    def most_tokens(self, pool: Pool) -> int:
        """Most tokens of one iteration."""
        return self.max_num_batched_tokens


@dataclass(frozen=True)
class _Evicting(Scheduler):
    """What vllm_v0 and sarathi share: all blocks of a prompt at its admission, eviction of the latest arrival."""

    watermark_blocks_fraction: float = 0.01
    preemption_mode: str = preemption_field()

    def check(self, max_model_len: int, block_size: int) -> None:
        """Refuse limits with which no engine would start; see the base."""
        super().check(max_model_len, block_size)
        if self.watermark_blocks_fraction >= 1:
            value = self.watermark_blocks_fraction
            raise ConfigError("scheduler.watermark_blocks_fraction", value, "leaves no block", "give 0.01, say")

    def _watermark_blocks(self, pool: Pool) -> int:
        return int(self.watermark_blocks_fraction * pool.num_blocks)

    def limits(self, pool: Pool) -> dict[str, float]:
        """Fields of the kernel's REPLICA record, with their values."""
        return {
            "max_num_seqs": self.max_num_seqs,
            "max_num_batched_tokens": self.most_tokens(pool),
            "watermark_blocks": self._watermark_blocks(pool),
            "memory_rule": WHOLE_PROMPT,
            "spare_blocks": 1,
            "swaps": self.preemption_mode == SWAP,
        }

    def never_fits(self, prompt: Any, output: Any, pool: Pool) -> Any:
        """Those that could not be admitted again after an eviction, or that alone would find no block to ask for."""
        longest_restart = prompt + output - 1
        last_decode = (output > 1) & (pool.blocks(longest_restart - 1) + 1 > pool.num_blocks)
        return (pool.blocks(longest_restart) + self._watermark_blocks(pool) > pool.num_blocks) | last_decode


@dataclass(frozen=True)
class VllmV0(_Evicting):
    """vLLM's first scheduler: whole prompts first, decodes only where none can be admitted.

    Attributes:
        max_num_seqs: most requests running at a time.
        watermark_blocks_fraction: part of the KV blocks that an admission leaves free.
        preemption_mode: ``"recompute"``, or ``"swap"`` the KV of a preempted request to host memory.
        max_num_batched_tokens: most prompt tokens of one iteration, padded to its longest prompt.
    """

    kernel: ClassVar[str] = "vllm_v0:schedule"

    max_num_batched_tokens: int = 8192

    def most_tokens(self, pool: Pool) -> int:
        """Most tokens of one iteration."""
        return max(self.max_num_batched_tokens, self.max_num_seqs)

    def limits(self, pool: Pool) -> dict[str, float]:
        """Fields of the kernel's REPLICA record, with their values."""
        return super().limits(pool) | {"max_num_batched_tokens": self.max_num_batched_tokens}

    def never_fits(self, prompt: Any, output: Any, pool: Pool) -> Any:
        """Those of the base, and those whose longest restart exceeds max_num_batched_tokens."""
        return super().never_fits(prompt, output, pool) | (prompt + output - 1 > self.max_num_batched_tokens)


@dataclass(frozen=True)
class Sarathi(_Evicting):
    """Sarathi-Serve: chunked prefill, decodes first.

    Attributes:
        max_num_seqs: most requests running at a time.
        watermark_blocks_fraction: part of the KV blocks that an admission leaves free.
        preemption_mode: ``"recompute"``, or ``"swap"`` the KV of a preempted request to host memory.
        chunk_size: most tokens of one iteration; decodes count, but are never refused.
    """

    kernel: ClassVar[str] = "sarathi:schedule"

    chunk_size: int = 512

    def most_tokens(self, pool: Pool) -> int:
        """Most tokens of one iteration."""
        return max(self.chunk_size, self.max_num_seqs)

    def limits(self, pool: Pool) -> dict[str, float]:
        """Fields of the kernel's REPLICA record, with their values."""
        return super().limits(pool) | {"max_num_batched_tokens": self.chunk_size}


@dataclass(frozen=True)
class _Reserving(Scheduler):
    """What orca and faster_transformer share: the blocks of a longest request, from admission to the end."""

    def limits(self, pool: Pool) -> dict[str, float]:
        """Fields of the kernel's REPLICA record, with their values."""
        reserved = pool.blocks(pool.max_model_len)
        return {"max_num_seqs": self.max_num_seqs, "memory_rule": FOR_LIFE, "reserved_blocks": reserved}

    def most_tokens(self, pool: Pool) -> int:
        """Most tokens of one iteration."""
        reservations = pool.num_blocks // int(pool.blocks(pool.max_model_len))
        return min(self.max_num_seqs, max(1, reservations)) * pool.max_model_len

    def never_fits(self, prompt: Any, output: Any, pool: Pool) -> Any:
        """All, if the pool cannot hold one reservation."""
        return (prompt > 0) & (pool.blocks(pool.max_model_len) > pool.num_blocks)


@dataclass(frozen=True)
class Orca(_Reserving):
    """Orca: iteration-level batching of whole prompts and decodes, memory reserved for life.

    Attributes:
        max_num_seqs: most requests running at a time.
    """

    kernel: ClassVar[str] = "orca:schedule"


@dataclass(frozen=True)
class FasterTransformer(_Reserving):
    """FasterTransformer: request-level batching, nobody joins a running group.

    Attributes:
        max_num_seqs: most requests running at a time.
    """

    kernel: ClassVar[str] = "orca:schedule_groups"

    def limits(self, pool: Pool) -> dict[str, float]:
        """Fields of the kernel's REPLICA record, with their values."""
        return super().limits(pool) | {"owns_slots": True}


@dataclass(frozen=True)
class LightLlm(Scheduler):
    """LightLLM: token-level memory (``block_size`` 1), admission by the peak of the memory to come.

    Attributes:
        max_num_seqs: most requests running at a time.
        max_num_batched_tokens: most prompt tokens of one iteration.
        max_waiting_iterations: decode iterations between two attempts to admit.
    """

    kernel: ClassVar[str] = "lightllm:schedule"

    max_num_batched_tokens: int = 8192
    max_waiting_iterations: int = 10

    def check(self, max_model_len: int, block_size: int) -> None:
        """Refuse limits with which no engine would start; see the base."""
        super().check(max_model_len, block_size)
        if block_size != 1:
            raise ConfigError("block_size", block_size, "does not go with scheduler lightllm", "give 1")

    def check_stages(self, pipeline_parallel: int) -> None:
        """Refuse more than one stage: the policy's rule is for one."""
        if pipeline_parallel != 1:
            mend = "give 1, or choose another scheduler"
            raise ConfigError("pipeline_parallel", pipeline_parallel, "does not go with scheduler lightllm", mend)

    def most_tokens(self, pool: Pool) -> int:
        """Most tokens of one iteration."""
        return max(self.max_num_batched_tokens, self.max_num_seqs)

    def never_fits(self, prompt: Any, output: Any, pool: Pool) -> Any:
        """Those whose prompt exceeds the limit, and those whose own peak reaches the pool."""
        left = (output - 2) * (output > 2)
        return (prompt > self.max_num_batched_tokens) | (prompt + 1 + left >= pool.num_blocks)


SCHEDULERS: Mapping[str, type[Scheduler]] = {
    "faster_transformer": FasterTransformer,
    "lightllm": LightLlm,
    "orca": Orca,
    "sarathi": Sarathi,
    "sglang": Sglang,
    "trtllm": TrtLlm,
    "vllm_v0": VllmV0,
    "vllm_v1": VllmV1,
}
