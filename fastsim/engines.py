"""The batch policies of SGLang and TensorRT-LLM as choices; docs/policies.md has the rules."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from fastsim.batch_policy import AS_WRITTEN, WHOLE_PROMPT, Pool, Scheduler
from fastsim.errors import ConfigError


@dataclass(frozen=True)
class Sglang(Scheduler):
    """SGLang's scheduler, synchronous; the names are SGLang's own but for max_num_seqs.

    The defaults are those of SGLang 0.5 on a card of 80 GB.

    Attributes:
        max_num_seqs: most requests running at a time (max_running_requests; SGLang derives 2048 to 4096).
        max_prefill_tokens: most tokens of a batch of prompts; a longer prompt runs alone.
        chunked_prefill_size: most tokens of a batch of prompts, to which a longer prompt is cut; 0 to cut none.
        schedule_conservativeness: factor on the part of the outputs to come for which memory is set aside.
        enable_prefix_caching: keep KV pages in a radix tree and reuse those of equal text (disable_radix_cache); None
            as the engine preset says, and with ``ideal`` exactly if the workload names its blocks.
    """

    kernel: ClassVar[str] = "sglang:schedule"

    max_num_seqs: int = 2048
    max_prefill_tokens: int = 16384
    chunked_prefill_size: int = 8192
    schedule_conservativeness: float = 1.0
    enable_prefix_caching: bool | None = None

    def check(self, max_model_len: int, block_size: int) -> None:
        """Refuse limits with which no engine would start; see the base."""
        super().check(max_model_len, block_size)
        if 0 < self.chunked_prefill_size < block_size:
            raise ConfigError(
                "scheduler.chunked_prefill_size",
                self.chunked_prefill_size,
                f"is less than block_size = {block_size}, so no prompt could ever be cut",
                f"give {block_size} or more, or 0 to cut none",
            )

    def limits(self, pool: Pool) -> dict[str, float]:
        """Fields of the kernel's REPLICA record, with their values."""
        start = min(1.0, 0.7 * self.schedule_conservativeness)
        floor = 0.14 * start
        return {
            "max_num_seqs": self.max_num_seqs,
            "max_num_batched_tokens": self.max_prefill_tokens,
            "sums_running": True,
            "owns_slots": True,
            "radix": True,
            "chunked_prefill_size": self.chunked_prefill_size,
            "ratio_start": start,
            "ratio_floor": floor,
            "ratio_decay": (start - floor) / 600,
        }

    def most_tokens(self, pool: Pool) -> int:
        """Most tokens of one iteration."""
        return max(self.max_num_seqs, self.activation_tokens(pool.max_model_len))

    def activation_tokens(self, max_model_len: int) -> int:
        """Most tokens of a batch of prompts.

        The tokens of several stay below max_prefill_tokens, and one alone is at most all that a request knows before
        its last output.
        """
        uncut = max(self.max_prefill_tokens, max_model_len) - 1
        return min(uncut, self.chunked_prefill_size) if self.chunked_prefill_size > 0 else uncut

    def never_fits(self, prompt: Any, output: Any, pool: Pool) -> Any:
        """Those that could not be admitted to an empty pool."""
        return prompt + output >= pool.num_blocks * pool.block_size


_GUARANTEED_NO_EVICT, _MAX_UTILIZATION = "guaranteed_no_evict", "max_utilization"


@dataclass(frozen=True)
class TrtLlm(Scheduler):
    """TensorRT-LLM's scheduler, without overlap and block reuse.

    The defaults are those of the Python API of TensorRT-LLM 1.x.

    Attributes:
        max_num_seqs: most requests running at a time (max_batch_size).
        max_num_batched_tokens: most tokens of one iteration (max_num_tokens).
        capacity_scheduler_policy: ``"guaranteed_no_evict"`` admits only what can run to its end beside the others,
            ``"max_utilization"`` admits what fits now, and pauses the last started where blocks run short.
        enable_chunked_prefill: cut a prompt that exceeds what is left of max_num_batched_tokens.
    """

    kernel: ClassVar[str] = "trtllm:schedule"

    max_num_seqs: int = 2048
    max_num_batched_tokens: int = 8192
    capacity_scheduler_policy: str = field(
        default=_GUARANTEED_NO_EVICT, metadata={"choices": (_GUARANTEED_NO_EVICT, _MAX_UTILIZATION)}
    )
    enable_chunked_prefill: bool = False

    def check(self, max_model_len: int, block_size: int) -> None:
        """Refuse limits with which no engine would start; see the base."""
        super().check(max_model_len, block_size)
        for name, least in (("max_num_seqs", self.max_num_seqs), ("block_size", block_size)):
            if self.max_num_batched_tokens < least and (name == "max_num_seqs" or self.enable_chunked_prefill):
                raise ConfigError(
                    "scheduler.max_num_batched_tokens",
                    self.max_num_batched_tokens,
                    f"is less than {name} = {least}",
                    f"give {least} or more, or lower {name}",
                )

    def limits(self, pool: Pool) -> dict[str, float]:
        """Fields of the kernel's REPLICA record, with their values."""
        guaranteed = self.capacity_scheduler_policy == _GUARANTEED_NO_EVICT
        return {
            "max_num_seqs": self.max_num_seqs,
            "max_num_batched_tokens": self.max_num_batched_tokens,
            "enable_chunked_prefill": self.enable_chunked_prefill,
            "guaranteed_no_evict": guaranteed,
            "sums_running": guaranteed,
            "memory_rule": AS_WRITTEN if guaranteed else WHOLE_PROMPT,
        }

    def most_tokens(self, pool: Pool) -> int:
        """Most tokens of one iteration."""
        return self.max_num_batched_tokens

    def never_fits(self, prompt: Any, output: Any, pool: Pool) -> Any:
        """Those whose blocks could not be guaranteed, and, uncut, those whose longest prefill exceeds the limit."""
        guaranteed = self.capacity_scheduler_policy == _GUARANTEED_NO_EVICT
        never = (pool.blocks(prompt + output) > pool.num_blocks) if guaranteed else prompt < 0
        if self.enable_chunked_prefill:
            return never
        longest = prompt if guaranteed else prompt + output - 1
        return never | (longest > self.max_num_batched_tokens)
