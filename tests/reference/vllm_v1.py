"""The batch policy of vLLM's V1 engine (VLLM.md parts 1 to 4 and 8).

R.1, R.2, ... and W.1, W.2, ... in the comments are the numbered steps of the two passes of VLLM.md part 1.
"""

from reference.batch import Batch, BatchMember
from reference.config import ReferenceConfig
from reference.request_blocks import RequestBlocks
from reference.requests import Request
from reference.waiting import WaitingQueue


class VllmV1:
    """Chooses the requests of each iteration and owns the KV blocks; knows no clock.

    With stages (VLLM.md part 8, async off) a request in flight stays in the running list: a decode whose token is in
    flight has nothing to compute and is skipped, a prefill may have its next chunk in the next micro-batch. A request
    preempted while its token is in flight still gets it, and leaves the queue if it was its last; until the token has
    come it is not admitted again. Neither B nor M is divided.

    Asynchronous: the next token of a request is scheduled while the last one is in flight.

    Attributes:
        pool: The KV blocks; a PrefixCache if enable_prefix_caching.
        waiting: Requests not admitted, the next one first.
        running: Admitted requests in the order of admission.
    """

    schedules_on_arrival = False
    """An engine that found nothing to schedule waits for its oldest micro-batch (VLLM.md part 4, step 3)."""

    def __init__(self, config: ReferenceConfig) -> None:
        """Start with no request and all blocks free."""
        self._blocks = RequestBlocks(config)
        self.pool = self._blocks.pool
        self.waiting = WaitingQueue(config.queue_order)
        self.running: list[Request] = []
        self._max_num_seqs = config.max_num_seqs
        self._max_num_batched_tokens = config.max_num_batched_tokens
        self._max_model_len = config.max_model_len
        self._chunked_prefill = config.chunked_prefill
        self._long_prefill_token_threshold = config.long_prefill_token_threshold
        self._full_sequence_gate = config.full_sequence_gate
        self._num_stages = config.num_stages
        self._asynchronous = config.is_asynchronous
        self._swap = config.preemption_mode == "swap"
        self._victims_by_priority = config.queue_order == "priority"

    @property
    def has_unfinished(self) -> bool:
        """Whether any request waits or runs."""
        return bool(self.waiting or self.running)

    def iteration_bound(self, request: Request) -> int:
        """Iterations that a request adds at most to its replica: the sum over its requests bounds all iterations.

        Proof. Charge each iteration to running[0] as it is after schedule(). It exists: with an empty running list all
        blocks are free, and the head of the queue fits because P + O - 1 <= N * b. It computes n >= 1 tokens: it is
        the first to draw on the budget, and the victims of its allocation are taken from the other end, so it would
        be preempted only if it did not fit alone. Hence it stays running[0] until it finishes, and that
        is after it has computed P + O - 1 tokens. With p stages it may be in flight, but of p iterations in a row
        one holds it. Asynchronous: it computes nothing in the one batch that is formed while its last token is in
        flight.
        """
        return self._num_stages * request.stored_tokens + self._asynchronous

    def check(self, request: Request) -> None:
        """Nothing beyond what simulate() refuses."""

    def add(self, request: Request) -> None:
        """Append an arrived request to the queue."""
        self.waiting.append(request)

    def begin_round(self) -> None:
        """Nothing to note before the attempts at one time."""

    def schedule(self) -> Batch:
        """Form the next batch; computed_tokens of its members already count it afterwards."""
        batch = Batch()
        budget = self._schedule_running(batch, self._max_num_batched_tokens)
        if not batch.preempted:
            self._admit_waiting(batch, budget)
        for member in batch.members:
            member.request.computed_tokens += member.tokens
            member.request.tokens_in_flight += member.yields_token
            if member.request.tokens_in_flight > 1 + self._asynchronous:
                raise AssertionError(f"request {member.request.request_id} has too many tokens in flight")
        self._blocks.check(self.running, self.waiting)
        return batch

    def process_outputs(self, batch: Batch) -> list[BatchMember]:
        """Deliver the tokens of a batch that has run and let finished requests leave.

        Returns:
            The members that got a token, in batch order.
        """
        producers = []
        for member in batch.members:
            if not member.yields_token:
                continue
            producers.append(member)
            request = member.request
            request.tokens_in_flight -= 1
            request.generated_tokens += 1
            if self._asynchronous and request in self.running:
                self._blocks.count_marked(request, request.computed_tokens - request.tokens_in_flight)
            if request.finished:
                self._blocks.release(request)
                (self.running if request in self.running else self.waiting).remove(request)
                self._blocks.check(self.running, self.waiting)
        return producers

    def num_found(self, request: Request) -> int:
        """Prompt tokens of a new request that the prefix cache would supply now."""
        return len(self._blocks.find(request)) * self.pool.block_size

    def _schedule_running(self, batch: Batch, budget: int) -> int:
        """Pass R over the running list; returns the budget left."""
        index = 0
        while index < len(self.running) and budget > 0:
            request = self.running[index]
            # R.1
            if self._last_token_is_in_flight(request):
                index += 1
                continue
            # R.2
            tokens = self._limited(self._known_or_expected(request) - request.computed_tokens)
            tokens = min(tokens, budget, self._max_model_len - 1 - request.computed_tokens)
            if tokens < 1:
                if self._num_stages == 1:
                    raise AssertionError(f"running request {request.request_id} has nothing to compute")
                index += 1
                continue
            # R.3 and R.4
            while (need := self._missing_blocks(request, tokens)) > self.pool.num_free:
                victim = self._choose_victim()
                if self.running.index(victim) < index:
                    # Whoever stands behind the one that asks is still to come.
                    index -= 1
                self.running.remove(victim)
                budget += self._take_out(batch, victim)
                self._preempt(batch, victim)
                if victim is request:
                    return budget
            self._append(batch, request, tokens, need)
            budget -= tokens
            index += 1
        return budget

    def _last_token_is_in_flight(self, request: Request) -> bool:
        """Whether an asynchronous engine has nothing more to schedule for a request."""
        in_flight = request.tokens_in_flight
        total = request.prompt_tokens + request.output_tokens
        return self._asynchronous and in_flight > 0 and request.computed_tokens + 2 - in_flight >= total

    def _known_or_expected(self, request: Request) -> int:
        """T + F of an asynchronous engine, T of a synchronous one, which computes nothing before it is known."""
        return request.known_tokens + (request.tokens_in_flight if self._asynchronous else 0)

    def _choose_victim(self) -> Request:
        """Whom a shortage hits: the last admitted, or under priority the last in queue order, wherever it stands."""
        if self._victims_by_priority:
            return max(self.running, key=lambda request: request.queue_key)
        return self.running[-1]

    @staticmethod
    def _take_out(batch: Batch, victim: Request) -> int:
        """Take a victim out of this batch if it is in it; returns the tokens it gives back."""
        tokens = sum(member.tokens for member in batch.members if member.request is victim)
        batch.members = [member for member in batch.members if member.request is not victim]
        return tokens

    def _admit_waiting(self, batch: Batch, budget: int) -> None:
        """Pass W over the waiting queue; nothing behind a head that does not fit is tried."""
        while self.waiting and budget > 0:
            # W.1 and W.2
            if len(self.running) == self._max_num_seqs:
                return
            request = self.waiting.head
            if request.tokens_in_flight > 0:
                if self._asynchronous:
                    raise AssertionError(f"request {request.request_id} is tried with a token in flight")
                return
            # W.3. Only swapped requests have computed tokens here, and nothing is found of those.
            found = self._blocks.find(request)
            computed = request.computed_tokens + len(found) * self.pool.block_size
            # What is found in the queue of free blocks is not free any more once it is held.
            free = self._blocks.num_free_beside(found)
            # W.4
            tokens = self._limited(request.known_tokens - computed)
            if tokens > budget and not self._chunked_prefill:
                return
            tokens = min(tokens, budget)
            # W.5
            whole = min(request.known_tokens, self._max_model_len)
            if self._full_sequence_gate and self.pool.blocks_for(whole) - len(found) > free:
                return
            # W.6
            need = self.pool.blocks_for(min(computed + tokens, self._max_model_len)) - len(found)
            if need > free:
                return
            # W.7
            self.waiting.pop()
            self.running.append(request)
            self._blocks.hold(request, found)
            if request.preemptions == 0:
                request.cached_tokens = computed
            if request.swapped:
                request.swapped = False
                batch.swapped_in_blocks += self.pool.blocks_for(request.computed_tokens)
            else:
                request.prefill_tokens = request.known_tokens
            self._append(batch, request, tokens, need)
            budget -= tokens

    def _limited(self, tokens: int) -> int:
        """Tokens cut to long_prefill_token_threshold, if there is one."""
        if self._long_prefill_token_threshold > 0:
            return min(tokens, self._long_prefill_token_threshold)
        return tokens

    def _missing_blocks(self, request: Request, tokens: int) -> int:
        """Blocks a request lacks for its next tokens."""
        stored = min(request.computed_tokens + tokens, self._max_model_len)
        return max(0, self.pool.blocks_for(stored) - len(request.blocks))

    def _append(self, batch: Batch, request: Request, tokens: int, blocks: int) -> None:
        """Give a request its blocks and its place in the batch."""
        self._blocks.take(request, blocks)
        is_decode = request.computed_tokens >= request.prefill_tokens
        self._blocks.count_marked(request, min(request.computed_tokens + tokens, request.known_tokens))
        if not is_decode:
            # Before they are computed: who is admitted later in this call finds them.
            self._blocks.mark_counted(request)
        batch.members.append(
            BatchMember(
                request=request,
                history=request.computed_tokens,
                tokens=tokens,
                is_decode=is_decode,
                yields_token=request.computed_tokens + tokens >= self._known_or_expected(request),
            )
        )

    def _preempt(self, batch: Batch, request: Request) -> None:
        """Send a request, already taken off the running list and out of the batch, back to the queue."""
        self._blocks.release(request)
        if self._swap:
            # What is being computed in other micro-batches counts as computed.
            request.swapped = True
            batch.swapped_out_blocks += self.pool.blocks_for(request.computed_tokens)
        else:
            request.computed_tokens = 0
        request.preemptions += 1
        batch.preempted.append(request)
        self.waiting.push_front(request)
