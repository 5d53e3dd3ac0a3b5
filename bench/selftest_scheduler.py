"""The scheduler of the self-test's engine: vLLM V1's rules, without prefix caching (docs/policies.md, ``vllm_v1``).

A token budget, running requests first, chunked prefill, a paged KV cache, and preemption by recompute of the request
admitted last. It knows neither a clock nor a model, and shares no code with fastsim's.
"""

from collections import deque
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Limits:
    """What the engine may use.

    Attributes:
        num_blocks: KV blocks that requests can have; what a configuration calls ``num_kv_blocks`` counts one more, the
            null block, which is block 0 here and where padding would point.
        block_size: tokens per block.
        max_num_batched_tokens: most tokens of an iteration.
        max_num_seqs: most requests of an iteration.
    """

    num_blocks: int
    block_size: int
    max_num_batched_tokens: int
    max_num_seqs: int

    def blocks_for(self, tokens: int) -> int:
        """Blocks that hold so many tokens."""
        return -(-tokens // self.block_size)


@dataclass(eq=False)
class Request:
    """A request and how far it has come; times are seconds of the engine's clock.

    Attributes:
        prompt: token ids.
        output_tokens: how many it wants; there is no other stop.
        arrival_s: when it arrives.
        outputs: token ids that it has got.
        computed: tokens of which the KV is in ``blocks``.
        target: tokens that it knew when it was admitted: what its prefill must compute.
    """

    prompt: list[int]
    output_tokens: int
    arrival_s: float
    outputs: list[int] = field(default_factory=list)
    computed: int = 0
    target: int = 0
    blocks: list[int] = field(default_factory=list)
    preemptions: int = 0
    first_token_s: float = float("nan")
    completed_s: float = float("nan")
    text: str = ""

    @property
    def known(self) -> int:
        """Tokens of the prompt and of the output so far."""
        return len(self.prompt) + len(self.outputs)

    def tokens(self, begin: int, end: int) -> list[int]:
        """Ids of some of the known tokens."""
        prompt = len(self.prompt)
        return self.prompt[begin:end] + self.outputs[max(0, begin - prompt) : max(0, end - prompt)]


@dataclass(frozen=True)
class Member:
    """A request in a batch: so many tokens after a history, of which the last may yield a token."""

    request: Request
    history: int
    tokens: int
    is_decode: bool
    yields: bool


@dataclass(frozen=True)
class Batch:
    """The members of an iteration: decodes, then chunks, each in the order of the running list."""

    members: tuple[Member, ...]

    @property
    def decodes(self) -> list[Member]:
        """Members that read their KV for one token."""
        return [member for member in self.members if member.is_decode]

    @property
    def chunks(self) -> list[Member]:
        """Members with a part of a prompt, or of what is computed again."""
        return [member for member in self.members if not member.is_decode]

    @property
    def num_tokens(self) -> int:
        """Tokens of all members."""
        return sum(member.tokens for member in self.members)

    @property
    def kv(self) -> int:
        """KV tokens that the decodes read, each with its own new one."""
        return sum(member.history + 1 for member in self.decodes)


class BlockManager:
    """The free KV blocks; a block that was freed last is taken first, as its contents may still be cached."""

    def __init__(self, num_blocks: int) -> None:
        self._free = list(range(num_blocks, 0, -1))

    @property
    def num_free(self) -> int:
        """Blocks that nobody holds."""
        return len(self._free)

    def take(self, request: Request, number: int) -> None:
        """Give a request so many blocks, which must be free."""
        request.blocks += [self._free.pop() for _ in range(number)]

    def release(self, request: Request) -> None:
        """Take all its blocks back."""
        self._free += reversed(request.blocks)
        request.blocks = []


class Scheduler:
    """Forms batches.

    Attributes:
        waiting: requests not admitted, the next one first.
        running: admitted ones in the order of admission.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.blocks = BlockManager(limits.num_blocks)
        self.waiting: deque[Request] = deque()
        self.running: list[Request] = []

    def add(self, request: Request) -> None:
        """Let a request wait; it must fit the engine when it is alone."""
        stored = len(request.prompt) + request.output_tokens - 1
        if self.limits.blocks_for(stored) > self.limits.num_blocks:
            raise ValueError(f"a request of {stored} tokens does not fit {self.limits.num_blocks} blocks")
        self.waiting.append(request)

    def schedule(self) -> Batch:
        """Form the next batch; its members hold the blocks that they need."""
        members, preempted = self._running_members()
        if not preempted:
            self._admit(members)
        return Batch(tuple(sorted(members, key=lambda member: not member.is_decode)))

    def finish(self, batch: Batch, tokens: list[int]) -> list[Request]:
        """Count a batch as computed and deliver the tokens of the members that yield one; returns who is complete."""
        remaining = iter(tokens)
        complete = []
        for member in batch.members:
            request = member.request
            request.computed += member.tokens
            if not member.yields:
                continue
            request.outputs.append(next(remaining))
            if len(request.outputs) == request.output_tokens:
                self.blocks.release(request)
                complete.append(request)
        if complete:
            self.running = [request for request in self.running if request not in complete]
        return complete

    def _running_members(self) -> tuple[list[Member], bool]:
        """Tokens for the running requests, in order; whether any was preempted for them."""
        members: list[Member] = []
        preempted = False
        budget = self.limits.max_num_batched_tokens
        index = 0
        while index < len(self.running) and budget > 0:
            request = self.running[index]
            tokens = min(request.known - request.computed, budget)
            while (needed := self._lacks(request, tokens)) > self.blocks.num_free:
                preempted = True
                if self._preempt_last() is request:
                    return members, preempted
            self.blocks.take(request, needed)
            members.append(self._member(request, tokens))
            budget -= tokens
            index += 1
        return members, preempted

    def _admit(self, members: list[Member]) -> None:
        """Admit from the head of the queue while it fits; nobody overtakes it."""
        budget = self.limits.max_num_batched_tokens - sum(member.tokens for member in members)
        while self.waiting and budget > 0 and len(self.running) < self.limits.max_num_seqs:
            request = self.waiting[0]
            # All that it knows must fit, though only its first chunk takes blocks now.
            if self.limits.blocks_for(request.known) > self.blocks.num_free:
                return
            self.running.append(self.waiting.popleft())
            request.target = request.known
            tokens = min(request.known, budget)
            self.blocks.take(request, self.limits.blocks_for(tokens))
            members.append(self._member(request, tokens))
            budget -= tokens

    def _lacks(self, request: Request, tokens: int) -> int:
        """Blocks that a request needs more for its next tokens."""
        return self.limits.blocks_for(request.computed + tokens) - len(request.blocks)

    def _member(self, request: Request, tokens: int) -> Member:
        computed = request.computed
        return Member(request, computed, tokens, computed >= request.target, computed + tokens == request.known)

    def _preempt_last(self) -> Request:
        """Send the request admitted last back to the head of the queue; it computes all again."""
        request = self.running.pop()
        self.blocks.release(request)
        request.computed = 0
        request.preemptions += 1
        self.waiting.appendleft(request)
        return request
