"""What no configuration of the reference simulator may ask for."""

from typing import TYPE_CHECKING

from reference.waiting import ORDERS

if TYPE_CHECKING:
    from reference.config import ReferenceConfig

SWAPPING_POLICIES = ("vllm_v1", "vllm_v0", "sarathi")
CACHING_POLICIES = ("vllm_v1", "sglang")


def check_engine(config: "ReferenceConfig") -> None:
    """Refuse what Vidur accepts and then hangs on, and what the real engines refuse.

    Raises:
        ValueError: As said.
    """
    if config.long_prefill_token_threshold < 0:
        raise ValueError(f"long_prefill_token_threshold is {config.long_prefill_token_threshold}, it must not be < 0")
    if not 0.0 <= config.watermark_blocks_fraction < 1.0:
        raise ValueError(f"watermark_blocks_fraction is {config.watermark_blocks_fraction}, it must be in [0, 1)")
    if config.max_waiting_iterations < 0:
        raise ValueError(f"max_waiting_iterations is {config.max_waiting_iterations}, it must not be < 0")
    if config.queue_order not in ORDERS:
        raise ValueError(f"queue_order is {config.queue_order!r}, it must be one of {', '.join(ORDERS)}")
    if config.queue_order == "fcfs" and config.order_keys:
        raise ValueError("order_keys are given and queue_order is 'fcfs', under which every key is 0")
    if config.preemption_mode not in ("recompute", "swap"):
        raise ValueError(f"preemption_mode is {config.preemption_mode!r}, it must be 'recompute' or 'swap'")
    if config.preemption_mode == "swap" and config.batch_policy not in SWAPPING_POLICIES:
        raise ValueError(f"preemption_mode is 'swap', only {', '.join(SWAPPING_POLICIES)} can swap")
    if config.swap_s_per_block < 0.0:
        raise ValueError(f"swap_s_per_block is {config.swap_s_per_block}, it must not be < 0")
    for field in ("send_latency_s", "send_s_per_token"):
        _check_send(config, field)
    if config.max_prefill_tokens < 1:
        raise ValueError(f"max_prefill_tokens is {config.max_prefill_tokens}, it must be at least 1")
    if not config.schedule_conservativeness > 0.0:
        raise ValueError(f"schedule_conservativeness is {config.schedule_conservativeness}, it must be > 0")
    if config.batch_policy == "sglang" and 0 != config.chunked_prefill_size < config.block_size:
        raise ValueError(
            f"chunked_prefill_size is {config.chunked_prefill_size}, "
            f"it must be 0 or at least block_size ({config.block_size})"
        )
    if config.capacity_scheduler_policy not in ("guaranteed_no_evict", "max_utilization"):
        raise ValueError(
            f"capacity_scheduler_policy is {config.capacity_scheduler_policy!r}, "
            "it must be 'guaranteed_no_evict' or 'max_utilization'"
        )
    if config.batch_policy == "trtllm" and config.chunked_prefill and config.max_num_batched_tokens < config.block_size:
        raise ValueError(
            f"max_num_batched_tokens is {config.max_num_batched_tokens}, "
            f"chunks of trtllm need at least block_size ({config.block_size})"
        )
    if config.batch_policy in ("vllm_v1", "trtllm") and config.max_num_batched_tokens < config.max_num_seqs:
        raise ValueError(
            f"max_num_batched_tokens is {config.max_num_batched_tokens}, "
            f"it must be at least max_num_seqs ({config.max_num_seqs})"
        )
    if config.batch_policy != "vllm_v1" and config.max_num_seqs < config.num_stages:
        raise ValueError(f"max_num_seqs is {config.max_num_seqs}, it must be at least num_stages ({config.num_stages})")
    if config.batch_policy == "lightllm" and (config.block_size, config.num_stages) != (1, 1):
        raise ValueError("lightllm needs block_size 1 and num_stages 1")
    if config.batch_policy in ("orca", "faster_transformer") and config.blocks_for_life > config.num_usable_blocks:
        raise ValueError(
            f"max_model_len is {config.max_model_len}, {config.batch_policy} reserves {config.blocks_for_life} blocks "
            f"for each request and num_usable_blocks is {config.num_usable_blocks}"
        )
    if config.data_parallel > 1 and (config.batch_policy, config.num_stages) != ("vllm_v1", 1):
        raise ValueError(f"data_parallel is {config.data_parallel}, that needs batch_policy 'vllm_v1' and one stage")
    _check_cache(config)
    _check_times(config)
    if config.router == "lor":
        raise ValueError("router 'lor' counts waiting requests only and exists under parity; use least_outstanding")


def _check_send(config: "ReferenceConfig", field: str) -> None:
    """Refuse constants that are not one per stage, or with which the last stage sends.

    Raises:
        ValueError: As said.
    """
    constants = getattr(config, field)
    if not constants:
        return
    if len(constants) != config.num_stages:
        raise ValueError(f"{field} has {len(constants)} entries, one is needed for each of {config.num_stages} stages")
    if min(constants) < 0.0:
        raise ValueError(f"{field} is {constants}, no entry must be < 0")
    if constants[-1] != 0.0:
        raise ValueError(f"{field} is {constants}, the last stage sends nothing and its entry must be 0")


def _check_cache(config: "ReferenceConfig") -> None:
    """Refuse what has no prefix cache, and names of blocks that do not fit the blocks.

    Raises:
        ValueError: As said.
    """
    has_cache = config.batch_policy in CACHING_POLICIES and config.preemption_mode == "recompute"
    if config.enable_prefix_caching and not has_cache:
        raise ValueError(
            f"enable_prefix_caching needs a batch_policy of {', '.join(CACHING_POLICIES)} "
            "and preemption_mode 'recompute'"
        )
    if config.block_ids and config.block_tokens < 1:
        raise ValueError(f"block_tokens is {config.block_tokens}, with block_ids it must be at least 1")
    if config.block_ids and config.block_tokens % config.block_size != 0 != config.block_size % config.block_tokens:
        raise ValueError(
            f"block_tokens is {config.block_tokens}, it must be a multiple or a divisor of block_size "
            f"({config.block_size})"
        )
    if config.async_scheduling and config.batch_policy != "vllm_v1":
        raise ValueError(f"async_scheduling is set and batch_policy is {config.batch_policy!r}, only vllm_v1 has it")
    if config.is_asynchronous and (config.queue_order == "priority" or config.preemption_mode == "swap"):
        raise ValueError("async_scheduling is set, queue_order 'priority' and preemption_mode 'swap' exclude it")


def _check_times(config: "ReferenceConfig") -> None:
    """Refuse negative times and clients that send nothing.

    Raises:
        ValueError: As said.
    """
    for field in (
        "launch_s",
        "launch_s_per_request",
        "process_s",
        "process_s_per_request",
        "client_think_s",
        "ingress_s",
        "ingress_s_per_token",
        "egress_s",
    ):
        if not 0.0 <= getattr(config, field) < float("inf"):
            raise ValueError(f"{field} is {getattr(config, field)}, it must be a finite time that is not negative")
    if list(config.capture_sizes) != sorted(set(config.capture_sizes)) or min(config.capture_sizes, default=1) < 1:
        raise ValueError(f"capture_sizes are {config.capture_sizes}, they must ascend from 1 or more")
    if config.concurrency < 1:
        raise ValueError(f"concurrency is {config.concurrency}, it must be at least 1")
