"""The batch policy, driven call by call without a clock."""

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference.batch import Batch
from reference.config import ReferenceConfig
from reference.requests import Request
from reference.vllm_v1 import VllmV1
from reference_tests.builders import configs, workloads


def request(name: int, prompt_tokens: int, output_tokens: int) -> Request:
    return Request(name, 0.0, prompt_tokens, output_tokens)


def policy(*requests: Request, **options: Any) -> VllmV1:
    """A policy with requests waiting; roomy except where the options say otherwise."""
    sizes = {"num_usable_blocks": 100, "block_size": 4, "max_num_seqs": 4, "max_num_batched_tokens": 64}
    made = VllmV1(ReferenceConfig(**{**sizes, "max_model_len": 256, **options}))
    for each in requests:
        made.add(each)
    return made


def members(batch: Batch) -> list[tuple[int, int, list[int]]]:
    """(name, tokens, blocks after the call) in batch order."""
    return [(member.request.request_id, member.tokens, list(member.request.blocks)) for member in batch.members]


def ids(requests: Iterable[Request]) -> list[int]:
    return [each.request_id for each in requests]


def step(scheduler: VllmV1) -> list[tuple[int, int]]:
    """One whole iteration; (name, tokens) in batch order."""
    batch = scheduler.schedule()
    scheduler.process_outputs(batch)
    return [(member.request.request_id, member.tokens) for member in batch.members]


@pytest.mark.parametrize("caching", [True, False])
def test_golden_trace_of_the_real_scheduler(caching: bool) -> None:
    """The synchronous column of VLLM.md part 4, recorded with prefix caching on.

    With caching off nothing in it changes. A and B are never looked up again after their admission, when the index is
    still empty of their (distinct) tokens. C is looked up twice: before call 2, nothing of it is cached; on resumption
    in call 4, its only full prompt block, 5, has been popped by A in call 3, which evicted it, so H = 0 there too. The
    order of the free queue does not depend on the hashes (0.19 rule: everything to the back). So tokens, blocks and
    outputs must be those of the page.
    """
    a, b, c = request(0, 6, 4), request(1, 6, 4), request(2, 4, 2)
    sizes = {"num_usable_blocks": 5, "max_num_seqs": 3, "max_num_batched_tokens": 8}
    scheduler = policy(a, b, enable_prefix_caching=caching, **sizes)
    expected = [
        # tokens and blocks of the batch; preempted; who got a token; free queue after the outputs
        ([(0, 6, [1, 2]), (1, 2, [3])], [], [0], [4, 5]),
        ([(0, 1, [1, 2]), (1, 4, [3, 4])], [], [0, 1], [5]),
        ([(0, 1, [1, 2]), (1, 1, [3, 4]), (2, 4, [5])], [], [0, 1, 2], []),
        ([(0, 1, [1, 2, 5]), (1, 1, [3, 4])], [2], [0, 1], [5, 2, 1]),
        ([(1, 1, [3, 4, 5]), (2, 5, [2, 1])], [], [1, 2], [5, 4, 3, 1, 2]),
    ]
    for call, (batch_members, preempted, producers, free) in enumerate(expected):
        if call == 2:
            scheduler.add(c)
        batch = scheduler.schedule()
        assert members(batch) == batch_members, call
        assert ids(batch.preempted) == preempted, call
        assert ids(member.request for member in scheduler.process_outputs(batch)) == producers, call
        assert list(scheduler.pool.free) == free, call
    assert not scheduler.has_unfinished
    assert (a.preemptions, b.preemptions, c.preemptions) == (0, 0, 1)


def test_budget_is_shared_in_order() -> None:
    """Running first, then admissions; the chunk that meets the end of the budget is cut, unrounded."""
    scheduler = policy(request(0, 5, 3), request(1, 9, 2), request(2, 2, 2), max_num_batched_tokens=8)
    assert [step(scheduler) for _ in range(3)] == [[(0, 5), (1, 3)], [(0, 1), (1, 6), (2, 1)], [(0, 1), (1, 1), (2, 1)]]


def test_seats_limit_the_running_list() -> None:
    scheduler = policy(request(0, 1, 2), request(1, 1, 1), request(2, 1, 1), max_num_seqs=2)
    assert [step(scheduler) for _ in range(2)] == [[(0, 1), (1, 1)], [(0, 1), (2, 1)]]


def test_nothing_behind_the_head_is_tried() -> None:
    """1 does not fit beside 0; 2 would, and waits behind it until 0 has gone."""
    scheduler = policy(request(0, 6, 3), request(1, 9, 1), request(2, 1, 1), num_usable_blocks=4)
    assert [step(scheduler) for _ in range(4)] == [[(0, 6)], [(0, 1)], [(0, 1)], [(1, 9), (2, 1)]]


def test_gate_asks_for_the_whole_known_sequence() -> None:
    """Beside 0, 3 blocks are free: enough for the first chunk of 1, not for its prompt. With 4 it enters."""

    def first_call(gate: bool, num_usable_blocks: int) -> list[tuple[int, int]]:
        requests = (request(0, 4, 3), request(1, 14, 1))
        scheduler = policy(
            *requests, num_usable_blocks=num_usable_blocks, max_num_batched_tokens=12, full_sequence_gate=gate
        )
        return step(scheduler)

    assert first_call(gate=True, num_usable_blocks=4) == [(0, 4)]
    assert first_call(gate=False, num_usable_blocks=4) == [(0, 4), (1, 8)]
    assert first_call(gate=True, num_usable_blocks=5) == [(0, 4), (1, 8)]


def test_gate_reserves_nothing_and_ignores_outputs() -> None:
    """Both prompts of two blocks pass one after the other though only three blocks are there for their six tokens.

    The first chunk of 0 takes one block, so two are free when 1 is tested; its outputs do not count.
    """
    scheduler = policy(
        request(0, 6, 6),
        request(1, 6, 6),
        num_usable_blocks=3,
        max_num_batched_tokens=8,
        long_prefill_token_threshold=3,
    )
    assert step(scheduler) == [(0, 3), (1, 3)]


def test_first_chunk_test_without_the_gate() -> None:
    """One free block holds 4 tokens: a first chunk of 5 stays out, and is not cut to fit."""
    scheduler = policy(request(0, 4, 4), request(1, 5, 1), num_usable_blocks=2, full_sequence_gate=False)
    assert step(scheduler) == [(0, 4)]
    scheduler = policy(
        request(0, 4, 4), request(1, 5, 1), num_usable_blocks=2, full_sequence_gate=False, max_num_batched_tokens=8
    )
    assert step(scheduler) == [(0, 4), (1, 4)]


def test_gate_on_resumption_counts_the_outputs() -> None:
    """1 knows 3 prompt and 2 output tokens when it preempts itself: two blocks to come back, and one is free.

    Its first chunk, cut to 3 by the budget, and its prompt alone would fit; it has to wait until 0 leaves.
    """
    scheduler = policy(request(0, 7, 6), one := request(1, 3, 4), num_usable_blocks=4, max_num_batched_tokens=4)
    assert [step(scheduler) for _ in range(4)] == [[(0, 4)], [(0, 3), (1, 1)], [(0, 1), (1, 2)], [(0, 1), (1, 1)]]
    assert [step(scheduler) for _ in range(3)] == [[(0, 1)]] * 3
    assert (one.preemptions, one.known_tokens) == (1, 5)
    assert step(scheduler) == [(1, 4)]
    last_chunk = scheduler.schedule()
    assert [(chunk.history, chunk.tokens) for chunk in last_chunk.chunks] == [(4, 1)]
    assert [member.yields_token for member in last_chunk.members] == [True]


def test_preempted_go_to_the_front_in_running_order() -> None:
    """0 needs 4 blocks for its next chunk: 2, then 1 must go; 3, waiting since before, stays behind them."""
    scheduler = policy(
        request(0, 10, 1),
        request(1, 3, 3),
        request(2, 3, 3),
        num_usable_blocks=10,
        block_size=1,
        long_prefill_token_threshold=4,
    )
    assert step(scheduler) == [(0, 4), (1, 3), (2, 3)]
    scheduler.add(request(3, 1, 1))
    batch = scheduler.schedule()
    assert ids(batch.preempted) == [2, 1]
    assert ids(scheduler.waiting) == [1, 2, 3]
    assert members(batch) == [(0, 4, [1, 2, 3, 4, 10, 9, 8, 7])]


def test_no_admission_in_a_call_that_preempted() -> None:
    """After 1 was preempted, 2 (and 1 itself) would find room at once, and must wait for the next call."""
    scheduler = policy(
        request(0, 4, 4), request(1, 12, 2), num_usable_blocks=4, block_size=4, max_num_batched_tokens=64
    )
    assert step(scheduler) == [(0, 4), (1, 12)]
    scheduler.add(request(2, 4, 1))
    assert step(scheduler) == [(0, 1)]
    assert scheduler.pool.num_free == 2
    assert ids(scheduler.waiting) == [1, 2]


def test_a_request_may_preempt_itself() -> None:
    """The last of the list lacks a block: it goes, and the ones before it, already scheduled, are not touched."""
    scheduler = policy(request(0, 3, 3), request(1, 4, 2), num_usable_blocks=2)
    assert step(scheduler) == [(0, 3), (1, 4)]
    assert step(scheduler) == [(0, 1)]
    assert ids(scheduler.waiting) == [1]


def test_budget_used_up_by_chunks_leaves_decodes_out() -> None:
    """With a threshold, chunks of two unfinished prompts can leave nothing for a decode behind them (part 1).

    First come first served never reaches such a state by itself, see
    `test_every_running_request_is_scheduled_or_preempted`: it is put together here.
    """
    scheduler = policy(max_num_batched_tokens=6, long_prefill_token_threshold=3)
    running = [request(0, 20, 1), request(1, 20, 1), request(2, 4, 5)]
    for each, computed in zip(running, (3, 6, 4), strict=True):
        each.computed_tokens = computed
        each.prefill_tokens = each.prompt_tokens
        each.blocks = scheduler.pool.take(scheduler.pool.blocks_for(computed))
    running[2].generated_tokens = 1
    scheduler.running = running
    scheduler.add(request(3, 1, 1))
    assert step(scheduler) == [(0, 3), (1, 3)]
    assert ids(scheduler.running) == [0, 1, 2]
    assert ids(scheduler.waiting) == [3]


def test_blocks_are_taken_when_the_boundary_is_crossed() -> None:
    """A decode takes a block exactly when C mod b = 0 before the step."""
    one = request(0, 3, 6)
    scheduler = policy(one, block_size=2)
    held = []
    for _ in range(6):
        batch = scheduler.schedule()
        held.append((batch.members[0].history, len(one.blocks)))
        scheduler.process_outputs(batch)
    assert held == [(0, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4)]


def test_decode_or_chunk() -> None:
    """A chunk of one token is a chunk, also the recomputation after a preemption; kv counts the token written."""
    scheduler = policy(request(0, 3, 2), max_num_batched_tokens=1, max_num_seqs=1)
    kinds = []
    for _ in range(4):
        batch = scheduler.schedule()
        kinds.append((batch.num_decodes, batch.decode_kv, [(chunk.history, chunk.tokens) for chunk in batch.chunks]))
        scheduler.process_outputs(batch)
    assert kinds == [(0, 0, [(0, 1)]), (0, 0, [(1, 1)]), (0, 0, [(2, 1)]), (1, 4, [])]

    zero, one = request(0, 4, 2), request(1, 2, 3)
    scheduler = policy(zero, one, num_usable_blocks=3, block_size=2, max_num_batched_tokens=6)
    assert step(scheduler) == [(0, 4), (1, 2)]
    assert step(scheduler) == [(0, 1)]
    assert (one.preemptions, one.generated_tokens) == (1, 1)
    batch = scheduler.schedule()
    assert [(chunk.request, chunk.history, chunk.tokens) for chunk in batch.chunks] == [(one, 0, 3)]
    assert batch.num_decodes == 0
    scheduler.process_outputs(batch)
    assert (scheduler.schedule().decode_kv, one.generated_tokens) == (4, 2)


def test_chunk_behind_decodes_in_the_middle_of_the_list() -> None:
    """With a threshold several prompts are unfinished at once, and chunks and decodes keep the running order."""
    scheduler = policy(request(0, 5, 4), request(1, 2, 4), request(2, 7, 4), long_prefill_token_threshold=2)
    assert [step(scheduler) for _ in range(4)] == [
        [(0, 2), (1, 2), (2, 2)],
        [(0, 2), (1, 1), (2, 2)],
        [(0, 1), (1, 1), (2, 2)],
        [(0, 1), (1, 1), (2, 1)],
    ]


@given(st.data())
def test_blocks_are_conserved(data: st.DataObject) -> None:
    """After every call and every output: free and held blocks are 1..N, each once; each holds just enough."""
    config = data.draw(configs())
    todo = [request(name, prompt, output) for name, (_, prompt, output) in enumerate(data.draw(workloads(config)))]
    scheduler, everybody = VllmV1(config), list(todo)
    while todo or scheduler.has_unfinished:
        while todo and (not scheduler.has_unfinished or data.draw(st.booleans())):
            scheduler.add(todo.pop(0))
        batch = scheduler.schedule()
        _check_blocks(scheduler, everybody)
        for each in everybody:
            assert len(each.blocks) == scheduler.pool.blocks_for(each.computed_tokens)
            assert bool(each.blocks) == (each in scheduler.running)
        before = list(scheduler.pool.free)
        scheduler.process_outputs(batch)
        assert list(scheduler.pool.free)[: len(before)] == before
        _check_blocks(scheduler, everybody)
        everybody = [each for each in everybody if not each.finished]
    assert scheduler.pool.num_used == 0


def _check_blocks(scheduler: VllmV1, requests: list[Request]) -> None:
    pool = scheduler.pool
    held = [block for each in requests if not each.finished for block in each.blocks]
    assert sorted([*held, *pool.free]) == list(range(1, pool.num_usable_blocks + 1))
    assert (pool.num_free, pool.num_used) == (len(pool.free), len(held))


@given(st.data())
def test_every_running_request_is_scheduled_or_preempted(data: st.DataObject) -> None:
    """First come first served never leaves a running request out, whatever the threshold.

    Why: whoever is admitted finds everybody before it served in full with a token to spare, and the tokens a request
    asks for (threshold, rest of the prompt, then 1) never grow again while it runs.
    """
    config = data.draw(configs())
    todo = [request(name, prompt, output) for name, (_, prompt, output) in enumerate(data.draw(workloads(config)))]
    scheduler = VllmV1(config)
    while todo or scheduler.has_unfinished:
        while todo and (not scheduler.has_unfinished or data.draw(st.booleans())):
            scheduler.add(todo.pop(0))
        batch = scheduler.schedule()
        assert [member.request for member in batch.members] == scheduler.running
        scheduler.process_outputs(batch)
