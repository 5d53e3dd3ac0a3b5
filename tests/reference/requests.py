"""One request and its state."""

from dataclasses import dataclass, field

from reference.prefix_cache import Identity
from reference.radix_cache import Node


@dataclass(eq=False)
class Request:
    """One request; two requests are the same only if they are the same object.

    Attributes:
        request_id: Index in the list handed to simulate().
        arrival_s: When it reaches the replicas: queue order and schedules go by it.
        prompt_tokens: P, at least 1.
        output_tokens: O, at least 1: it stops when it has produced that many.
        order_key: Its key in the queue order; 0 under fcfs.
        session: Its session, or -1.
        sent_s: When its client sent it.
        position: Its place in the order of arrival; request_id until it has arrived.
        named_blocks: What the workload calls the content of its first KV blocks.
        generated_tokens: Output tokens processed so far.
        computed_tokens: C, tokens whose KV is written or scheduled to be written.
        prefill_tokens: Known tokens at the last admission, which prefill chunks must compute before it decodes; the
            policies of VIDUR.md set it when the request joins the queue.
        tokens_in_flight: F, output tokens that batches in flight will give it; kept by vllm_v1.
        marked_blocks: How many of its blocks the engine has marked as cached, counted from the first.
        cached_tokens: Prompt tokens found in the prefix cache at its first admission.
        swapped: Whether it waits with its computed tokens in host memory.
        blocks: Ids of the KV blocks it holds, in the order of its tokens; with a radix cache those behind its node.
        node: Where the text that it holds in the radix cache ends; None while it holds nothing, or if there is none.
        replica: Where the router sent it.
        scheduled_s: When the first batch that held it was formed.
        preemptions: How often it was preempted.
        preempted_at_s: When it was preempted, while it waits to be scheduled again.
        preempted_s: For how long it was.
        token_times_s: When each output token came.
        token_gaps_s: The times between them, as the engine tells them.
        last_token_iteration: Number, within its replica, of the iteration that gave the latest token.
    """

    request_id: int
    arrival_s: float
    prompt_tokens: int
    output_tokens: int
    order_key: int = 0
    session: int = -1
    sent_s: float = 0.0
    position: int = -1
    named_blocks: list[Identity] = field(default_factory=list)
    generated_tokens: int = 0
    computed_tokens: int = 0
    prefill_tokens: int = 0
    tokens_in_flight: int = 0
    marked_blocks: int = 0
    cached_tokens: int = 0
    swapped: bool = False
    blocks: list[int] = field(default_factory=list)
    node: Node | None = None
    replica: int | None = None
    scheduled_s: float | None = None
    preemptions: int = 0
    preempted_at_s: float | None = None
    preempted_s: float = 0.0
    token_times_s: list[float] = field(default_factory=list)
    token_gaps_s: list[float] = field(default_factory=list)
    last_token_iteration: int | None = None

    def __post_init__(self) -> None:
        """Until it has arrived it is known by its place in the input."""
        if self.position < 0:
            self.position = self.request_id

    @property
    def queue_key(self) -> tuple[int, float, int]:
        """Queue order: the smaller, the earlier its turn."""
        return (self.order_key, self.arrival_s, self.position)

    def identity(self, place: int) -> Identity:
        """What its KV block at a place holds: what the workload says, or something of its own."""
        if place < len(self.named_blocks):
            return self.named_blocks[place]
        return ("request", self.request_id, place)

    @property
    def known_tokens(self) -> int:
        """T: the prompt and the outputs processed so far."""
        return self.prompt_tokens + self.generated_tokens

    @property
    def finished(self) -> bool:
        """Whether the last output token was processed."""
        return self.generated_tokens == self.output_tokens

    @property
    def stored_tokens(self) -> int:
        """KV tokens at its end: the last output is never written."""
        return self.prompt_tokens + self.output_tokens - 1
