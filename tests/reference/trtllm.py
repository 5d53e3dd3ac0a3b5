"""The batch policy of TensorRT-LLM (VLLM.md part 10), without overlap and block reuse."""

from reference.batch import Batch, BatchMember
from reference.config import ReferenceConfig
from reference.requests import Request
from reference.vidur_policy import VidurPolicy


class TrtLlm(VidurPolicy):
    """Decodes, prefills under way and new prefills in one batch.

    Under guaranteed_no_evict a request starts only if its blocks to its very end are there, those that the others may
    still take not counted; under max_utilization if those of its prefill are, and whoever was started last is paused
    for want of them.

    Attributes:
        running: Started requests, in the order of start, those in flight included.
    """

    def __init__(self, config: ReferenceConfig) -> None:
        """Start with no request and all blocks free."""
        super().__init__(config)
        self._reserves = config.capacity_scheduler_policy == "guaranteed_no_evict"
        self._chunked = config.chunked_prefill
        self._victims_by_priority = config.queue_order == "priority"
        self._in_flight: list[Request] = []

    def check(self, request: Request) -> None:
        """Refuse a request that would block its replica for ever.

        Raises:
            ValueError: As said.
        """
        if self._reserves and self._blocks_to_the_end(request) > self.pool.num_usable_blocks:
            raise ValueError(
                f"request {request.request_id} reserves {self._blocks_to_the_end(request)} KV blocks, "
                f"num_usable_blocks is {self.pool.num_usable_blocks}"
            )
        longest = request.prompt_tokens if self._reserves else request.stored_tokens
        if not self._chunked and longest > self._max_tokens:
            raise ValueError(
                f"request {request.request_id} may prefill {longest} tokens at once, "
                f"max_num_batched_tokens is {self._max_tokens}"
            )

    def iteration_bound(self, request: Request) -> int | None:
        """Iterations that a request adds at most to its replica: without chunks every member gets a token."""
        return None if self._chunked else request.output_tokens

    def schedule(self) -> Batch:
        """Form the next micro-batch."""
        batch = Batch()
        chosen = self._choose_started(batch)
        left = self._max_tokens - sum(self._decodes(request) for request in chosen)
        for request in chosen:
            if self._decodes(request):
                self._append(batch, request, 1)
            elif (tokens := self._chunk(request, left)) > 0:
                self._take_for_chunk(request, tokens)
                self._append(batch, request, tokens)
                left -= tokens
        if not batch.preempted:
            self._start_waiting(batch, left)
        self._in_flight += [member.request for member in batch.members]
        return batch

    def process_outputs(self, batch: Batch) -> list[BatchMember]:
        """Advance the members of a batch that has run; the finished ones leave.

        Returns:
            The members that got a token, in batch order.
        """
        self._advance(batch)
        for member in batch.members:
            self._in_flight.remove(member.request)
            if member.request.finished:
                self._release(member.request)
                self.running.remove(member.request)
        return [member for member in batch.members if member.yields_token]

    def _choose_started(self, batch: Batch) -> list[Request]:
        """The first started requests that are not in flight; decodes have their block then, prefills not yet a chunk.

        A request in `chosen` may be paused for one behind it. The walk ends behind one that is paused for itself.
        """
        chosen: list[Request] = []
        for request in list(self.running):
            if len(chosen) == self._max_micro_batch:
                break
            if request in self._in_flight or request not in self.running:
                continue
            if self._decodes(request):
                need = self.pool.blocks_for(request.known_tokens) - len(request.blocks)
                while need > self.pool.num_free:
                    victim = self._choose_victim()
                    self.running.remove(victim)
                    if victim in chosen:
                        chosen.remove(victim)
                    self._restart(victim, batch)
                    if victim is request:
                        return chosen
                self._take(request, need)
            chosen.append(request)
        return chosen

    def _choose_victim(self) -> Request:
        """Whom a shortage hits, of those not in flight: the last started, or under priority the last in queue order."""
        if self._reserves:
            raise AssertionError("a decode lacks a block that was reserved for it")
        idle = [request for request in self.running if request not in self._in_flight]
        return max(idle, key=lambda request: request.queue_key) if self._victims_by_priority else idle[-1]

    def _start_waiting(self, batch: Batch, left: int) -> None:
        """Start requests from the head of the queue until a test fails."""
        available = self.pool.num_free
        if self._reserves:
            available -= sum(self._blocks_to_the_end(request) - len(request.blocks) for request in self.running)
        while self.waiting and len(self.running) < self._max_holders and len(batch.members) < self._max_micro_batch:
            head = self.waiting.head
            need = self._blocks_to_the_end(head) if self._reserves else self.pool.blocks_for(head.prefill_tokens)
            tokens = self._chunk(head, left)
            if need > available or tokens == 0:
                return
            self.waiting.pop()
            self.running.append(head)
            self._take_for_chunk(head, tokens)
            self._append(batch, head, tokens)
            available -= need
            left -= tokens

    def _chunk(self, request: Request, left: int) -> int:
        """Tokens of a prefill that the budget allows: all or none, or in chunks, whole blocks if it is cut."""
        missing = request.prefill_tokens - request.computed_tokens
        if missing <= left:
            return missing
        return left // self.pool.block_size * self.pool.block_size if self._chunked else 0

    def _take_for_chunk(self, request: Request, tokens: int) -> None:
        """Blocks of a chunk; under max_utilization the first takes those of the whole prefill."""
        stored = request.computed_tokens + tokens if self._reserves else request.prefill_tokens
        self._take(request, self.pool.blocks_for(stored) - len(request.blocks))

    def _blocks_to_the_end(self, request: Request) -> int:
        """Blocks for all tokens, the last output included."""
        return self.pool.blocks_for(request.prompt_tokens + request.output_tokens)

    @staticmethod
    def _decodes(request: Request) -> bool:
        """Whether its prefill is complete."""
        return request.computed_tokens >= request.prefill_tokens
