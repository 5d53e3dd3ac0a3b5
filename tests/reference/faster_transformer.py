"""The batch policy of FasterTransformer (VIDUR.md 4.8)."""

from collections import deque

from reference.batch import Batch, BatchMember
from reference.config import ReferenceConfig
from reference.requests import Request
from reference.vidur_policy import VidurPolicy


class FasterTransformer(VidurPolicy):
    """Request-level batches: whoever starts together stays together, and nobody joins before all of them are done.

    Each member reserves room for max_model_len. A finished member takes no further part, in time or tokens, and gives
    its blocks back at once. Parity, oddity 5: blocks come back only at the end of the batch, and only those of the
    members it still had.

    Attributes:
        groups: Unfinished members of each batch that is not in flight, the next one to run first.
    """

    def __init__(self, config: ReferenceConfig) -> None:
        """Start with no request and all blocks free."""
        super().__init__(config)
        self.groups: deque[list[Request]] = deque()
        self._blocks_for_life = config.blocks_for_life

    @property
    def has_unfinished(self) -> bool:
        """Whether any request could be given to a batch now or later, those in flight not counted."""
        return bool(self.waiting or self.groups)

    def schedule(self) -> Batch:
        """Form the next micro-batch."""
        batch = Batch()
        if self.groups:
            for request in self.groups.popleft():
                self._append(batch, request, 1)
            return batch
        while (
            self.waiting
            and not self._full(len(batch.members), self._max_micro_batch)
            and self.pool.num_free >= self._blocks_for_life
        ):
            request = self.waiting.pop()
            self._take(request, self._blocks_for_life)
            self._append(batch, request, request.prefill_tokens)
        return batch

    def process_outputs(self, batch: Batch) -> list[BatchMember]:
        """Advance the members of a batch that has run.

        Returns:
            The members that got a token, which is all, in batch order.
        """
        self._advance(batch)
        unfinished = [member.request for member in batch.members if not member.request.finished]
        if unfinished:
            self.groups.append(unfinished)
        if not unfinished or not self._parity:
            for member in batch.members:
                if member.request.finished:
                    self._release(member.request)
        return batch.members
