"""What every batch policy offers as a choice: its fields, what it refuses, and what it tells its kernel.

Nothing here imports numba or numpy: masks are computed on the arrays handed in.
"""

from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar

from fastsim.errors import ConfigError

#: Values of the kernel's field ``memory_rule``, see fastsim.kernel.state.
AS_WRITTEN, WHOLE_PROMPT, FOR_LIFE = range(3)
SWAP = "swap"


def preemption_field() -> Any:
    """What becomes of the KV of a preempted request: computed again, or copied to host memory and back."""
    return field(default="recompute", metadata={"choices": ("recompute", SWAP)})


@dataclass(frozen=True)
class Pool:
    """The KV memory of a replica and the longest request that it must serve.

    Attributes:
        num_blocks: usable blocks.
        block_size: tokens per block.
        max_model_len: longest request [tokens].
    """

    num_blocks: int
    block_size: int
    max_model_len: int

    def blocks(self, num_tokens: Any) -> Any:
        """Blocks that hold so many tokens; numbers or arrays."""
        return -(-num_tokens // self.block_size)


@dataclass(frozen=True)
class Scheduler:
    """What every batch policy offers.

    Attributes:
        max_num_seqs: most requests running at a time.
    """

    #: ``"module:function"`` in fastsim.kernel.
    kernel: ClassVar[str]
    #: Blocks that the engine keeps for itself; vLLM V1 keeps block 0 as the null block and never gives it out.
    null_blocks: ClassVar[int] = 0

    max_num_seqs: int = 256

    def check(self, max_model_len: int, block_size: int) -> None:
        """Refuse limits with which no engine would start.

        Args:
            max_model_len: longest request [tokens].
            block_size: tokens per KV block.

        Raises:
            ConfigError: naming the field.
        """
        for spec in fields(self):
            value = getattr(self, spec.name)
            least = 1 if spec.name.startswith("max_num_") or spec.name in ("chunk_size", "max_prefill_tokens") else 0
            if not isinstance(value, str) and value is not None and value < least:
                mend = f"give {least} or more"
                raise ConfigError(f"scheduler.{spec.name}", value, "is too small", mend)

    def check_stages(self, pipeline_parallel: int) -> None:
        """Refuse pipeline stages over which the policy cannot spread its micro-batches.

        Raises:
            ConfigError: naming the field.
        """
        if self.max_num_seqs < pipeline_parallel:
            raise ConfigError(
                "scheduler.max_num_seqs",
                self.max_num_seqs,
                f"is less than pipeline_parallel = {pipeline_parallel}, so a micro-batch could hold no request",
                f"give {pipeline_parallel} or more, or fewer stages",
            )

    def limits(self, pool: Pool) -> dict[str, float]:
        """Fields of the kernel's REPLICA record, with their values."""
        named = asdict(self)
        swaps = named.pop("preemption_mode", "") == SWAP
        named.pop("enable_prefix_caching", None)  # fastsim.engine_presets says what it comes to
        return {name: int(value) for name, value in named.items()} | {"swaps": swaps}

    def most_tokens(self, pool: Pool) -> int:
        """Most tokens of one iteration."""
        raise NotImplementedError

    def activation_tokens(self, max_model_len: int) -> int:
        """Tokens of the iteration for whose activations the engine sets memory aside when it starts.

        Policies without a token budget run what the memory leaves room for: their engines profile a longest request.
        """
        tokens: int = getattr(self, "max_num_batched_tokens", max_model_len)
        return tokens

    def never_fits(self, prompt: Any, output: Any, pool: Pool) -> Any:
        """Which requests could never complete, though the pool could hold each of them alone.

        Args:
            prompt: prompt tokens, int64 [n].
            output: output tokens, int64 [n].
            pool: the memory.

        Returns:
            bool [n].
        """
        return prompt < 0
