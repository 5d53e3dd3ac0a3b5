"""Small crowded replicas under every batch policy, stage count and router."""

import math

from hypothesis import strategies as st
from reference.config_checks import SWAPPING_POLICIES
from reference.simulate import BATCH_POLICIES, ReferenceConfig
from reference.waiting import ORDERS
from reference_tests.builders import build_tables
from reference_tests.feature_cases import featured

Case = tuple[ReferenceConfig, list[tuple[float, int, int]]]

#: Whose micro-batches in flight share no request.
DISJOINT_POLICIES = tuple(name for name in BATCH_POLICIES if name != "vllm_v1")
PAPER_POLICIES = ("vllm_v0", "sarathi", "orca", "faster_transformer", "lightllm")
ROUTERS = ("round_robin", "random", "least_outstanding", "least_outstanding_tokens", "least_kv", "session_affinity")
LONGEST = 24
MOST_REQUESTS = 12

UNEVEN = build_tables(
    token=lambda n: 0.1 + math.sqrt(n) / 7,
    sequence=lambda n: math.log1p(n) / 3,
    decode=lambda n, kv: (n * 0.01 + math.sqrt(kv)) / 11,
    prefill=lambda h, c: (c + 0.3) * (h + 0.7) / 997,
    max_tokens=LONGEST * MOST_REQUESTS,
)
"""Durations with all bits set, large enough for every batch of these cases."""

CONSTANT = build_tables(token=lambda _: 1.0, max_tokens=LONGEST * MOST_REQUESTS)
"""Every stage takes one second."""


def send_constants(num_stages: int, unit_s: float) -> st.SearchStrategy[tuple[float, ...]]:
    """Multiples of a unit for every stage but the last."""
    multiples = st.lists(st.integers(0, 2), min_size=num_stages - 1, max_size=num_stages - 1)
    return multiples.map(lambda counts: (*(count * unit_s for count in counts), 0.0))


def queue_key(case: Case, name: int) -> tuple[int, float, int]:
    """Queue order of a request: (key, arrival, position in the input)."""
    config, requests = case
    return (config.order_keys[name] if config.order_keys else 0, requests[name][0], name)


@st.composite
def cases(
    draw: st.DrawFn,
    policies: tuple[str, ...] = tuple(BATCH_POLICIES),
    max_stages: int = 4,
    orders: tuple[str, ...] = ORDERS,
    modes: tuple[str, ...] = ("recompute", "swap"),
    features: tuple[str, ...] = (),
) -> Case:
    """A replica with room for the longest request and little more, and a workload that fits it.

    With features, names in feature_cases.FEATURES, also some of what those stand for.
    """
    policy = draw(st.sampled_from(policies))
    longest = draw(st.integers(2, LONGEST))
    lightllm = policy == "lightllm"
    num_stages = 1 if lightllm else draw(st.integers(1, max_stages))
    max_num_seqs = num_stages + draw(st.integers(0, 5))
    block_size = 1 if lightllm else draw(st.integers(1, 4))
    # What the longest request needs, and for some policies a block more, or a token.
    needs_no_more = policy in ("vllm_v1", "trtllm", "orca", "faster_transformer")
    blocks = -(-longest // block_size) + (0 if needs_no_more else 1) + draw(st.sampled_from([0, 0, 1, 2, 5, 20]))
    chunked = draw(st.booleans())
    least_budget = {
        "vllm_v1": max_num_seqs if chunked else max(max_num_seqs, longest),
        "sarathi": 1,
        "sglang": 1,
        "trtllm": max(max_num_seqs, block_size if chunked else longest),
    }.get(policy, longest)
    watermark = draw(st.sampled_from([0.0, 0.0, 0.01, 0.2]))
    num_requests = draw(st.integers(1, MOST_REQUESTS))
    replicas = draw(st.integers(1, 3))
    order = draw(st.sampled_from(orders))
    config = ReferenceConfig(
        batch_policy=policy,
        # As many blocks on top as the watermark takes from them.
        num_usable_blocks=math.ceil(blocks / (1 - watermark)),
        block_size=block_size,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=least_budget + draw(st.sampled_from([0, 1, 4, 30])),
        max_model_len=longest,
        long_prefill_token_threshold=draw(st.sampled_from([0, 0, 1, 3])),
        full_sequence_gate=draw(st.booleans()),
        chunked_prefill=chunked,
        capacity_scheduler_policy=draw(st.sampled_from(["guaranteed_no_evict", "max_utilization"])),
        max_prefill_tokens=draw(st.sampled_from([1, 5, 12, 100])),
        chunked_prefill_size=draw(st.sampled_from([0, 0, 1, 3, 10])) * block_size,
        schedule_conservativeness=draw(st.sampled_from([0.01, 0.3, 1.0, 2.0])),
        watermark_blocks_fraction=watermark,
        max_waiting_iterations=draw(st.integers(0, 3)),
        num_stages=num_stages,
        send_latency_s=draw(send_constants(num_stages, 0.25)),
        send_s_per_token=draw(send_constants(num_stages, 0.03125)),
        replicas=replicas,
        router=draw(st.sampled_from(ROUTERS)),
        router_choices=tuple(draw(st.integers(0, replicas - 1)) for _ in range(num_requests)),
        queue_order=order,
        order_keys=tuple(draw(st.integers(0, 3)) for _ in range(num_requests)) if order != "fcfs" else (),
        preemption_mode=draw(st.sampled_from(modes if policy in SWAPPING_POLICIES else modes[:1])),
        swap_s_per_block=draw(st.sampled_from([0.0, 0.125])),
        sessions=tuple(draw(st.integers(-1, 2)) for _ in range(num_requests)),
    )
    shortest = draw(st.sampled_from([2, max(2, longest // 2)]))
    gap = draw(st.sampled_from([0, 1, 8, 40]))
    requests = []
    for _ in range(num_requests):
        total = draw(st.integers(shortest, longest))
        prompt = draw(st.integers(1, total - 1))
        requests.append((draw(st.integers(0, gap * MOST_REQUESTS)) / 8, prompt, total - prompt))
    return draw(featured(config, requests, features, coarse=True)) if features else (config, requests)
