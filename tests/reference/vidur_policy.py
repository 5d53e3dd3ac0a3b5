"""What the paper's five batch policies share (VIDUR.md 4.4)."""

from reference.batch import Batch, BatchMember
from reference.blocks import BlockPool
from reference.config import ReferenceConfig
from reference.requests import Request
from reference.waiting import WaitingQueue


class VidurPolicy:
    """Queues, KV blocks, eviction and the end of a batch; a policy adds how a batch is formed.

    A request is in one place at a time: waiting, running, or in a micro-batch in flight; hence micro-batches are
    disjoint. n, Vidur's "processed tokens", is `computed_tokens` before the prefill ends and `known_tokens` after it:
    the last chunk gives the first output for free. P, the tokens to prefill, is `prefill_tokens`.

    Restart: the KV is dropped and P becomes the known tokens, prompt and outputs so far, so an unfinished prefill
    keeps its P. Parity, oddity 6: an unfinished prefill of n tokens becomes a prompt of n tokens, and the rest of
    the prompt becomes outputs.

    Order: under fcfs the waiting queue is first come first served with restarts at its front. The running list is in
    queue order, which under fcfs is (arrival, position in the input). Parity: in order of return from a batch, except
    where a policy sorts.

    Attributes:
        pool: The KV blocks.
        waiting: Requests not admitted, the next one first.
        running: Admitted, unfinished requests that are in no micro-batch in flight.
        num_holders: Requests that hold blocks, those in flight included.
    """

    schedules_on_arrival = True
    """A free micro-batch slot is filled as soon as a request arrives."""

    def __init__(self, config: ReferenceConfig) -> None:
        """Start with no request and all blocks free."""
        self.pool = BlockPool(config.num_usable_blocks, config.block_size)
        self.waiting = WaitingQueue(config.queue_order)
        self.running: list[Request] = []
        self.num_holders = 0
        self._swap = config.preemption_mode == "swap"
        self._parity = config.parity is not None
        self._max_holders = config.max_num_seqs
        self._num_stages = config.num_stages
        self._max_micro_batch = config.max_micro_batch
        self._max_tokens = config.max_num_batched_tokens
        self._watermark = config.watermark_blocks

    @property
    def has_unfinished(self) -> bool:
        """Whether any request could be given to a batch now or later, those in flight not counted."""
        return bool(self.waiting or self.running)

    def iteration_bound(self, request: Request) -> int | None:
        """Iterations that a request adds at most to its replica: every member gets a token in every iteration."""
        return request.output_tokens

    def check(self, request: Request) -> None:
        """Refuse a request that could never run (oddity 15); the policies that can be blocked say when.

        Raises:
            ValueError: As said.
        """

    def add(self, request: Request) -> None:
        """Append an arrived request to the queue."""
        request.prefill_tokens = request.prompt_tokens
        self.waiting.append(request)

    def num_found(self, request: Request) -> int:
        """Tokens of a request in the prefix cache, which there is none of."""
        return 0

    def begin_round(self) -> None:
        """Nothing to note before the attempts at one time."""

    def schedule(self) -> Batch:
        """Form the next micro-batch; without members if there is none."""
        raise NotImplementedError

    def process_outputs(self, batch: Batch) -> list[BatchMember]:
        """Advance the members of a batch that has run; the finished ones leave, the others return to running.

        Returns:
            The members that got a token, in batch order.
        """
        self._advance(batch)
        for member in batch.members:
            if member.request.finished:
                self._release(member.request)
            else:
                self.running.append(member.request)
        if not self._parity:
            self._sort_running()
        return [member for member in batch.members if member.yields_token]

    def _advance(self, batch: Batch) -> None:
        """Count the tokens of a batch that has run."""
        for member in batch.members:
            member.request.computed_tokens += member.tokens
            member.request.generated_tokens += member.yields_token

    def _sort_running(self) -> None:
        """In queue order; Vidur sorts by arrival, stable."""
        if self._parity:
            self.running.sort(key=lambda request: request.arrival_s)
        else:
            self.running.sort(key=lambda request: request.queue_key)

    def _full(self, count: int, cap: int) -> bool:
        """Whether a cap is reached (oddity 13: Vidur tests equality, so that a cap once passed never holds again)."""
        return count == cap if self._parity else count >= cap

    def _append(self, batch: Batch, request: Request, tokens: int) -> None:
        """Put a request in the batch."""
        batch.members.append(
            BatchMember(
                request=request,
                history=request.computed_tokens,
                tokens=tokens,
                is_decode=request.computed_tokens >= request.prefill_tokens,
                yields_token=request.computed_tokens + tokens >= request.prefill_tokens,
            )
        )

    def _take(self, request: Request, count: int) -> None:
        """Give a request blocks; the caller has checked that there are enough."""
        if count > 0:
            self.num_holders += not request.blocks
            request.blocks += self.pool.take(count)

    def _release(self, request: Request) -> None:
        """Take all blocks from a request."""
        if request.blocks:
            self.num_holders -= 1
            self.pool.release(request.blocks)
            request.blocks = []

    def _restart(self, request: Request, batch: Batch) -> None:
        """Send a request, already taken off the running list, back to the queue; swap keeps what it has computed."""
        self._release(request)
        request.preemptions += 1
        batch.preempted.append(request)
        if self._swap:
            request.swapped = True
            batch.swapped_out_blocks += self.pool.blocks_for(request.computed_tokens)
            self.waiting.push_front(request)
            return
        if self._parity and request.computed_tokens < request.prefill_tokens:
            total = request.prompt_tokens + request.output_tokens
            request.prompt_tokens = request.computed_tokens
            request.output_tokens = total - request.computed_tokens
            request.generated_tokens = 0
        request.computed_tokens = 0
        request.prefill_tokens = request.known_tokens
        self.waiting.push_front(request)
