"""Prefix caching, rule by rule (docs/policies.md, section 9)."""

from typing import Any

import pytest
from reference.config import ReferenceConfig
from reference.prefix_cache import PrefixCache, named_blocks
from reference.requests import Request
from reference.simulate import ReferenceResult, simulate
from reference.vllm_v1 import VllmV1
from reference_tests.builders import ONE_SECOND

SIZES = {
    "num_usable_blocks": 20,
    "block_size": 4,
    "max_num_seqs": 4,
    "max_num_batched_tokens": 64,
    "max_model_len": 256,
    "enable_prefix_caching": True,
}


def request(name: int, prompt_tokens: int, output_tokens: int, *text: int) -> Request:
    """A request whose first blocks of 4 tokens the workload calls by the given ids."""
    return Request(name, 0.0, prompt_tokens, output_tokens, named_blocks=named_blocks(text, 4, 4))


def policy(*requests: Request, **options: Any) -> VllmV1:
    made = VllmV1(ReferenceConfig(**{**SIZES, **options}))
    for each in requests:
        made.add(each)
    return made


def step(scheduler: VllmV1) -> list[tuple[int, int, int]]:
    """One whole iteration; (name, history, tokens) in batch order."""
    batch = scheduler.schedule()
    scheduler.process_outputs(batch)
    return [(member.request.request_id, member.history, member.tokens) for member in batch.members]


def run(requests: list[tuple[float, int, int]], *block_ids: tuple[int, ...], **options: Any) -> ReferenceResult:
    config = ReferenceConfig(**{**SIZES, "block_tokens": 4, "block_ids": block_ids, **options})
    return simulate(requests, ONE_SECOND, config)


# What blocks are called


def test_an_id_may_cover_a_block_several_blocks_or_part_of_one() -> None:
    assert named_blocks((7, 8), 4, 4) == [("text", 7, 0), ("text", 8, 1)]
    assert named_blocks((7, 8), 8, 4) == [("text", 7, 0), ("text", 7, 1), ("text", 8, 2), ("text", 8, 3)]
    # The last id of a block stands for all before it; a block that no id reaches the end of has no name.
    assert named_blocks((7, 8, 9), 2, 4) == [("text", 8, 0)]
    assert named_blocks((), 0, 4) == []


def test_a_block_without_a_name_belongs_to_its_request() -> None:
    one, other = request(1, 12, 1, 7), request(2, 12, 1, 7)
    assert one.identity(0) == other.identity(0)
    assert one.identity(1) != other.identity(1) != other.identity(2)


def test_other_ratios_are_refused() -> None:
    with pytest.raises(ValueError, match="block_tokens is 6, it must be a multiple or a divisor"):
        run([(0.0, 8, 1)], (1,), block_tokens=6)


# The pool


def test_the_tail_of_a_sequence_is_evicted_before_its_head() -> None:
    pool = PrefixCache(5, 4)
    blocks = pool.take(4)
    for place, block in enumerate(blocks):
        pool.mark(block, ("text", place, place))
    pool.release(blocks)
    assert list(pool.free) == [5, 4, 3, 2, 1]
    assert pool.take(3) == [5, 4, 3]
    assert pool.find([("text", place, place) for place in range(4)]) == [1, 2]


def test_of_duplicates_the_first_marked_is_found_and_the_others_stay() -> None:
    pool = PrefixCache(3, 4)
    first, second = pool.take(2)
    pool.mark(second, ("text", 9, 0))
    pool.mark(first, ("text", 9, 0))
    assert pool.find([("text", 9, 0)]) == [second]
    pool.release([second])
    assert pool.take(2) == [3, second]
    assert pool.find([("text", 9, 0)]) == [first]


def test_a_found_block_leaves_the_queue_wherever_it_stands() -> None:
    pool = PrefixCache(4, 4)
    blocks = pool.take(3)
    pool.mark(blocks[1], ("text", 9, 0))
    pool.release(blocks)
    assert list(pool.free) == [4, 3, 2, 1]
    pool.touch([2])
    pool.touch([2])
    assert (list(pool.free), pool.references[2], pool.num_used) == ([4, 3, 1], 2, 1)
    pool.release([2])
    assert pool.num_used == 1
    pool.release([2])
    assert list(pool.free) == [4, 3, 1, 2]


def test_version_head_takes_uncached_blocks_next() -> None:
    """The last block of the request is the very next one."""
    pool = PrefixCache(6, 4, uncached_first=True)
    blocks = pool.take(4)
    pool.mark(1, ("text", 9, 0))
    pool.mark(3, ("text", 8, 2))
    pool.release(blocks)
    assert list(pool.free) == [4, 2, 5, 6, 3, 1]


@pytest.mark.parametrize("corrupt", ["references", "free", "index"])
def test_broken_invariants_are_found(corrupt: str) -> None:
    pool = PrefixCache(3, 4)
    blocks = pool.take(1)
    pool.mark(1, ("text", 9, 0))
    pool.check([blocks])
    if corrupt == "references":
        pool.references[1] = 2
    elif corrupt == "free":
        pool.free.popleft()
    else:
        pool.index.clear()
    with pytest.raises(AssertionError, match="block"):
        pool.check([blocks])


# Lookup and admission


def test_a_later_request_finds_the_blocks_of_an_earlier_one() -> None:
    """Tokens that are found are neither computed nor counted in the budget, and the rest is a chunk behind them."""
    result = run([(0.0, 10, 1), (5.0, 12, 1)], (1, 2), (1, 2))
    assert [batch.members for batch in result.batches] == [[(0, 10)], [(1, 4)]]
    assert result.batches[1].chunks == [(1, 8, 4)]
    assert [each.cached_tokens for each in result.requests] == [0, 8]


def test_at_least_one_token_is_computed() -> None:
    """A prompt of exactly two blocks computes its second one again, though that is cached."""
    result = run([(0.0, 8, 1), (5.0, 8, 1), (9.0, 9, 1)], (1, 2), (1, 2), (1, 2))
    assert [batch.chunks for batch in result.batches] == [[(0, 0, 8)], [(1, 4, 4)], [(2, 8, 1)]]
    assert result.batches[2].num_decodes == 0


def test_a_lookup_stops_at_the_first_block_that_is_not_there() -> None:
    scheduler = policy(request(0, 13, 1, 1, 5, 3))
    step(scheduler)
    scheduler.add(request(1, 13, 1, 1, 2, 3))
    assert step(scheduler) == [(1, 4, 9)]


def test_blocks_are_found_in_the_call_that_takes_them() -> None:
    """Before they are computed: two equal prompts in one batch share all but what has to be computed anew."""
    scheduler = policy(request(0, 9, 2, 1, 2), request(1, 9, 2, 1, 2))
    batch = scheduler.schedule()
    assert [(member.history, member.tokens) for member in batch.members] == [(0, 9), (8, 1)]
    assert [member.request.blocks for member in batch.members] == [[1, 2, 3], [1, 2, 4]]
    assert (scheduler.pool.num_used, scheduler.pool.num_free) == (4, 16)


def test_a_chunk_marks_only_the_blocks_that_it_fills() -> None:
    """Of 7 tokens one block is full. The second request, in the same batch, finds that one only."""
    scheduler = policy(request(0, 12, 1, 1, 2), request(1, 12, 1, 1, 2), long_prefill_token_threshold=7)
    assert step(scheduler) == [(0, 0, 7), (1, 4, 7)]


def test_found_blocks_that_are_free_count_against_the_tests() -> None:
    """5 blocks: 0 has left two full ones and a private one in the queue, 1 holds 3, so 2 are free of which 1 is found.

    2 knows 12 tokens, 3 blocks: it lacks 2 beside the one found, which is one of the two that are free. It waits. If
    1 shared the found block, so that it were held anyway, 2 would fit.
    """

    def first_batch_of_2(text_of_1: tuple[int, ...]) -> float:
        requests = [(0.0, 5, 1), (1.0, 11, 3), (2.0, 12, 1)]
        return run(requests, (1,), text_of_1, (1,), num_usable_blocks=5).requests[2].scheduled_s

    # 1 shares the block: 3 held of 5, 2 free, 2 needs 2 more.
    assert first_batch_of_2((1,)) == 2.0
    # 1 does not: it holds 3 others, of the 2 free one is found.
    assert first_batch_of_2(()) == 4.0


@pytest.mark.parametrize(("gate", "prompt_tokens", "scheduled_s"), [(True, 16, 6), (False, 16, 2), (True, 12, 2)])
def test_the_gate_takes_found_blocks_for_granted(gate: bool, prompt_tokens: int, scheduled_s: float) -> None:
    """6 blocks: at 2.0 request 1 holds 3, and 3 are free, of which one is found: 2 has room for two more.

    For a prompt of 16 it lacks 3 more, for its first chunk, of 8 behind the 4 found, 2; for a prompt of 12 it lacks 2.
    """
    requests = [(0.0, 5, 1), (1.0, 8, 5), (2.0, prompt_tokens, 1)]
    options = {"num_usable_blocks": 6, "full_sequence_gate": gate, "long_prefill_token_threshold": 8}
    result = run(requests, (1,), (), (1,), **options)
    assert [each.scheduled_s for each in result.requests] == [0, 1, scheduled_s]
    assert result.requests[2].cached_tokens == 4


# What is left behind


def test_a_completed_request_leaves_its_outputs() -> None:
    """The text of a conversation: 6 tokens of prompt and 7 of output; the last is never written, so 3 blocks are."""
    result = run([(0.0, 6, 7), (9.0, 15, 1)], (1, 2, 3), (1, 2, 3))
    assert result.requests[1].cached_tokens == 12
    # One output less: the third block is not full.
    result = run([(0.0, 6, 6), (9.0, 15, 1)], (1, 2, 3), (1, 2, 3))
    assert result.requests[1].cached_tokens == 8


def test_blocks_of_decodes_are_found_when_their_request_is_done() -> None:
    """docs/policies.md's own choice; the prompt's blocks are found at once."""
    result = run([(0.0, 6, 9), (5.5, 15, 1)], (1, 2, 3), (1, 2, 3))
    assert (result.requests[1].scheduled_s, result.requests[1].cached_tokens) == (6, 4)


def test_a_preempted_request_finds_itself() -> None:
    """1, with 8 tokens in KV, makes room for a block of 0, which takes 1's last one; the first is found again.

    So of 9 known tokens 4 are there.
    """
    scheduler = policy(request(0, 7, 3), one := request(1, 7, 4), num_usable_blocks=4, max_num_batched_tokens=14)
    assert step(scheduler) == [(0, 0, 7), (1, 0, 7)]
    assert step(scheduler) == [(0, 7, 1), (1, 7, 1)]
    assert step(scheduler) == [(0, 8, 1)]
    assert (one.preemptions, one.known_tokens, one.blocks) == (1, 9, [])
    # 0 has ended: nothing of 1 but its last block was taken.
    assert step(scheduler) == [(1, 4, 5)]
    assert one.cached_tokens == 0


def test_a_victim_leaves_what_it_had_in_the_batch_that_it_is_taken_out_of() -> None:
    """Under priority 1, of the least important class, is in the batch with a chunk of two blocks when 2 lacks a block.

    They were never computed, and the one that 2 does not take is found all the same, as in the engine.
    """
    one, two = request(1, 28, 1), request(2, 4, 4)
    one.order_key, two.order_key = 2, 1
    options = {"num_usable_blocks": 7, "queue_order": "priority", "long_prefill_token_threshold": 8}
    scheduler = policy(one, **options)
    assert step(scheduler) == [(1, 0, 8)]
    scheduler.add(two)
    assert step(scheduler) == [(1, 8, 8), (2, 0, 4)]
    assert step(scheduler) == [(2, 4, 1)]
    assert (one.preemptions, one.blocks) == (1, [])
    assert scheduler.num_found(one) == 20


def test_with_stages_the_token_in_flight_does_not_count() -> None:
    """VLLM.md part 2: a decode's block is marked up to T when the decode is scheduled, and F is 0 if synchronous.

    One-token blocks. The last request, of the least important class, has 2 tokens in KV, the second of them in flight,
    when the middle one asks for 6 blocks. It is preempted, that is not enough, and the middle one is, too: nobody takes
    the blocks. Both are found.
    """
    first, middle, last = Request(0, 0.0, 6, 9), Request(1, 0.0, 30, 1, order_key=1), Request(2, 0.0, 1, 9, order_key=2)
    options = {"block_size": 1, "num_usable_blocks": 37, "num_stages": 2, "max_num_batched_tokens": 12}
    scheduler = policy(
        first, middle, queue_order="priority", long_prefill_token_threshold=6, full_sequence_gate=False, **options
    )
    flights = [scheduler.schedule()]
    scheduler.add(last)
    flights.append(scheduler.schedule())
    for _ in range(2):
        scheduler.process_outputs(flights.pop(0))
        flights.append(scheduler.schedule())
    assert [[(m.request, m.tokens) for m in batch.members] for batch in flights] == [
        [(first, 1), (middle, 6)],
        [(middle, 6), (last, 1)],
    ]
    scheduler.process_outputs(flights.pop(0))
    flights.append(scheduler.schedule())
    assert flights[1].preempted == [last, middle]
    scheduler.process_outputs(flights.pop(0))
    assert (last.known_tokens, scheduler.num_found(last)) == (3, 2)


def test_version_head_reuses_uncached_blocks_before_those_never_used() -> None:
    """0 leaves one full block and one that is not: the next to be taken is the latter, then the three untouched."""

    def blocks_of_1(**options: bool) -> list[int]:
        scheduler = policy(request(0, 5, 1), one := request(1, 16, 1), num_usable_blocks=5, max_num_seqs=1, **options)
        step(scheduler)
        scheduler.schedule()
        return one.blocks

    assert blocks_of_1() == [3, 4, 5, 2]
    assert blocks_of_1(uncached_blocks_first=True) == [2, 3, 4, 5]


# Where it does not exist


@pytest.mark.parametrize("options", [{"batch_policy": "sarathi"}, {"preemption_mode": "swap"}])
def test_only_vllm_v1_with_recompute_has_it(options: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="enable_prefix_caching needs"):
        ReferenceConfig(**{**SIZES, **options})


def test_names_change_nothing_if_it_is_off() -> None:
    requests = [(0.0, 10, 1), (5.0, 12, 1)]
    off = run(requests, (1, 2), (1, 2), enable_prefix_caching=False)
    assert off == run(requests, (), (), enable_prefix_caching=False)
    assert [batch.members for batch in off.batches] == [[(0, 10)], [(1, 12)]]
