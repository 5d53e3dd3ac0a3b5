"""Runs of trtllm by hand, and what must hold in all of them; every iteration takes a second."""

from typing import Any

import pytest
from hypothesis import given, settings
from reference.simulate import ReferenceConfig, ReferenceResult, simulate
from reference_tests.policy_cases import CONSTANT, UNEVEN, Case, cases, queue_key


def run(requests: list[tuple[float, int, int]], **options: Any) -> ReferenceResult:
    """Roomy except where the options say otherwise; blocks are single tokens, prompts are not cut."""
    sizes = {
        "batch_policy": "trtllm",
        "num_usable_blocks": 100,
        "block_size": 1,
        "max_num_seqs": 4,
        "max_num_batched_tokens": 16,
        "max_model_len": 20,
        "chunked_prefill": False,
    }
    return simulate(requests, CONSTANT, ReferenceConfig(**{**sizes, **options}))


def members(result: ReferenceResult) -> list[list[tuple[int, int]]]:
    return [batch.members for batch in result.batches]


def test_a_request_starts_only_if_it_can_end() -> None:
    """Of 10 blocks the first reserves 7, the second 3. At 1.0 that has gone and 3 are left for the third, with 4."""
    result = run([(0.0, 4, 3), (0.0, 2, 1), (0.0, 2, 2)], num_usable_blocks=10)
    assert members(result) == [[(0, 4), (1, 2)], [(0, 1)], [(0, 1)], [(2, 2)], [(2, 1)]]
    # What is reserved is not held.
    assert [batch.blocks_used for batch in result.batches] == [6, 5, 6, 2, 3]


def test_a_whole_prompt_waits_for_its_budget_and_lets_nobody_past() -> None:
    """Budget 8: beside the first's decodes 7 are left, too few for the second; the third would fit."""
    result = run([(0.0, 4, 3), (0.5, 8, 1), (0.5, 2, 1)], max_num_batched_tokens=8)
    assert members(result) == [[(0, 4)], [(0, 1)], [(0, 1)], [(1, 8)], [(2, 2)]]


def test_chunks_are_whole_blocks_unless_they_are_the_last() -> None:
    """Budget 10, blocks of 4: beside a decode 9 are left, so 8 of 13, then all of the 5 that are missing."""
    options = {"block_size": 4, "max_num_batched_tokens": 10, "chunked_prefill": True}
    result = run([(0.0, 4, 4), (0.5, 13, 1)], **options)
    assert members(result) == [[(0, 4)], [(0, 1), (1, 8)], [(0, 1), (1, 5)], [(0, 1)]]
    assert [batch.blocks_used for batch in result.batches] == [1, 2 + 2, 2 + 4, 2]


def test_a_head_of_less_than_a_block_stops() -> None:
    """Budget 5, blocks of 4: beside two decodes 3 are left; the third waits for 5, the fourth, of 2, behind it."""
    options = {"block_size": 4, "max_num_batched_tokens": 5, "chunked_prefill": True}
    result = run([(0.0, 2, 3), (0.0, 2, 3), (0.0, 10, 1), (0.0, 2, 1)], **options)
    decodes = [(0, 1), (1, 1)]
    assert members(result) == [[(0, 2), (1, 2)], decodes, decodes, [(2, 4)], [(2, 4)], [(2, 2), (3, 2)]]


def test_decodes_draw_on_the_budget_before_any_chunk() -> None:
    """Budget 6, blocks of 4: the prefill stands first in order of start, and gets what two decodes behind it leave."""
    options = {"block_size": 4, "max_num_batched_tokens": 6, "chunked_prefill": True}
    result = run([(0.0, 13, 1), (0.0, 1, 4), (0.0, 1, 4)], **options)
    # 6 of 13 rounded down, then twice 4 of 4, then the last.
    assert members(result) == [[(0, tokens), (1, 1), (2, 1)] for tokens in (4, 4, 4, 1)]


@pytest.mark.parametrize("blocks", [11, 10])
def test_max_utilization_pauses_the_last_started(blocks: int) -> None:
    """At 2.0 5 + 5 blocks are held. With 11 the second asks and pauses itself, with 10 the first pauses it."""
    options = {"num_usable_blocks": blocks, "capacity_scheduler_policy": "max_utilization"}
    result = run([(0.0, 4, 4), (0.0, 4, 4), (1.5, 1, 1)], **options)
    # At 2.0 nobody is admitted. At 3.0 the second, with 6 tokens, finds 4 (3) blocks and stops the third.
    expected = [[(0, 4), (1, 4)], [(0, 1), (1, 1)], [(0, 1)], [(0, 1)], [(1, 6), (2, 1)], [(1, 1)]]
    assert members(result) == expected
    assert result.batches[2].preempted == [1]


def test_max_utilization_takes_the_blocks_of_the_whole_prefill_at_once() -> None:
    """The first chunk of 4 holds 9 blocks, so the next request, with 2 of 10, waits though its budget is there."""
    options = {"num_usable_blocks": 10, "max_num_batched_tokens": 4, "chunked_prefill": True}
    result = run([(0.0, 9, 1), (0.0, 2, 1)], capacity_scheduler_policy="max_utilization", **options)
    assert [batch.blocks_used for batch in result.batches] == [9, 9, 9, 2]


@pytest.mark.parametrize("blocks", [10, 9])
def test_under_priority_the_least_important_is_paused(blocks: int) -> None:
    """At 2.0 5 + 4 blocks are held. With 10 the first is in the batch when the second takes its place.

    With 9 the first asks and is paused for itself: nobody is left in the batch, and the second is tried at once.
    """
    options = {"num_usable_blocks": blocks, "queue_order": "priority", "order_keys": (1, 0)}
    result = run([(0.0, 4, 4), (0.5, 4, 4)], capacity_scheduler_policy="max_utilization", **options)
    assert members(result) == [[(0, 4)], [(0, 1), (1, 4)], [(1, 1)], [(1, 1)], [(1, 1)], [(0, 6)], [(0, 1)]]
    assert result.batches[2].preempted == [0]


def test_stages_take_turns() -> None:
    """Two stages and three seats: one request in each micro-batch, though a third seat is free."""
    result = run([(0.0, 4, 2)] * 3, num_stages=2, max_num_seqs=3)
    assert members(result) == [[(0, 4)], [(1, 4)], [(0, 1)], [(1, 1)], [(2, 4)], [(2, 1)]]
    assert [batch.start_s for batch in result.batches] == [0.0, 0.0, 2.0, 3.0, 4.0, 6.0]


@settings(max_examples=400)
@given(cases(("trtllm",)))
def test_limits_of_a_batch_hold(case: Case) -> None:
    config, requests = case
    result = simulate(requests, UNEVEN, config)
    for batch in result.batches:
        assert 1 <= len(batch.members) <= config.max_num_seqs // config.num_stages
        assert batch.num_tokens <= config.max_num_batched_tokens
        assert batch.blocks_used <= config.num_usable_blocks
        if not config.chunked_prefill:
            assert all(history == 0 for _, history, _ in batch.chunks)
        assert all(history % config.block_size == 0 for _, history, _ in batch.chunks)
        if batch.preempted and config.num_stages == 1 and config.queue_order != "priority":
            assert all(history > 0 for _, history, _ in batch.chunks)
    if config.capacity_scheduler_policy == "guaranteed_no_evict":
        assert sum(request.preemptions for request in result.requests) == 0
        for batch in result.batches:
            assert (
                sum(-(-(requests[name][1] + requests[name][2]) // config.block_size) for name, _ in batch.members)
                <= config.num_usable_blocks
            )


@settings(max_examples=300)
@given(cases(("trtllm",), max_stages=1, orders=("priority",)))
def test_victims_are_the_least_important(case: Case) -> None:
    config, requests = case
    for batch in simulate(requests, UNEVEN, config).batches:
        started = {name for name, _ in batch.members} - {name for name, history, _ in batch.chunks if history == 0}
        for name in started - set(batch.preempted):
            assert all(queue_key(case, name) < queue_key(case, victim) for victim in batch.preempted)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_num_batched_tokens": 3}, "it must be at least max_num_seqs"),
        ({"block_size": 32, "chunked_prefill": True}, "chunks of trtllm need at least block_size"),
        ({"capacity_scheduler_policy": "greedy"}, "it must be 'guaranteed_no_evict' or 'max_utilization'"),
        ({"num_usable_blocks": 9}, "request 0 reserves 10 KV blocks, num_usable_blocks is 9"),
        ({"max_num_batched_tokens": 7}, "request 0 may prefill 8 tokens at once, max_num_batched_tokens is 7"),
        (
            {"max_num_batched_tokens": 8, "capacity_scheduler_policy": "max_utilization"},
            "request 0 may prefill 9 tokens at once",
        ),
    ],
)
def test_refusals(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run([(0.0, 8, 2)], **options)
