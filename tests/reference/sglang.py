"""The batch policy of SGLang (VLLM.md part 9), synchronous; pages are our blocks."""

from reference.batch import Batch, BatchMember
from reference.config import ReferenceConfig
from reference.request_pages import RequestPages
from reference.requests import Request
from reference.sglang_state import Budget, Slot
from reference.waiting import WaitingQueue

MOST_EXPECTED_OUTPUTS = 4096
RETRACT_TOKENS = 20


class SgLang:
    """Prefill first: a batch is prefills only, or, if there is none to form, all of running.

    Admission expects that running requests will still give a share `ratio` of the outputs they may give; where that was
    too bold and decodes find no block, some of them are retracted.

    Attributes:
        pool: The KV blocks; a RadixCache if enable_prefix_caching.
        waiting: Requests not admitted.
        slots: One for each stage.
        ratio: rho, the share of outputs still to come that admission counts with.
    """

    schedules_on_arrival = True

    def __init__(self, config: ReferenceConfig) -> None:
        """Start with no request and all blocks free."""
        self._pages = RequestPages(config)
        self.pool = self._pages.pool
        self.waiting = WaitingQueue(config.queue_order)
        self.slots = [Slot() for _ in range(config.num_stages)]
        self._start_ratio = min(1.0, 0.7 * config.schedule_conservativeness)
        self._floor_ratio = 0.14 * self._start_ratio
        self._ratio_step = (self._start_ratio - self._floor_ratio) / 600
        self.ratio = self._start_ratio
        self._max_of_slot = config.max_micro_batch
        self._max_prefill_tokens = config.max_prefill_tokens
        self._chunk_size = config.chunked_prefill_size or None
        self._victims_by_priority = config.queue_order == "priority"
        self._ended: list[Slot] = []
        self._to_try: list[Slot] = []

    @property
    def has_unfinished(self) -> bool:
        """Whether any request could be given to a batch now or later, those in flight not counted."""
        return bool(self.waiting) or any(
            slot.batch is None and (slot.running or slot.chunked is not None) for slot in self.slots
        )

    def iteration_bound(self, request: Request) -> None:
        """None is known for one request; the engine counts between completions."""

    def check(self, request: Request) -> None:
        """Refuse a request that its own expected outputs would keep waiting for ever.

        Raises:
            ValueError: As said.
        """
        total = request.prompt_tokens + request.output_tokens
        if total >= self.pool.num_usable_blocks * self.pool.block_size:
            raise ValueError(
                f"request {request.request_id} has {total} tokens, they must be fewer than those of "
                f"{self.pool.num_usable_blocks} blocks of {self.pool.block_size}"
            )

    def add(self, request: Request) -> None:
        """Queue an arrived request."""
        request.prefill_tokens = request.prompt_tokens
        self.waiting.append(request)

    def num_found(self, request: Request) -> int:
        """Prompt tokens of a new request that the radix cache would supply now."""
        return self._pages.num_found(request)

    def begin_round(self) -> None:
        """Every free slot may be tried once: first those whose micro-batches just ended, then the others by number."""
        free = [slot for slot in self.slots if slot.batch is None]
        self._to_try = self._ended + [slot for slot in free if slot not in self._ended]
        self._ended = []

    def schedule(self) -> Batch:
        """Form the next micro-batch of the round."""
        preempted: list[Request] = []
        while self._to_try:
            slot = self._to_try.pop(0)
            batch = self._form(slot)
            preempted += batch.preempted
            if batch.members:
                slot.batch = batch
                batch.preempted = preempted
                self._check()
                return batch
        self._check()
        return Batch(preempted=preempted)

    def process_outputs(self, batch: Batch) -> list[BatchMember]:
        """Advance the members of a batch that has run; complete prefills join running, and who finishes leaves it.

        Returns:
            The members that got a token, in batch order.
        """
        slot = next(slot for slot in self.slots if slot.batch is batch)
        slot.batch = None
        self._ended.append(slot)
        for member in batch.members:
            member.request.computed_tokens += member.tokens
            member.request.generated_tokens += member.yields_token
        for member in batch.members:
            if member.request.finished:
                self._pages.finish(member.request)
            elif not member.is_decode:
                self._pages.insert(member.request)
        for member in batch.members:
            if member.yields_token and not member.is_decode:
                slot.running.append(member.request)
            if member.request.finished:
                slot.running.remove(member.request)
                slot.full = False
        if not self.waiting and not any(slot.running or slot.chunked or slot.batch for slot in self.slots):
            self.ratio = self._start_ratio
            for slot in self.slots:
                slot.full = False
        self._check()
        return [member for member in batch.members if member.yields_token]

    def _form(self, slot: Slot) -> Batch:
        """Form a batch from the requests of a slot and from waiting; without members if there is none."""
        batch = Batch()
        while not batch.members:
            if len(self.slots) == 1 and slot.full and self.waiting and not slot.running and slot.chunked is None:
                raise AssertionError("with one stage an empty running was left full")
            if slot.chunked is not None or (self.waiting and not (slot.full and slot.running)):
                self._prefill(slot, batch)
            if not batch.members:
                if not slot.running:
                    break
                # Without members if everybody was retracted; then a prefill is tried again.
                self._decode(slot, batch)
        return batch

    def _prefill(self, slot: Slot, batch: Batch) -> None:
        """Try a prefill batch."""
        expected = sum(self._expected_outputs(request) for request in slot.running)
        memory = float(self.pool.num_free * self.pool.block_size) - self.ratio * float(expected)
        budget = Budget(memory, self._max_prefill_tokens, self._chunk_size)
        if slot.chunked is not None and not self._continue_chunked(slot, batch, budget):
            return
        while self.waiting and self._admit_head(slot, batch, budget):
            pass

    def _continue_chunked(self, slot: Slot, batch: Batch, budget: Budget) -> bool:
        """Put the next chunk of the chunked request in the batch; returns whether the try goes on."""
        request = slot.chunked
        assert request is not None
        missing = request.prefill_tokens - request.computed_tokens
        tokens = min(missing, int(budget.memory))
        if budget.chunk is not None:
            tokens = min(tokens, budget.chunk)
        if tokens < missing:
            tokens = self._whole_blocks(tokens)
        if tokens <= 0:
            return False
        if tokens == missing:
            slot.chunked = None
        return self._join(slot, batch, budget, request, tokens)

    def _admit_head(self, slot: Slot, batch: Batch, budget: Budget) -> bool:
        """Admit the head of the queue if it passes; returns whether the try goes on."""
        head = self.waiting.head
        if len(slot.running) + len(batch.members) >= self._max_of_slot:
            slot.full = True
            return False
        node = self._pages.match(head)
        missing = head.prefill_tokens - self._pages.tokens_of(node)
        # What it would fail before the lock it fails after it, too.
        budget.memory -= self._pages.hold(head, node)
        tokens = 0
        if not missing + self._expected_outputs(head) < budget.memory:
            slot.full = True
        elif missing < budget.inputs or not batch.members:
            tokens = self._first_tokens(budget, missing)
        if tokens == 0:
            self._pages.release(head)
            head.computed_tokens = 0
            return False
        if tokens < missing:
            slot.chunked = head
        if head.preemptions == 0:
            head.cached_tokens = head.computed_tokens
        self.waiting.pop()
        return self._join(slot, batch, budget, head, tokens)

    def _first_tokens(self, budget: Budget, missing: int) -> int:
        """Tokens that the head gets of those it misses: all or a first chunk, or none if that cannot be."""
        if budget.chunk is None or missing <= budget.chunk:
            return missing
        if any(slot.chunked is not None for slot in self.slots):
            return 0
        return self._whole_blocks(budget.chunk)

    def _join(self, slot: Slot, batch: Batch, budget: Budget, request: Request, tokens: int) -> bool:
        """Give a request its blocks and its place in a prefill batch, charge it; returns whether the try goes on."""
        stored = request.computed_tokens + tokens
        self._pages.take(request, stored)
        self._append(batch, request, tokens)
        charge = self.pool.blocks_for(tokens) * self.pool.block_size
        outputs = min(request.output_tokens, MOST_EXPECTED_OUTPUTS) if stored == request.prefill_tokens else 0
        budget.charge(charge, outputs)
        if budget.memory <= 0:
            slot.full = True
        return not budget.is_spent

    def _decode(self, slot: Slot, batch: Batch) -> None:
        """Let all of running decode, after retracting those for whom there is no block."""
        while sum(self._needs_block(request) for request in slot.running) > self.pool.num_free:
            self._retract(slot, batch, self._choose_victim(slot))
        if not batch.preempted:
            self.ratio = max(self._floor_ratio, self.ratio - self._ratio_step)
        elif not slot.running:
            self.ratio = self._start_ratio
        else:
            generated = sum(request.generated_tokens for request in slot.running)
            outputs = sum(request.output_tokens for request in slot.running)
            self.ratio = min(1.0, (generated + RETRACT_TOKENS * len(slot.running)) / (outputs + 1))
        for request in slot.running:
            self._pages.take(request, request.known_tokens)
            self._append(batch, request, 1)

    def _choose_victim(self, slot: Slot) -> Request:
        """Under priority of the least important class; the fewest generated, longest prompt, latest arrival."""

        def rank(request: Request) -> tuple[int, int, int, float, int]:
            key = request.order_key if self._victims_by_priority else 0
            return (key, -request.generated_tokens, request.prompt_tokens, request.arrival_s, request.request_id)

        return max(slot.running, key=rank)

    def _retract(self, slot: Slot, batch: Batch, request: Request) -> None:
        """Send a decode back to the end of waiting, or to its place there."""
        slot.running.remove(request)
        slot.full = False
        self._pages.release(request)
        self._pages.make_room(RETRACT_TOKENS * len(slot.running))
        request.computed_tokens = 0
        request.prefill_tokens = request.known_tokens
        request.preemptions += 1
        self.waiting.append(request)
        batch.preempted.append(request)

    def _needs_block(self, request: Request) -> bool:
        """Whether the next token of a decode opens a block."""
        return (request.known_tokens - 1) % self.pool.block_size == 0

    def _expected_outputs(self, request: Request) -> int:
        """Outputs that it may still give, clipped."""
        return min(request.output_tokens - request.generated_tokens, MOST_EXPECTED_OUTPUTS)

    def _whole_blocks(self, tokens: int) -> int:
        """Rounded down to whole blocks."""
        return tokens // self.pool.block_size * self.pool.block_size

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

    def _check(self) -> None:
        """Hold the invariants of the pages."""
        holding = [request for slot in self.slots for request in slot.running]
        holding += [slot.chunked for slot in self.slots if slot.chunked is not None]
        in_flight = [member.request for slot in self.slots if slot.batch is not None for member in slot.batch.members]
        self._pages.check([*holding, *(request for request in in_flight if request not in holding)], self.waiting)
