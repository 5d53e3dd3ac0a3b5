"""Runs small enough to be worked out by hand, for the tests of batch policies, queue orders and swapping."""

from typing import Any

from reference.simulate import ReferenceConfig, ReferenceResult, simulate
from reference_tests.policy_cases import CONSTANT


def run(policy: str, requests: list[tuple[float, int, int]], **options: Any) -> ReferenceResult:
    """Roomy except where the options say otherwise; blocks are single tokens."""
    sizes = {
        "batch_policy": policy,
        "num_usable_blocks": 100,
        "block_size": 1,
        "max_num_seqs": 4,
        "max_num_batched_tokens": 16,
        "max_model_len": 20,
        "watermark_blocks_fraction": 0.0,
    }
    return simulate(requests, CONSTANT, ReferenceConfig(**{**sizes, **options}))


def members(result: ReferenceResult) -> list[list[tuple[int, int]]]:
    """(request, tokens) of each request of each batch."""
    return [batch.members for batch in result.batches]
