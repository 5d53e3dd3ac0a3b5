"""Configuration of a run of the reference simulator."""

from dataclasses import dataclass

from reference.config_checks import check_engine


@dataclass(frozen=True)
class ReferenceConfig:
    """Everything a run needs besides the requests and the tables; sizes in tokens unless said.

    Which policy reads which field is written in docs/policies.md.

    Attributes:
        num_usable_blocks: KV blocks a replica can give out (N of VLLM.md: the null block is not counted).
        block_size: Tokens of one KV block (b).
        max_num_seqs: Most requests that hold KV on a replica (M). With stages each micro-batch holds at most
            max_num_seqs // num_stages of them (not in vllm_v1). Under parity: Vidur's batch_size_cap, and for orca and
            faster_transformer the most requests of a micro-batch.
        max_num_batched_tokens: Most tokens of one iteration (the start value of B); sarathi's chunk size.
        max_model_len: Most tokens of one request, prompt and outputs together (L).
        long_prefill_token_threshold: Most tokens a request gets in one iteration; 0 switches the limit off.
        full_sequence_gate: Whether admission asks for room for the whole known sequence, not just its first chunk.
        chunked_prefill: Whether vllm_v1 and trtllm may cut a prompt to what is left of the budget.
        batch_policy: Name in `reference.simulate.BATCH_POLICIES`.
        replicas: Copies of the model.
        data_parallel: Engines of a replica; in lockstep if the tables have a part for experts.
        router: Name in `reference.simulate.ROUTERS`, or under parity in `reference.vidur_routing.ROUTERS`.
        router_choices: What the random router drew, in the order of arrival: the replica of each request; for
            power_of_two two replicas for each. Under parity in the order of simulate_vidur().
        watermark_blocks_fraction: Share of the blocks that vllm_v0 and sarathi leave free when they admit.
        max_waiting_iterations: Decode iterations of lightllm between two attempts to admit.
        num_stages: Pipeline stages of a replica, and most micro-batches in flight.
        send_latency_s: Seconds each stage adds to send its output on: one per stage, the last 0; empty: all 0.
        send_s_per_token: The same for each token of the micro-batch.
        queue_order: Name in `reference.waiting.ORDERS`.
        order_keys: Key of each request in the queue order, in the order of simulate(); empty: all 0.
        sessions: Session of each request, -1 for none, in the order of simulate(); empty: all -1.
        preemption_mode: "recompute" drops the KV of a preempted request, "swap" copies it to host memory and back.
        swap_s_per_block: Seconds each stage needs to copy one block, in swap mode.
        capacity_scheduler_policy: trtllm's "guaranteed_no_evict" or "max_utilization".
        max_prefill_tokens: Tokens at which a prefill batch of sglang admits nobody more (I).
        chunked_prefill_size: Most tokens of a prefill batch of sglang (C); 0: no limit, no chunks.
        schedule_conservativeness: Scales sglang's first guess of the share of outputs still to come.
        enable_prefix_caching: Whether vllm_v1 and sglang find tokens in blocks of earlier requests.
        block_ids: What the workload calls the tokens of each request, block_tokens at a time from the first on, in the
            order of simulate(): equal ids mean equal tokens up to there. Empty: nothing has a name.
        block_tokens: Tokens of one id, a multiple of block_size or a divisor of it.
        uncached_blocks_first: Whether freed blocks that are not cached are the next to be taken.
        async_scheduling: Whether vllm_v1 forms a batch while the last one runs; not with stages.
        launch_s: CPU seconds between the forming of a batch and its start.
        launch_s_per_request: The same for each request of the batch.
        process_s: CPU seconds between the end of a batch and its tokens.
        process_s_per_request: The same for each request of the batch.
        capture_sizes: Numbers of tokens, ascending, up to the next of which a batch is padded; beyond them none is.
        client: Name in `reference.clients.CLIENTS`.
        think_s: Of the open client: seconds between the completion of the request before in the session and the sending
            of this one, nan for a request that is sent at its own time; in the order of simulate(); empty: all nan.
        concurrency: How many closed clients there are.
        client_think_s: Seconds that a closed client thinks before it sends the next request.
        ingress_s: Seconds from a client to the replicas.
        ingress_s_per_token: The same for each prompt token.
        egress_s: Seconds from a replica to a client.
        hit_weight: Outstanding tokens that the router prefix_aware sets against a prompt token found in the cache.
        parity: "vidur" reproduces Vidur with all its oddities; None corrects them.
        time_limit_s: Under parity, the simulated time after which the first event is the last; 0: none.
    """

    num_usable_blocks: int
    block_size: int = 16
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 2048
    max_model_len: int = 8192
    long_prefill_token_threshold: int = 0
    full_sequence_gate: bool = True
    chunked_prefill: bool = True
    batch_policy: str = "vllm_v1"
    replicas: int = 1
    data_parallel: int = 1
    router: str = "round_robin"
    router_choices: tuple[int, ...] = ()
    watermark_blocks_fraction: float = 0.01
    max_waiting_iterations: int = 10
    num_stages: int = 1
    send_latency_s: tuple[float, ...] = ()
    send_s_per_token: tuple[float, ...] = ()
    queue_order: str = "fcfs"
    order_keys: tuple[int, ...] = ()
    sessions: tuple[int, ...] = ()
    preemption_mode: str = "recompute"
    swap_s_per_block: float = 0.0
    capacity_scheduler_policy: str = "guaranteed_no_evict"
    max_prefill_tokens: int = 16384
    chunked_prefill_size: int = 8192
    schedule_conservativeness: float = 1.0
    enable_prefix_caching: bool = False
    block_ids: tuple[tuple[int, ...], ...] = ()
    block_tokens: int = 0
    uncached_blocks_first: bool = False
    async_scheduling: bool = False
    launch_s: float = 0.0
    launch_s_per_request: float = 0.0
    process_s: float = 0.0
    process_s_per_request: float = 0.0
    capture_sizes: tuple[int, ...] = ()
    client: str = "open"
    think_s: tuple[float, ...] = ()
    concurrency: int = 1
    client_think_s: float = 0.0
    ingress_s: float = 0.0
    ingress_s_per_token: float = 0.0
    egress_s: float = 0.0
    hit_weight: float = 1.0
    parity: str | None = None
    time_limit_s: float = 0.0

    def __post_init__(self) -> None:
        """Refuse sizes with which no engine would start.

        Raises:
            ValueError: As said, in one sentence.
        """
        for field in (
            "num_usable_blocks",
            "block_size",
            "max_num_seqs",
            "max_num_batched_tokens",
            "max_model_len",
            "replicas",
            "data_parallel",
            "num_stages",
        ):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} is {getattr(self, field)}, it must be at least 1")
        if self.parity not in (None, "vidur"):
            raise ValueError(f"parity is {self.parity!r}, it must be None or 'vidur'")
        if self.parity is None:
            check_engine(self)

    @property
    def is_asynchronous(self) -> bool:
        """Whether batches are scheduled ahead; a replica with stages schedules synchronously all the same."""
        return self.async_scheduling and self.num_stages == 1

    @property
    def watermark_blocks(self) -> int:
        """Blocks that vllm_v0 and sarathi leave free when they admit."""
        return int(self.watermark_blocks_fraction * self.num_usable_blocks)

    @property
    def blocks_for_life(self) -> int:
        """Blocks that orca and faster_transformer reserve for a request; Vidur rounds down, which may be too few."""
        if self.parity is not None:
            return self.max_model_len // self.block_size
        return -(-self.max_model_len // self.block_size)

    @property
    def max_micro_batch(self) -> int:
        """Most requests of one micro-batch (oddity 14: Vidur does not divide it for the two that reserve for life)."""
        if self.parity is not None and self.batch_policy in ("orca", "faster_transformer"):
            return self.max_num_seqs
        return self.max_num_seqs // self.num_stages
