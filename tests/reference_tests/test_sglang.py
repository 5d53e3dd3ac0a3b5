"""Runs of sglang by hand, and what must hold in all of them; every iteration takes a second."""

from typing import Any

import pytest
from hypothesis import given, settings
from reference.requests import Request
from reference.sglang import SgLang
from reference.simulate import ReferenceConfig, ReferenceResult, simulate
from reference_tests.policy_cases import CONSTANT, UNEVEN, Case, cases, queue_key


def config(**options: Any) -> ReferenceConfig:
    """Roomy except where the options say otherwise; blocks are single tokens."""
    sizes = {
        "batch_policy": "sglang",
        "num_usable_blocks": 100,
        "block_size": 1,
        "max_num_seqs": 4,
        "max_model_len": 24,
    }
    return ReferenceConfig(**{**sizes, **options})


def run(requests: list[tuple[float, int, int]], **options: Any) -> ReferenceResult:
    return simulate(requests, CONSTANT, config(**options))


def members(result: ReferenceResult) -> list[list[tuple[int, int]]]:
    return [batch.members for batch in result.batches]


def test_decodes_stall_while_a_prompt_is_prefilled() -> None:
    result = run([(0.0, 4, 4), (0.5, 4, 2)])
    assert members(result) == [[(0, 4)], [(1, 4)], [(0, 1), (1, 1)], [(0, 1)], [(0, 1)]]
    assert result.requests[0].token_times == [1.0, 3.0, 4.0, 5.0]


@pytest.mark.parametrize(("blocks", "scheduled_s"), [(15, 1.0), (14, 4.0)])
def test_admission_counts_with_a_share_of_the_outputs_to_come(blocks: int, scheduled_s: float) -> None:
    """At 1.0 the first holds 4 and may give 3 more, which count 0.7 * 3 = 2.1: 8.9 or 7.9 are left, 8 are needed.

    A refusal sets the full flag, and nothing is tried until the first leaves at 4.0.
    """
    result = run([(0.0, 4, 4), (0.5, 4, 4)], num_usable_blocks=blocks)
    assert result.requests[1].scheduled_s == scheduled_s


@pytest.mark.parametrize(("blocks", "together"), [(17, True), (16, False)])
def test_admitted_in_the_same_batch_all_outputs_count(blocks: int, together: bool) -> None:
    """17 or 16 less 4 + 4 of the first leaves 9 or 8; the second needs less than that for its 4 + 4."""
    result = run([(0.0, 4, 4), (0.0, 4, 4)], num_usable_blocks=blocks)
    assert members(result)[0] == ([(0, 4), (1, 4)] if together else [(0, 4)])


def test_a_full_flag_falls_though_the_one_who_leaves_never_decoded() -> None:
    """One seat: the second sets the flag at 0.0; the first ends with its prefill."""
    assert members(run([(0.0, 4, 1), (0.0, 4, 1)], max_num_seqs=1)) == [[(0, 4)], [(1, 4)]]


def test_chunks_are_cut_to_whole_blocks() -> None:
    """Chunks of 4, blocks of 2. At 2.0 the first ends with 2, and 2 of the second's 3 tokens ride along."""
    result = run([(0.0, 10, 1), (0.0, 3, 1)], block_size=2, chunked_prefill_size=4)
    assert members(result) == [[(0, 4)], [(0, 4)], [(0, 2), (1, 2)], [(1, 1)]]
    # The first's 5 blocks and the second's 1.
    assert [batch.blocks_used for batch in result.batches] == [2, 4, 6, 2]


def test_the_rest_of_a_chunk_of_less_than_a_block_stops() -> None:
    """Chunks of 5, blocks of 4: 4 tokens leave 1, no block of the second; then 3 are charged as a whole block."""
    result = run([(0.0, 7, 1), (0.0, 3, 1)], block_size=4, chunked_prefill_size=5)
    assert members(result) == [[(0, 4)], [(0, 3)], [(1, 3)]]


def test_inputs_of_a_batch_are_limited_but_for_its_first_prompt() -> None:
    """Of 6 tokens the first prompt leaves 2, the second has 4. The third, of 9, is the first of its batch."""
    result = run([(0.0, 4, 1), (0.0, 4, 1), (0.0, 9, 1)], max_prefill_tokens=6)
    assert members(result) == [[(0, 4)], [(1, 4)], [(2, 9)]]


def test_retraction_of_the_latest_of_equals_to_the_end_of_waiting() -> None:
    """0.07 of the outputs to come count. At 5.0 7 + 7 of 15 blocks are held and both need one: the second goes."""
    options = {"num_usable_blocks": 15, "schedule_conservativeness": 0.1}
    result = run([(0.0, 4, 6), (0.5, 4, 6), (1.5, 4, 4)], **options)
    # 2.0: the third needs 4 + 4, of 15 - 8 - 0.07 * 10 = 6.3. 6.0: rho is min(1, (5 + 20) / 7), so it is one of
    # 15 - 8 - 1 = 6. 7.0: the first has gone; the third takes 4 + 4 of 15 and leaves 7, not the 8 + 2 of the second.
    both, first = [(0, 1), (1, 1)], [(0, 1)]
    expected = [[(0, 4)], [(1, 4)], both, both, both, first, first, [(2, 4)], *[[(2, 1)]] * 3, [(1, 8)], [(1, 1)]]
    assert members(result) == expected
    assert result.batches[5].preempted == [1]
    assert result.requests[1].preemptions == 1


def test_retraction_of_the_fewest_outputs_or_the_least_important() -> None:
    """The first, with more outputs, stays, unless its class is the less important one."""
    requests = [(0.0, 4, 9), (1.5, 4, 5)]
    # At 2.0 the second needs 9 of 15 - 5 - 0.07 * 7 = 9.51. At 6.0 8 + 7 blocks are held, and 5 and 4 outputs given.
    options = {"num_usable_blocks": 15, "schedule_conservativeness": 0.1}
    assert run(requests, **options).batches[6].preempted == [1]
    assert run(requests, queue_order="priority", order_keys=(1, 0), **options).batches[6].preempted == [0]
    assert run(requests, queue_order="sjf", order_keys=(1, 0), **options).batches[6].preempted == [1]
    options["num_usable_blocks"] = 17
    assert sum(request.preemptions for request in run(requests, **options).requests) == 0


def test_the_ratio_falls_and_rises() -> None:
    """From 0.7 by (0.7 - 0.098) / 600 with each decode batch; back when the replica has nothing left."""
    policy = SgLang(config(num_usable_blocks=8))
    policy.add(Request(0, 0.0, 2, 3))
    step = (0.7 - 0.14 * 0.7) / 600
    for ratio in (0.7, 0.7 - step, 0.7 - step - step):
        policy.begin_round()
        batch = policy.schedule()
        assert policy.ratio == ratio
        policy.process_outputs(batch)
    assert policy.ratio == 0.7


def test_the_ratio_after_a_retraction() -> None:
    """One survivor with 1 of 30 outputs: (1 + 20 * 1) / (30 + 1)."""
    policy = SgLang(config(num_usable_blocks=36, schedule_conservativeness=0.01, max_model_len=50))
    for name, output in enumerate((30, 10)):
        request = Request(name, float(name), 4, output, generated_tokens=1, computed_tokens=4, prefill_tokens=4)
        request.blocks = policy.pool.take(4)
        policy.slots[0].running.append(request)
    policy.pool.take(27)
    policy.begin_round()
    batch = policy.schedule()
    assert ([member.request.request_id for member in batch.members], len(batch.preempted)) == ([0], 1)
    assert policy.ratio == 21 / 31


def test_each_slot_has_its_own_requests() -> None:
    """Two stages, two seats in each slot: the first two and the third take turns."""
    result = run([(0.0, 4, 2)] * 3, num_stages=2)
    assert members(result) == [[(0, 4), (1, 4)], [(2, 4)], [(0, 1), (1, 1)], [(2, 1)]]
    assert [batch.start_s for batch in result.batches] == [0.0, 0.0, 2.0, 3.0]


def test_a_free_slot_is_tried_on_arrival() -> None:
    result = run([(0.0, 4, 2), (0.5, 4, 2)], num_stages=2)
    assert [(batch.start_s, batch.members) for batch in result.batches] == [
        (0.0, [(0, 4)]),
        (0.5, [(1, 4)]),
        (2.0, [(0, 1)]),
        (3.0, [(1, 1)]),
    ]


def test_one_chunked_request_at_a_time() -> None:
    """Chunks of 4: at 0.0 the second would be cut, too, and waits; at 2.0 the first has its last chunk."""
    result = run([(0.0, 8, 1), (0.0, 8, 1)], num_stages=2, chunked_prefill_size=4)
    assert [(batch.start_s, batch.members) for batch in result.batches] == [
        (0.0, [(0, 4)]),
        (2.0, [(0, 4)]),
        (2.0, [(1, 4)]),
        (5.0, [(1, 4)]),
    ]


def test_a_slot_without_running_is_never_full() -> None:
    """18 blocks. At 0.0 the third needs 4 + 7 and slot 1 has 18 - 8 = 10: full.

    At 2.0 the second has gone. Slot 0 has 18 - 4 - 0.7 * 7 = 9.1, slot 1 has 14.
    """
    result = run([(0.0, 4, 8), (0.0, 4, 1), (0.0, 4, 7)], num_stages=2, num_usable_blocks=18)
    assert [(batch.start_s, batch.members) for batch in result.batches[:3]] == [
        (0.0, [(0, 4), (1, 4)]),
        (2.0, [(0, 1)]),
        (2.0, [(2, 4)]),
    ]


@settings(max_examples=400)
@given(cases(("sglang",)))
def test_limits_of_a_batch_hold(case: Case) -> None:
    settings_, requests = case
    size = settings_.chunked_prefill_size
    for batch in simulate(requests, UNEVEN, settings_).batches:
        assert 1 <= len(batch.members) <= settings_.max_num_seqs // settings_.num_stages
        assert batch.blocks_used <= settings_.num_usable_blocks
        assert batch.num_decodes in (0, len(batch.members))
        if size > 0:
            assert sum(tokens for _, _, tokens in batch.chunks) <= size
        assert all(history % settings_.block_size == 0 for _, history, _ in batch.chunks)
        if len(batch.chunks) > 1:
            first = batch.chunks[0][2]
            assert batch.num_tokens - first < max(1, settings_.max_prefill_tokens)


@settings(max_examples=300)
@given(cases(("sglang",), max_stages=1, orders=("priority",)))
def test_victims_are_the_least_important(case: Case) -> None:
    settings_, requests = case
    for batch in simulate(requests, UNEVEN, settings_).batches:
        if batch.num_decodes > 0:
            for name, _ in batch.members:
                for victim in batch.preempted:
                    assert queue_key(case, name)[0] <= queue_key(case, victim)[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_usable_blocks": 10}, "request 0 has 10 tokens, they must be fewer than those of 10 blocks of 1"),
        ({"block_size": 4, "chunked_prefill_size": 3}, "it must be 0 or at least block_size"),
        ({"max_prefill_tokens": 0}, "max_prefill_tokens is 0, it must be at least 1"),
        ({"schedule_conservativeness": 0.0}, "schedule_conservativeness is 0.0, it must be > 0"),
    ],
)
def test_refusals(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run([(0.0, 8, 2)], **options)
