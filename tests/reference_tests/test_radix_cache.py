"""The radix cache of sglang, rule by rule (docs/policies.md, section 12), and what must hold in all runs with it."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.prefix_cache import Identity, named_blocks
from reference.radix_cache import RadixCache
from reference.requests import Request
from reference.sglang import SgLang
from reference.simulate import ReferenceConfig, ReferenceResult, simulate
from reference_tests.feature_cases import FEATURES
from reference_tests.policy_cases import CONSTANT, UNEVEN, Case, cases
from reference_tests.radix_trees import child, put, shape

SIZES = {
    "batch_policy": "sglang",
    "enable_prefix_caching": True,
    "num_usable_blocks": 100,
    "block_size": 4,
    "max_num_seqs": 4,
    "max_model_len": 64,
}


def request(name: int, prompt_tokens: int, output_tokens: int, *ids: int) -> Request:
    """A request whose first blocks of 4 tokens the workload calls by the given ids."""
    return Request(name, 0.0, prompt_tokens, output_tokens, named_blocks=named_blocks(ids, 4, 4))


def policy(*requests: Request, **options: Any) -> SgLang:
    made = SgLang(ReferenceConfig(**{**SIZES, **options}))
    for each in requests:
        made.add(each)
    return made


def step(scheduler: SgLang) -> list[tuple[int, int, int]]:
    """One whole iteration; (name, history, tokens) in batch order."""
    scheduler.begin_round()
    batch = scheduler.schedule()
    scheduler.process_outputs(batch)
    return [(member.request.request_id, member.history, member.tokens) for member in batch.members]


def run(requests: list[tuple[float, int, int]], *block_ids: Sequence[int], **options: Any) -> ReferenceResult:
    """Every iteration takes a second; an id is a block."""
    merged: dict[str, Any] = {**SIZES, **options}
    ids = tuple(tuple(each) for each in block_ids)
    return simulate(
        requests, CONSTANT, ReferenceConfig(**{"block_tokens": merged["block_size"], "block_ids": ids, **merged})
    )


def chunks(result: ReferenceResult) -> list[list[tuple[int, int, int]]]:
    """(request, history, tokens) of the prefills of each prefill batch."""
    return [batch.chunks for batch in result.batches if batch.chunks]


# Admission


def test_a_later_request_finds_the_pages_of_an_earlier_one() -> None:
    """Also when the replica has been idle in between; at least one token is computed."""
    result = run([(0.0, 10, 1), (5.0, 12, 1), (9.0, 8, 1), (13.0, 9, 1)], *[(1, 2)] * 4)
    assert chunks(result) == [[(0, 0, 10)], [(1, 8, 4)], [(2, 4, 4)], [(3, 8, 1)]]
    assert [each.cached_tokens for each in result.requests] == [0, 8, 4, 8]


def test_equal_prompts_in_one_batch_are_computed_twice_and_kept_once() -> None:
    """Two full pages and one that is not, of each; they decode on the two full ones together."""
    result = run([(0.0, 9, 2), (0.0, 9, 2)], (1, 2), (1, 2))
    assert chunks(result) == [[(0, 0, 9), (1, 0, 9)]]
    assert [batch.blocks_used for batch in result.batches] == [6, 4]


def test_a_chunk_is_found_before_its_prompt_is_complete() -> None:
    """At 1.0 the first lacks 4 of its 12 tokens, the second finds 8 and has the other half of the chunk."""
    result = run([(0.0, 12, 1), (0.0, 12, 1)], (1, 2), (1, 2), chunked_prefill_size=8)
    assert chunks(result) == [[(0, 0, 8)], [(0, 8, 4), (1, 8, 4)]]


def test_what_is_found_is_in_no_budget() -> None:
    """Chunks of 4: with 8 of 12 tokens found the prompt is not cut. The limit of inputs: 4 + 4 are fewer than 9."""
    requests = [(0.0, 9, 1), (5.0, 12, 1), (5.0, 12, 1)]
    result = run(requests, *[(1, 2)] * 3, chunked_prefill_size=4)
    assert chunks(result)[3:] == [[(1, 8, 4)], [(2, 8, 4)]]
    result = run(requests, *[(1, 2)] * 3, max_prefill_tokens=9)
    assert chunks(result)[1:] == [[(1, 8, 4), (2, 8, 4)]]


def test_a_prompt_is_cut_behind_what_was_found() -> None:
    result = run([(0.0, 5, 1), (5.0, 15, 2)], (1,), (1,), chunked_prefill_size=6)
    assert chunks(result)[1:] == [[(1, 4, 4)], [(1, 8, 4)], [(1, 12, 3)]]
    assert result.requests[1].cached_tokens == 4


@pytest.mark.parametrize(("blocks", "scheduled_s"), [(22, 2.0), (21, 6.0)])
def test_what_the_head_locks_cannot_be_evicted_for_it(blocks: int, scheduled_s: float) -> None:
    """At 2.0 the tree has 10 pages of 0, and 1 holds 4 and may give 4 more, at 0.7: 15.2 or 14.2 are left.

    The head lacks 1 + 4, and 10 of these pages are those that it found. Refused, it waits until 1 leaves, at 6.0.
    """
    ids = tuple(range(10))
    requests = [(0.0, 10, 1), (1.0, 4, 5), (1.5, 11, 4)]
    result = run(requests, ids, (), ids, block_size=1, num_usable_blocks=blocks)
    assert (result.requests[2].scheduled_s, result.requests[2].cached_tokens) == (scheduled_s, 10)


@pytest.mark.parametrize(("arrival_s", "cached_tokens"), [(2.5, 4), (7.5, 0)])
def test_a_failed_attempt_refreshes_what_it_found(arrival_s: float, cached_tokens: int) -> None:
    """12 pages: 4 of text A, older, 4 of text B; 2 holds 3 at 3.0 and takes five more, for which one text must go.

    3 comes with text A. At 3.0 it lacks 1 + 6, of 9 - 0.7 * 5, but now B is the older one. At 7.5 it comes too late.
    """
    requests = [(0.0, 4, 1), (1.0, 4, 1), (2.0, 3, 6), (arrival_s, 5, 6)]
    a, b = (1, 2, 3, 4), (5, 6, 7, 8)
    result = run(requests, a, b, (), a, block_size=1, num_usable_blocks=12)
    assert (result.requests[3].scheduled_s, result.requests[3].cached_tokens) == (8.0, cached_tokens)
    assert not any(each.preemptions for each in result.requests)


@pytest.mark.parametrize(("seats", "access"), [(1, 2), (2, 3)])
def test_a_head_without_a_seat_is_not_looked_up(seats: int, access: int) -> None:
    """The text's number is that of its insert, 1, and what the first, and perhaps the second, gave it."""
    scheduler = policy(request(0, 5, 3, 1), request(1, 5, 3, 1), max_num_seqs=seats)
    assert isinstance(scheduler.pool, RadixCache)
    put(scheduler.pool, 1)
    scheduler.begin_round()
    assert len(scheduler.schedule().members) == seats
    assert child(scheduler.pool.root, 1).access == access


def test_a_prompt_that_has_to_wait_for_its_chunk_holds_nothing() -> None:
    """Chunks of 6 tokens: behind 4 of the first 2 are left, less than a page."""
    waiting = request(1, 13, 1, 1)
    scheduler = policy(request(0, 3, 1), waiting, chunked_prefill_size=6)
    assert isinstance(scheduler.pool, RadixCache)
    put(scheduler.pool, 1)
    scheduler.begin_round()
    assert [member.request.request_id for member in scheduler.schedule().members] == [0]
    assert (waiting.node, waiting.computed_tokens, child(scheduler.pool.root, 1).locks) == (None, 0, 0)


# What is left behind


def test_a_completed_request_leaves_its_outputs() -> None:
    """6 tokens of prompt and 7 of output, of which the last is never written: 3 pages; one output less: 2."""
    result = run([(0.0, 6, 7), (9.0, 15, 1)], (1, 2, 3), (1, 2, 3))
    assert result.requests[1].cached_tokens == 12
    result = run([(0.0, 6, 6), (9.0, 15, 1)], (1, 2, 3), (1, 2, 3))
    assert result.requests[1].cached_tokens == 8


def test_pages_of_decodes_are_found_when_their_request_is_done() -> None:
    result = run([(0.0, 6, 9), (5.5, 15, 1)], (1, 2, 3), (1, 2, 3))
    assert (result.requests[1].scheduled_s, result.requests[1].cached_tokens) == (6.0, 4)


def test_at_the_end_of_a_batch_all_are_inserted_in_its_order() -> None:
    """The second finishes, the first and the third do not."""
    scheduler = policy(request(0, 5, 2, 1), request(1, 5, 1, 2), request(2, 5, 2, 3))
    assert isinstance(scheduler.pool, RadixCache)
    step(scheduler)
    numbers = [child(scheduler.pool.root, one).access for one in (1, 2, 3)]
    assert numbers == sorted(numbers)
    assert [child(scheduler.pool.root, one).locks for one in (1, 2, 3)] == [1, 0, 1]


def test_own_pages_are_those_behind_the_last_full_one() -> None:
    one = request(0, 9, 9, 1)
    scheduler = policy(one)
    step(scheduler)
    assert one.node is not None
    assert (one.node.contents, len(one.blocks)) == ([("text", 1, 0), ("request", 0, 1)], 1)
    for _ in range(3):
        assert len(one.blocks) == 1
        step(scheduler)
    # Decodes insert nothing: known are 13, computed 12.
    step(scheduler)
    assert (one.node.num_pages, len(one.blocks)) == (2, 2)


# Retraction

LONG = {"block_size": 1, "num_usable_blocks": 60, "schedule_conservativeness": 0.01}


def test_a_retracted_request_finds_its_prompt() -> None:
    """60 pages: at 28.0 both hold 4 + 26, and the second goes; its 26 own pages are free, which are 20 for the first.

    Of the 4 + 27 tokens that it knows the 4 of its prompt are there when the first has ended.
    """
    result = run([(0.0, 4, 40), (0.5, 4, 40)], **LONG)
    assert [batch.formed_s for batch in result.batches if batch.preempted == [1]] == [28.0]
    assert chunks(result) == [[(0, 0, 4)], [(1, 0, 4)], [(1, 4, 27)]]
    assert [each.cached_tokens for each in result.requests] == [0, 0]


def test_a_retraction_makes_room_for_twenty_tokens_of_each_that_stays() -> None:
    """As before, but there are 42 pages, so that only 17 own ones are free. Its prompt, a leaf, has to go.

    If the two have the same prompt, it is held by the first, and stays.
    """
    requests = [(0.0, 4, 30), (0.5, 4, 30)]
    result = run(requests, **{**LONG, "num_usable_blocks": 42})
    assert chunks(result)[2:] == [[(1, 0, 22)]]
    # The second finds 3 of 4 tokens, and the pool is 4 pages larger for them.
    result = run(requests, (1, 2, 3, 4), (1, 2, 3, 4), **{**LONG, "num_usable_blocks": 38})
    assert chunks(result) == [[(0, 0, 4)], [(1, 3, 1)], [(1, 4, 18)]]


def test_texts_are_evicted_before_anybody_is_retracted() -> None:
    """Of 60 pages 16 are an old text's; 28 are free at 1.0. Nobody is retracted before those are gone, at 28 + 1."""
    result = run([(0.0, 16, 1), (1.0, 4, 40), (1.5, 4, 40)], **LONG)
    assert [batch.formed_s for batch in result.batches if batch.preempted] == [29.0]
    assert result.requests[2].preemptions == 1


# Slots, routers, and where it does not exist


def test_slots_share_the_tree() -> None:
    """Two stages: at 2.0 the second takes the second slot while the first decodes in the other one."""
    result = run([(0.0, 9, 3), (1.0, 9, 1)], (1, 2), (1, 2), num_stages=2, max_num_seqs=2)
    assert chunks(result) == [[(0, 0, 9)], [(1, 0, 9)]]
    result = run([(0.0, 9, 3), (2.0, 9, 1)], (1, 2), (1, 2), num_stages=2, max_num_seqs=2)
    assert chunks(result) == [[(0, 0, 9)], [(1, 8, 1)]]


def test_a_router_counts_what_may_be_found_and_changes_nothing() -> None:
    """At least one token of the prompt is to be computed, whatever of the outputs has a name."""
    scheduler = policy()
    assert isinstance(scheduler.pool, RadixCache)
    put(scheduler.pool, 1, 2, 3)
    assert [scheduler.num_found(request(0, prompt, 9, 1, 2, 3)) for prompt in (4, 5, 8, 9)] == [0, 4, 4, 8]
    assert (shape(scheduler.pool.root), scheduler.pool.counter) == ({(1, 2, 3): {}}, 1)


def test_a_router_looks_into_the_trees() -> None:
    """The text went to replica 0, another to replica 1; hits outweigh the number of the replica."""
    requests = [(0.0, 9, 1), (0.0, 9, 1), (5.0, 9, 1), (9.0, 9, 1)]
    result = run(requests, (1, 2), (3, 4), (3, 4), (1, 2), router="prefix_aware", replicas=2)
    assert [each.replica for each in result.requests] == [0, 1, 1, 0]
    assert [each.cached_tokens for each in result.requests] == [0, 0, 8, 8]


def test_names_change_nothing_if_it_is_off() -> None:
    requests = [(0.0, 10, 1), (5.0, 12, 1)]
    off = run(requests, (1, 2), (1, 2), enable_prefix_caching=False)
    assert off == run(requests, (), (), enable_prefix_caching=False)
    assert chunks(off) == [[(0, 0, 10)], [(1, 0, 12)]]


# What must hold in all runs; every call of the policy holds the invariants of pages and locks

CACHED = cases(("sglang",), features=tuple(name for name in FEATURES if name != "ahead"))


@settings(max_examples=300)
@given(CACHED)
def test_log_replays(case: Case) -> None:
    """Every token is in the tree when its request is admitted, or computed once until it is retracted."""
    config, requests = case
    result = simulate(requests, UNEVEN, config)
    computed: dict[int, int] = {}
    seen: set[int] = set()
    for batch in result.batches:
        history = {name: before for name, before, _ in batch.chunks}
        for name in batch.preempted:
            del computed[name]
        for name, tokens in batch.members:
            if name not in computed:
                assert history[name] % config.block_size == 0
                assert history[name] == 0 or config.enable_prefix_caching
                assert name in seen or history[name] == result.requests[name].cached_tokens
                computed[name] = history[name]
                seen.add(name)
            assert history.get(name, computed[name]) == computed[name]
            computed[name] += tokens
        assert batch.blocks_used <= config.num_usable_blocks
        assert batch.num_decodes in (0, len(batch.members))
    assert computed == {name: prompt + output - 1 for name, (_, prompt, output) in enumerate(requests)}


@settings(max_examples=200)
@given(cases(("sglang",), features=("closed", "sessions", "delays")))
def test_a_cache_in_which_nothing_is_shared_matters_to_the_retracted_only(case: Case) -> None:
    """What nobody holds is as good as free."""
    config, requests = case
    off = simulate(requests, UNEVEN, config)
    on = simulate(requests, UNEVEN, replace(config, enable_prefix_caching=True))
    assert not any(request.cached_tokens for request in on.requests)
    if not any(request.preemptions for request in off.requests):
        assert on == off


@settings(max_examples=200)
@given(cases(("sglang",), features=("caching",)), st.booleans())
def test_with_room_for_all_a_request_finds_what_any_before_it_has_left(case: Case, crowded: bool) -> None:
    """One after the other on a replica with room for all texts: the longest beginning in common, and no more.

    On a crowded one that is the most that may be found.
    """
    config, requests = case
    if not config.enable_prefix_caching:
        return
    if not crowded:
        config = replace(config, num_usable_blocks=1000)
    config = replace(config, replicas=1, router="round_robin")
    size = config.block_size
    names: list[list[Identity]] = []
    alone = [(1000.0 * place, prompt, output) for place, (_, prompt, output) in enumerate(requests)]
    results = simulate(alone, UNEVEN, config).requests
    for place, ((_, prompt, output), ids) in enumerate(zip(alone, config.block_ids, strict=True)):
        known = Request(place, 0.0, prompt, output, named_blocks=named_blocks(ids, config.block_tokens, size))
        left = [known.identity(page) for page in range((prompt + output - 1) // size)]
        wanted = left[: (prompt - 1) // size]
        most = max((sum(wanted[: n + 1] == other[: n + 1] for n in range(len(wanted))) for other in names), default=0)
        if crowded:
            assert results[place].cached_tokens <= most * size
        else:
            assert results[place].cached_tokens == most * size
        names.append(left)
    assert all(before.completed_s < after.scheduled_s for before, after in pairwise(results))
