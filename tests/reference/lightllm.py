"""The batch policy of LightLLM (VIDUR.md 4.9)."""

from itertools import accumulate

from reference.batch import Batch
from reference.config import ReferenceConfig
from reference.requests import Request
from reference.vidur_policy import VidurPolicy


class LightLlm(VidurPolicy):
    """Token-level memory: admits a prompt if the largest KV use still to come, all lengths known, stays below the pool.

    Prefill-only and decode-only batches. While requests run, admission is tried only every max_waiting_iterations + 1
    batches: the counter returns to 0 with every attempt made while requests run, whether it admits or not, and with
    every admission; it grows with each decode batch. Nobody is ever evicted. Blocks are single tokens: P at admission,
    one for each decode.

    Refused before the run (oddity 15): P > max_num_batched_tokens, or a request that alone fails the peak test.
    """

    def __init__(self, config: ReferenceConfig) -> None:
        """Start with no request and all blocks free."""
        super().__init__(config)
        self._max_waiting_iterations = config.max_waiting_iterations
        self._waiting_iterations = 0

    def check(self, request: Request) -> None:
        """Refuse a request that would block its replica for ever.

        Raises:
            ValueError: As said.
        """
        if request.prompt_tokens > self._max_tokens:
            raise ValueError(
                f"request {request.request_id} prefills {request.prompt_tokens} tokens at once, "
                f"max_num_batched_tokens is {self._max_tokens}"
            )
        if (peak := self._peak([self._candidate(request)])) >= self.pool.num_usable_blocks:
            raise ValueError(
                f"request {request.request_id} needs {peak} tokens of KV, it must be less than "
                f"num_usable_blocks ({self.pool.num_usable_blocks})"
            )

    def schedule(self) -> Batch:
        """Form the next batch."""
        if not self.running or self._waiting_iterations >= self._max_waiting_iterations:
            if self.running:
                self._waiting_iterations = 0
            batch = self._prefill()
            if batch.members or not self.running:
                if batch.members:
                    self._waiting_iterations = 0
                return batch
        if self.pool.num_free < len(self.running):
            raise AssertionError(f"{len(self.running)} decodes find {self.pool.num_free} free tokens")
        batch = Batch()
        for request in self.running:
            self._take(request, 1)
            self._append(batch, request, 1)
        self.running = []
        self._waiting_iterations += 1
        return batch

    def _prefill(self) -> Batch:
        """Admit from the head of the queue until a test fails."""
        batch = Batch()
        loads = [
            (request.known_tokens, max(0, request.output_tokens - request.generated_tokens - 1))
            for request in self.running
        ]
        while self.waiting:
            head = self.waiting.head
            loads.append(self._candidate(head))
            if (
                batch.num_tokens + head.prefill_tokens > self._max_tokens
                or self._full(self.num_holders, self._max_holders)
                or self._full(len(batch.members), self._max_micro_batch)
                or self._peak(loads) >= self.pool.num_usable_blocks
            ):
                break
            self.waiting.pop()
            self._take(head, head.prefill_tokens)
            self._append(batch, head, head.prefill_tokens)
        return batch

    @staticmethod
    def _candidate(request: Request) -> tuple[int, int]:
        """(tokens after its prefill, decodes after that) of a request that waits."""
        return request.prompt_tokens + 1, max(0, request.output_tokens - 2)

    @staticmethod
    def _peak(loads: list[tuple[int, int]]) -> int:
        """Largest KV use still to come: when the i-th longest-lived request ends, only i requests are left."""
        ordered = sorted(loads, key=lambda load: -load[1])
        held = accumulate(tokens for tokens, _ in ordered)
        return max(left * (i + 1) + tokens for i, ((_, left), tokens) in enumerate(zip(ordered, held, strict=True)))
