"""Queue orders: who is taken from waiting, and whom a shortage of blocks hits. Every iteration takes a second."""

from typing import Any

import pytest
from hypothesis import given, settings
from reference.simulate import BATCH_POLICIES, ReferenceResult, simulate
from reference_tests.policy_cases import UNEVEN, Case, cases, queue_key
from reference_tests.small_runs import members, run


def times(result: ReferenceResult) -> list[list[float]]:
    return [request.token_times for request in result.requests]


@pytest.mark.parametrize("policy", BATCH_POLICIES)
@pytest.mark.parametrize("order", ["priority", "sjf"])
def test_the_smallest_key_goes_first(policy: str, order: str) -> None:
    """One seat; of equal keys the earlier arrival, of equal arrivals the earlier position."""
    requests = [(0.0, 4, 1), (0.5, 4, 1), (0.5, 4, 1), (0.25, 4, 1), (0.5, 4, 1)]
    result = run(policy, requests, max_num_seqs=1, queue_order=order, order_keys=(9, 3, 0, 3, 3))
    assert members(result) == [[(0, 4)], [(2, 4)], [(3, 4)], [(1, 4)], [(4, 4)]]


def test_a_preempted_request_returns_to_its_place() -> None:
    """At 2.0 the second restarts for lack of blocks. The third, shorter, passes it, but under fcfs waits behind it."""
    requests = [(0.0, 4, 4), (0.0, 4, 4), (1.5, 2, 1)]
    result = run("vllm_v0", requests, num_usable_blocks=11, queue_order="sjf", order_keys=(0, 2, 1))
    # At 3.0 5 of 11 blocks are free: enough for the third's 2 tokens, not for the second's 6.
    expected = [[(0, 4), (1, 4)], [(0, 1), (1, 1)], [(0, 1)], [(2, 2)], [(0, 1)], [(1, 6)], [(1, 1)]]
    assert members(result) == expected
    result = run("vllm_v0", requests, num_usable_blocks=11)
    assert members(result)[2:] == [[(0, 1)], [(0, 1)], [(1, 6), (2, 2)], [(1, 1)]]


def test_sarathi_evicts_the_least_important() -> None:
    """At 2.0 6 + 5 blocks are held of 11; the second, more important, decodes first and evicts the first."""
    options = {"num_usable_blocks": 11, "queue_order": "priority", "order_keys": (1, 0)}
    result = run("sarathi", [(0.0, 4, 4), (0.5, 4, 4)], **options)
    # 0.0: A4. 1.0: A1 B4: 5 + 4. 2.0: B, A decode: 6 + 5. 3.0: no block is free; B evicts A. 5.0: B has gone, A has 3.
    assert members(result) == [[(0, 4)], [(0, 1), (1, 4)], [(1, 1), (0, 1)], [(1, 1)], [(1, 1)], [(0, 7)]]
    assert result.batches[3].preempted == [0]


def test_vllm_v1_takes_a_victim_out_of_the_batch() -> None:
    """At 3.0 A takes the last block of 11, then B finds none: A leaves the batch and gives its token back."""
    options = {
        "num_usable_blocks": 11,
        "max_num_batched_tokens": 4,
        "full_sequence_gate": False,
        "queue_order": "priority",
        "order_keys": (2, 0, 1),
    }
    result = run("vllm_v1", [(0.0, 2, 5), (0.5, 2, 5), (0.75, 9, 1)], **options)
    assert members(result)[:3] == [[(0, 2)], [(0, 1), (1, 2), (2, 1)], [(0, 1), (1, 1), (2, 2)]]
    # 4 + 3 + 3 blocks are held. Of the budget of 4 C gets the 3 that B leaves.
    assert members(result)[3] == [(1, 1), (2, 3)]
    assert result.batches[3].preempted == [0]
    assert result.batches[3].blocks_used == 4 + 6


def test_vllm_v1_tries_again_after_preempting_the_one_that_asked() -> None:
    """At 2.0 5 + 4 of 9 blocks are held, A asks and is its own victim: nobody is left in the batch, so B is tried."""
    options = {"num_usable_blocks": 9, "queue_order": "priority", "order_keys": (1, 0)}
    result = run("vllm_v1", [(0.0, 4, 4), (0.5, 4, 4)], **options)
    assert times(result) == [[1.0, 2.0, 6.0, 7.0], [2.0, 3.0, 4.0, 5.0]]
    assert members(result)[2] == [(1, 1)]
    assert result.batches[2].preempted == [0]


def test_vllm_v1_under_sjf_preempts_the_last_admitted() -> None:
    """The second has the smaller key and was admitted last."""
    options = {"num_usable_blocks": 9, "queue_order": "sjf", "order_keys": (1, 0)}
    result = run("vllm_v1", [(0.0, 4, 4), (0.5, 4, 4)], **options)
    assert result.batches[2].preempted == [1]
    assert members(result)[2] == [(0, 1)]


@settings(max_examples=300)
@given(cases(("vllm_v1", "vllm_v0", "sarathi"), max_stages=1, orders=("priority",)))
def test_victims_are_the_least_important(case: Case) -> None:
    """Whoever stays in the batch and was not admitted just now stands before all victims in queue order."""
    config, requests = case
    for batch in simulate(requests, UNEVEN, config).batches:
        admitted = {name for name, history, _ in batch.chunks if history == 0}
        for name, _ in batch.members:
            if name not in admitted and name not in batch.preempted:
                assert all(queue_key(case, name) < queue_key(case, victim) for victim in batch.preempted)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"queue_order": "lifo"}, "queue_order is 'lifo', it must be one of fcfs, priority, sjf"),
        ({"order_keys": (1,)}, "order_keys are given and queue_order is 'fcfs'"),
        ({"queue_order": "sjf", "order_keys": (1, 2)}, "order_keys has 2 entries and there are 1 requests"),
        ({"sessions": (1, 2)}, "sessions has 2 entries and there are 1 requests"),
    ],
)
def test_refusals(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run("vllm_v1", [(0.0, 4, 1)], **options)
