"""The batch policy of Orca (VIDUR.md 4.7)."""

from reference.batch import Batch
from reference.config import ReferenceConfig
from reference.vidur_policy import VidurPolicy


class Orca(VidurPolicy):
    """Iteration-level batches of decodes and whole prompts; each request reserves room for max_model_len for life.

    No token limit and no eviction. The decode order is the running list's. No request can be blocked for ever: the
    configuration guarantees one reservation, and max_model_len bounds the request.
    """

    def __init__(self, config: ReferenceConfig) -> None:
        """Start with no request and all blocks free."""
        super().__init__(config)
        self._blocks_for_life = config.blocks_for_life

    def schedule(self) -> Batch:
        """Form the next micro-batch."""
        batch = Batch()
        while self.running and not self._full(len(batch.members), self._max_micro_batch):
            self._append(batch, self.running.pop(0), 1)
        while (
            self.waiting
            and not self._full(len(batch.members), self._max_micro_batch)
            and self.pool.num_free >= self._blocks_for_life
        ):
            request = self.waiting.pop()
            self._take(request, self._blocks_for_life)
            self._append(batch, request, request.prefill_tokens)
        return batch
