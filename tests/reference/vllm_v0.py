"""The batch policy of vLLM's first engine (VIDUR.md 4.5)."""

from reference.batch import Batch
from reference.evicting_policy import EvictingPolicy
from reference.requests import Request


class VllmV0(EvictingPolicy):
    """Prefill first: a batch is whole prompts only, or, if none is admitted, decodes only.

    Refused before the run besides what EvictingPolicy refuses: P + O - 1 > max_num_batched_tokens, as the longest
    restart is prefilled whole.
    """

    def check(self, request: Request) -> None:
        """Refuse a request that would block its replica for ever.

        Raises:
            ValueError: As said.
        """
        super().check(request)
        if request.stored_tokens > self._max_tokens:
            raise ValueError(
                f"request {request.request_id} may prefill {request.stored_tokens} tokens at once, "
                f"max_num_batched_tokens is {self._max_tokens}"
            )

    def schedule(self) -> Batch:
        """Form the next micro-batch."""
        batch = Batch()
        longest = 0
        while self.waiting:
            head = self.waiting.head
            if head.swapped:
                break
            longest = max(longest, head.prefill_tokens)
            if (
                not self._fits(head)
                or (len(batch.members) + 1) * longest > self._max_tokens
                or self._full(self.num_holders, self._max_holders)
                or self._full(len(batch.members), self._max_micro_batch)
            ):
                break
            self._admit(batch, head.prefill_tokens)
        if batch.members:
            return batch
        self._sort_running()
        while self.running and not self._full(len(batch.members), self._max_micro_batch):
            self._decode(batch, self.running.pop(0))
        if not batch.preempted:
            self._admit_swapped(batch)
        return batch

    def _admit_swapped(self, batch: Batch) -> None:
        """Let swapped requests at the head of the queue join the decodes."""
        while (
            self.waiting
            and self.waiting.head.swapped
            and self._fits(self.waiting.head)
            and not self._full(self.num_holders, self._max_holders)
            and not self._full(len(batch.members), self._max_micro_batch)
        ):
            self._admit(batch, 1)
