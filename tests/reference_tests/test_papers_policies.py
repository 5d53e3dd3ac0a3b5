"""One run by hand for each of the paper's batch policies; every iteration takes a second."""

from functools import partial

import pytest
from reference_tests.small_runs import members
from reference_tests.small_runs import run as small_run

run = partial(small_run, max_waiting_iterations=0)


def test_vllm_v0_prefills_first_and_counts_padding() -> None:
    """Two prompts of 5 and 7 make 14 padded tokens; the third would make 21. Decodes wait for it all the same."""
    result = run("vllm_v0", [(0.0, 5, 3), (0.0, 7, 2), (0.0, 4, 1)])
    assert members(result) == [[(0, 5), (1, 7)], [(2, 4)], [(0, 1), (1, 1)], [(0, 1)]]


def test_vllm_v0_evicts_the_latest_arrival() -> None:
    """At 2.0 both decodes need a block and one is free: the second prefills 6 tokens when the first has ended."""
    result = run("vllm_v0", [(0.0, 4, 4), (0.0, 4, 4)], num_usable_blocks=11)
    assert members(result) == [[(0, 4), (1, 4)], [(0, 1), (1, 1)], [(0, 1)], [(0, 1)], [(1, 6)], [(1, 1)]]
    assert result.batches[2].preempted == [1]


def test_watermark_is_for_admission_only() -> None:
    """Of 10 blocks admission leaves 2 free, so prompts of 4 and 4 fit; decodes use them."""
    options = {"num_usable_blocks": 10, "watermark_blocks_fraction": 0.2}
    assert members(run("vllm_v0", [(0.0, 4, 2), (0.0, 4, 2)], **options))[0] == [(0, 4), (1, 4)]
    assert members(run("vllm_v0", [(0.0, 4, 2), (0.0, 5, 2)], **options))[0] == [(0, 4)]


def test_sarathi_fills_the_budget_behind_its_decodes() -> None:
    """Budget 4: the first prompt whole, then its decode with chunks of the second, and of the third behind that."""
    result = run("sarathi", [(0.0, 4, 3), (0.0, 4, 1), (0.0, 9, 1)], max_num_batched_tokens=4)
    assert members(result) == [[(0, 4)], [(0, 1), (1, 3)], [(0, 1), (1, 1), (2, 2)], [(2, 4)], [(2, 3)]]


def test_orca_mixes_whole_prompts_with_decodes_and_reserves_for_life() -> None:
    """Room for two of the longest: the third joins at 2.0, when the first has left, with its whole prompt."""
    result = run("orca", [(0.0, 4, 2), (0.0, 4, 4), (0.0, 9, 2)], num_usable_blocks=45)
    assert members(result) == [[(0, 4), (1, 4)], [(0, 1), (1, 1)], [(1, 1), (2, 9)], [(1, 1), (2, 1)]]
    assert [batch.blocks_used for batch in result.batches] == [40, 40, 40, 40]


def test_a_block_cut_by_the_longest_request_is_reserved_whole() -> None:
    """20 tokens take three blocks of 8; Vidur's division would give two."""
    assert run("orca", [(0.0, 18, 2)], block_size=8, num_usable_blocks=3).batches[0].blocks_used == 3


def test_faster_transformer_lets_nobody_join() -> None:
    """The third waits for the whole first group though the first member's blocks are back at 1.0."""
    result = run("faster_transformer", [(0.0, 4, 1), (0.0, 4, 3), (0.5, 4, 1)], num_usable_blocks=40)
    assert members(result) == [[(0, 4), (1, 4)], [(1, 1)], [(1, 1)], [(2, 4)]]
    assert [batch.blocks_used for batch in result.batches] == [40, 20, 20, 20]


def test_faster_transformer_takes_turns_with_stages() -> None:
    """Two groups in flight; the third starts in the slot of the one that ends first."""
    requests = [(0.0, 4, 2), (0.0, 4, 2), (0.0, 4, 1)]
    result = run("faster_transformer", requests, num_stages=2, max_num_seqs=2)
    assert members(result) == [[(0, 4)], [(1, 4)], [(0, 1)], [(1, 1)], [(2, 4)]]
    assert [batch.start_s for batch in result.batches] == [0.0, 0.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize(("blocks", "scheduled_s"), [(16, 1.0), (15, 2.0)])
def test_lightllm_admits_by_the_peak_to_come(blocks: int, scheduled_s: float) -> None:
    """At 1.0 the first holds 5 with 3 decodes to go, the second would hold 4 with 4: 3 * 2 + 9 = 15 at the worst.

    That must be less than the pool. A second later it is 2 * 2 + 10 = 14.
    """
    result = run("lightllm", [(0.0, 4, 5), (0.5, 3, 6)], num_usable_blocks=blocks)
    assert result.requests[1].scheduled_s == scheduled_s


def test_lightllm_tries_to_admit_now_and_then() -> None:
    """Two decodes between attempts; a failed attempt is followed by a decode and starts the count again."""
    requests = [(0.0, 9, 7), (0.5, 9, 2)]
    result = run("lightllm", requests, max_waiting_iterations=2, num_usable_blocks=24)
    # Attempts at 3.0 (9 + 2 outputs each way: 3 * 1 + 12 = 15, then 0 * 2 + 22 = 22 < 24): admitted.
    assert members(result)[:4] == [[(0, 9)], [(0, 1)], [(0, 1)], [(1, 9)]]
    # With one token less at 3.0 it is 22 < 22, refused; the next attempt is at 5.0, where it still holds more.
    result = run("lightllm", requests, max_waiting_iterations=2, num_usable_blocks=22)
    assert members(result)[:5] == [[(0, 9)], [(0, 1)], [(0, 1)], [(0, 1)], [(0, 1)]]
    assert result.requests[1].scheduled_s == 7.0
