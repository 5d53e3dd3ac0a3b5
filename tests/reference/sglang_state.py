"""What sglang keeps: its micro-batch slots, and the budget of the prefill batch that it is forming."""

from dataclasses import dataclass, field

from reference.batch import Batch
from reference.requests import Request


@dataclass(eq=False)
class Slot:
    """Who takes turns in one micro-batch slot; with one stage there is one.

    Attributes:
        running: Requests that decode, in the order in which their prefill ended.
        chunked: The request whose prefill is under way.
        full: Whether new prefills wait until somebody leaves running; of no effect on a slot with nobody running.
        batch: Its micro-batch in flight.
    """

    running: list[Request] = field(default_factory=list)
    chunked: Request | None = None
    full: bool = False
    batch: Batch | None = None


@dataclass
class Budget:
    """What is left for a prefill batch, in tokens.

    Attributes:
        memory: rem, free KV less what running requests are expected to need.
        inputs: What is left of max_prefill_tokens.
        chunk: What is left of chunked_prefill_size; None: no limit.
    """

    memory: float
    inputs: int
    chunk: int | None

    @property
    def is_spent(self) -> bool:
        """Whether nobody more may join."""
        return self.memory <= 0 or self.inputs <= 0 or (self.chunk is not None and self.chunk <= 0)

    def charge(self, tokens: int, outputs: int) -> None:
        """Take tokens, in whole blocks, from all three, and then expected outputs from the memory."""
        self.memory -= tokens
        self.inputs -= tokens
        if self.chunk is not None:
            self.chunk -= tokens
        self.memory -= outputs
