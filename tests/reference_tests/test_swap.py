"""Preemption by swapping: nothing is computed twice, and copies cost time on top of a second per iteration."""

from collections import Counter
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from reference.config_checks import SWAPPING_POLICIES
from reference.simulate import ReferenceResult, simulate
from reference_tests.policy_cases import UNEVEN, Case, cases
from reference_tests.small_runs import members
from reference_tests.small_runs import run as small_run

run = partial(small_run, preemption_mode="swap")


def times(result: ReferenceResult) -> list[list[float]]:
    return [request.token_times for request in result.requests]


def copies(result: ReferenceResult) -> list[tuple[int, int]]:
    return [(batch.swapped_out_blocks, batch.swapped_in_blocks) for batch in result.batches]


def test_vllm_v1_swaps_a_decode() -> None:
    """At 2.0 5 + 4 of 9 blocks are held; the first asks for one, and the second's 4 go out in half a second."""
    result = run("vllm_v1", [(0.0, 4, 4), (0.5, 4, 4)], num_usable_blocks=9, swap_s_per_block=0.125)
    # At 3.5 2 blocks are free and the second, with its 5 tokens, does not pass the gate. At 4.5 it comes back and
    # decodes at once.
    assert members(result) == [[(0, 4)], [(0, 1), (1, 4)], [(0, 1)], [(0, 1)], [(1, 1)], [(1, 1)], [(1, 1)]]
    assert copies(result) == [(0, 0), (0, 0), (4, 0), (0, 0), (0, 4), (0, 0), (0, 0)]
    assert times(result) == [[1.0, 2.0, 3.5, 4.5], [2.0, 6.0, 7.0, 8.0]]
    assert (result.batches[4].decode_kv, result.batches[4].blocks_used) == (5, 5)
    assert result.requests[1].preemptions == 1


def test_vllm_v1_goes_on_with_an_unfinished_prefill() -> None:
    """Budget 4. At 3.0 6 + 6 of 12 blocks are held; the second has computed 6 of 8 tokens and goes on with the rest."""
    options = {"num_usable_blocks": 12, "max_num_batched_tokens": 4, "full_sequence_gate": False}
    result = run("vllm_v1", [(0.0, 4, 4), (0.5, 8, 1)], **options)
    assert [batch.chunks for batch in result.batches] == [[(0, 0, 4)], [(1, 0, 3)], [(1, 3, 3)], [], [(1, 6, 2)]]
    assert copies(result) == [(0, 0), (0, 0), (0, 0), (6, 0), (0, 6)]
    assert result.batches[4].blocks_used == 8


def test_vllm_v1_counts_what_is_being_computed_as_computed() -> None:
    """Two stages, a chunk of the second in flight at 2.0, when the first asks for block 13 of 12: all 8 go out."""
    result = run("vllm_v1", [(0.0, 4, 5), (0.0, 8, 1)], num_usable_blocks=12, num_stages=2, max_num_batched_tokens=6)
    # 0.0: A4 B2, and B6 in the next batch. 2.0: A needs block 13 and B, with all 8 computed or being computed, goes.
    assert members(result)[:3] == [[(0, 4), (1, 2)], [(1, 6)], [(0, 1)]]
    assert result.batches[2].swapped_out_blocks == 8
    # Its token comes at 3.0 all the same, and it was its last: nothing is copied back.
    assert times(result)[1] == [3.0]
    assert sum(batch.swapped_in_blocks for batch in result.batches) == 0


def test_vllm_v0_joins_a_swapped_request_to_the_decodes() -> None:
    """At 2.0 5 + 5 of 11 blocks are held and both need one: the second swaps its own 5 out."""
    result = run("vllm_v0", [(0.0, 4, 4), (0.0, 4, 4), (1.5, 2, 1)], num_usable_blocks=11)
    # At 3.0 4 blocks are free, enough for the third's 2, but a swapped head lets nobody past. At 4.0 the second takes 6
    # for its known tokens; at 5.0 the third prefills first.
    expected = [[(0, 4), (1, 4)], [(0, 1), (1, 1)], [(0, 1)], [(0, 1)], [(1, 1)], [(2, 2)], [(1, 1)]]
    assert members(result) == expected
    assert copies(result)[2:5] == [(5, 0), (0, 0), (0, 5)]
    assert (result.batches[4].decode_kv, result.batches[4].blocks_used) == (6, 6)


def test_sarathi_joins_a_swapped_request_behind_the_others() -> None:
    """At 3.0 6 + 5 of 11 blocks are held: the second, more important, has the first's 6 swapped out."""
    options = {"num_usable_blocks": 11, "queue_order": "priority", "order_keys": (1, 0)}
    result = run("sarathi", [(0.0, 4, 4), (0.5, 4, 4)], **options)
    assert members(result) == [[(0, 4)], [(0, 1), (1, 4)], [(1, 1), (0, 1)], [(1, 1)], [(1, 1)], [(0, 1)]]
    assert copies(result)[3:] == [(6, 0), (0, 0), (0, 6)]
    assert (result.batches[5].decode_kv, result.batches[5].blocks_used) == (7, 7)


@settings(max_examples=400)
@given(cases(SWAPPING_POLICIES, modes=("swap",)))
def test_nothing_is_computed_twice(case: Case) -> None:
    """Each request computes its P + O - 1 tokens once, so a batch more than those cannot be."""
    config, requests = case
    result = simulate(requests, UNEVEN, config)
    computed = Counter[int]()
    for batch in result.batches:
        computed.update(dict(batch.members))
    assert computed == {name: prompt + output - 1 for name, (_, prompt, output) in enumerate(requests)}
    out, back = (sum(blocks) for blocks in zip(*copies(result), strict=True))
    # A request of vllm_v1 may end with a token that was in flight when it was swapped out.
    assert back == out or (config.batch_policy == "vllm_v1" and config.num_stages > 1 and back < out)


@settings(max_examples=300)
@given(cases(SWAPPING_POLICIES, max_stages=1, modes=("swap",)))
def test_nobody_comes_back_in_a_batch_that_swapped_out(case: Case) -> None:
    """At one stage; under priority an attempt of vllm_v1 that only preempted is followed by another."""
    config, requests = case
    for batch in simulate(requests, UNEVEN, config).batches:
        if (config.batch_policy, config.queue_order) != ("vllm_v1", "priority"):
            assert batch.swapped_out_blocks == 0 or batch.swapped_in_blocks == 0


@pytest.mark.parametrize(
    ("policy", "options", "message"),
    [
        ("vllm_v1", {"preemption_mode": "abort"}, "it must be 'recompute' or 'swap'"),
        ("orca", {}, "preemption_mode is 'swap', only vllm_v1, vllm_v0, sarathi can swap"),
        ("sarathi", {"swap_s_per_block": -1.0}, "swap_s_per_block is -1.0, it must not be < 0"),
    ],
)
def test_refusals(policy: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(policy, [(0.0, 4, 1)], **options)
