"""What vllm_v0 and sarathi share: the watermark, and eviction of the latest arrival (VIDUR.md 4.5)."""

from reference.batch import Batch
from reference.requests import Request
from reference.vidur_policy import VidurPolicy


class EvictingPolicy(VidurPolicy):
    """Admission leaves `watermark` blocks free; a decode that finds no free block evicts from the end of running.

    A decode asks for one free block even if it needs none (vLLM's can_append_slots does the same). Refused before the
    run (oddity 15): a request whose longest restart, of P + O - 1 tokens, would not leave the watermark free in an
    empty pool, or which, alone, would find no free block at its last decode.
    """

    def check(self, request: Request) -> None:
        """Refuse a request that would block its replica for ever.

        Raises:
            ValueError: As said.
        """
        need = self.pool.blocks_for(request.stored_tokens) + self._watermark
        if request.output_tokens > 1:
            need = max(need, self.pool.blocks_for(request.stored_tokens - 1) + 1)
        if need > self.pool.num_usable_blocks:
            raise ValueError(
                f"request {request.request_id} needs {need} KV blocks, watermark included, "
                f"num_usable_blocks is {self.pool.num_usable_blocks}"
            )

    def _fits(self, request: Request) -> bool:
        """Whether a waiting request finds blocks for all it knows above the watermark.

        Known is what its prefill must compute, except for a swapped decode, which lacks the last token only.
        """
        return self.pool.num_free - self.pool.blocks_for(request.known_tokens) >= self._watermark

    def _admit(self, batch: Batch, tokens: int) -> None:
        """Admit the head of the queue with blocks for all it knows."""
        request = self.waiting.pop()
        self._take(request, self.pool.blocks_for(request.known_tokens))
        if request.swapped:
            request.swapped = False
            batch.swapped_in_blocks += self.pool.blocks_for(request.computed_tokens)
        self._append(batch, request, tokens)

    def _decode(self, batch: Batch, request: Request) -> None:
        """Put a decode, already taken off the running list, in the batch, or restart it if nobody is left to evict."""
        while self.pool.num_free < 1:
            if not self.running:
                self._restart(request, batch)
                return
            self._restart(self.running.pop(), batch)
        missing = max(0, request.known_tokens - len(request.blocks) * self.pool.block_size)
        if missing > 1:
            raise AssertionError(f"request {request.request_id} lacks {missing} tokens of KV, a decode writes one")
        self._take(request, missing)
        self._append(batch, request, 1)
