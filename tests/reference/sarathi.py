"""The batch policy of Sarathi-Serve (VIDUR.md 4.6)."""

from reference.batch import Batch
from reference.evicting_policy import EvictingPolicy
from reference.requests import Request


class Sarathi(EvictingPolicy):
    """Chunked prefill: decodes, then prefills under way, then new prefills, the chunks cut to a token budget.

    Decodes draw on the budget but are never refused by it. A prefill under way needs no blocks, it took them all at
    admission. Corrected (oddity 13): prefills under way respect the micro-batch cap.
    """

    def iteration_bound(self, request: Request) -> int:
        """Iterations that a request adds at most to its replica.

        With one stage P + 2 O - 1 would do: the holders are always the earliest arrivals, the earliest of all is never
        evicted, and each iteration gives it a chunk or a token, or else spends the whole budget on decodes, one of
        which takes the charge. With more stages it may find all blocks held by micro-batches in flight and
        restart itself, but only after another output of its own: O prefills of P + O - 1 tokens. That it is evicted
        in the middle of them by a request that arrived later is not covered: with stages, which multiply the bound,
        this is a safeguard.
        """
        return self._num_stages * request.output_tokens * (request.stored_tokens + 1)

    def schedule(self) -> Batch:
        """Form the next micro-batch."""
        batch = Batch()
        under_way: list[Request] = []
        while self.running and not self._full(len(batch.members), self._max_micro_batch):
            request = self.running.pop(0)
            if request.computed_tokens < request.prefill_tokens:
                under_way.append(request)
            else:
                self._decode(batch, request)
        skipped = [request for request in under_way if not self._continue(batch, request)]
        self.running = skipped + self.running
        self._sort_running()
        while (
            self.waiting
            and not (self.waiting.head.swapped and batch.preempted)
            and not self._full(self.num_holders, self._max_holders)
            and not self._full(len(batch.members), self._max_micro_batch)
            and self._fits(self.waiting.head)
            and (tokens := self._chunk(batch, self.waiting.head)) > 0
        ):
            self._admit(batch, tokens)
        return batch

    def _continue(self, batch: Batch, request: Request) -> bool:
        """Put the next chunk of a prefill under way in the batch, if there is room."""
        tokens = self._chunk(batch, request)
        if tokens == 0 or (not self._parity and len(batch.members) >= self._max_micro_batch):
            return False
        self._append(batch, request, tokens)
        return True

    def _chunk(self, batch: Batch, request: Request) -> int:
        """Tokens that the budget leaves a prefill, or a swapped decode, which lacks one."""
        return max(0, min(request.known_tokens - request.computed_tokens, self._max_tokens - batch.num_tokens))
