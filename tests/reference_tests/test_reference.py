"""Whole runs of the reference simulator: times, routing, refusals."""

from itertools import pairwise
from typing import Any

import pytest
from reference.batch import Batch, BatchMember
from reference.requests import Request
from reference.simulate import BatchRecord, ReferenceConfig, ReferenceResult, simulate
from reference.synchronous import SynchronousEngine
from reference.vllm_v1 import VllmV1
from reference_tests.builders import ONE_SECOND, build_tables

Workload = list[tuple[float, int, int]]


def run(requests: Workload, **options: Any) -> ReferenceResult:
    """A run whose iterations take one second each."""
    return simulate(requests, ONE_SECOND, config(**options))


def config(**options: Any) -> ReferenceConfig:
    """Roomy except where the options say otherwise."""
    sizes = {
        "num_usable_blocks": 100,
        "block_size": 4,
        "max_num_seqs": 4,
        "max_num_batched_tokens": 64,
        "max_model_len": 256,
    }
    return ReferenceConfig(**{**sizes, **options})


def replicas(result: ReferenceResult) -> list[int]:
    return [request.replica for request in result.requests]


def test_golden_trace_in_time() -> None:
    """The synchronous column of VLLM.md part 4 with a clock; caching changes nothing in it (see test_vllm_v1.py)."""
    requests = [(0.0, 6, 4), (0.0, 6, 4), (1.5, 4, 2)]
    result = run(requests, num_usable_blocks=5, max_num_seqs=3, max_num_batched_tokens=8)
    assert [request.token_times for request in result.requests] == [[1, 2, 3, 4], [2, 3, 4, 5], [3, 5]]
    assert [request.scheduled_s for request in result.requests] == [0, 0, 2]
    assert [request.first_token_s for request in result.requests] == [1, 2, 3]
    assert [request.completed_s for request in result.requests] == [4, 5, 5]
    assert [request.preemptions for request in result.requests] == [0, 0, 1]
    assert result.token_gaps_s == [1, 1, 1, 1, 1, 1, 2]
    assert result.batches == [
        BatchRecord(0, 0, 0, 1, 8, 2, 0, 0, [(0, 0, 6), (1, 0, 2)], 3, [], [(0, 6), (1, 2)]),
        BatchRecord(0, 1, 1, 2, 5, 2, 1, 7, [(1, 2, 4)], 4, [], [(0, 1), (1, 4)]),
        BatchRecord(0, 2, 2, 3, 6, 3, 2, 15, [(2, 0, 4)], 5, [], [(0, 1), (1, 1), (2, 4)]),
        BatchRecord(0, 3, 3, 4, 2, 2, 2, 17, [], 5, [2], [(0, 1), (1, 1)]),
        BatchRecord(0, 4, 4, 5, 6, 2, 1, 9, [(2, 0, 5)], 5, [], [(1, 1), (2, 5)]),
    ]
    assert (result.replicas[0].iterations, result.replicas[0].busy_s) == (5, 5.0)


def test_one_request_alone() -> None:
    """Its times are the sums, from its arrival on, of what each of its iterations costs."""
    tables = build_tables(
        token=lambda n: 0.1 * n,
        sequence=lambda n: 0.01 * n,
        decode=lambda n, kv: 0.003 * n + 0.0007 * kv,
        prefill=lambda h, c: 0.013 * c + 0.0017 * h,
        bits=6,
    )
    result = simulate([(0.7, 5, 3)], tables, config(max_num_batched_tokens=4))
    first = 0.7 + (0.1 * 4 + 0.01 + 0.0 + 0.013 * 4)
    second = first + (0.1 * 1 + 0.01 + 0.0 + (0.013 * 1 + 0.0017 * 4))
    third = second + (0.1 * 1 + 0.01 + (0.003 * 1 + 0.0007 * 6) + 0.0)
    fourth = third + (0.1 * 1 + 0.01 + (0.003 * 1 + 0.0007 * 7) + 0.0)
    assert result.requests[0].token_times == [second, third, fourth]
    assert result.requests[0].scheduled_s == 0.7
    assert [batch.end_s for batch in result.batches] == [first, second, third, fourth]


def test_single_output_token_comes_with_the_last_chunk() -> None:
    result = run([(2.0, 5, 1)], max_num_batched_tokens=4)
    assert (result.requests[0].first_token_s, result.requests[0].completed_s) == (4.0, 4.0)
    assert result.token_gaps_s == []
    assert [batch.num_decodes for batch in result.batches] == [0, 0]


def test_gap_of_successive_iterations_is_the_duration_itself() -> None:
    """Not the difference of two clocks, which has lost bits: 0.1 + 0.1 + 0.1 is not 0.3."""
    result = simulate([(0.0, 1, 6)], build_tables(token=lambda _: 0.1), config())
    assert result.token_gaps_s == [0.1] * 5
    times = result.requests[0].token_times
    assert times[2] == 0.1 + 0.1 + 0.1
    assert [after - before for before, after in pairwise(times)] != [0.1] * 5
    assert result.replicas[0].busy_s == times[-1]


def test_gap_after_a_resumption_is_the_difference_of_times() -> None:
    """1 is preempted at 2 s with its last token of 1 s; its recomputation in one iteration ends at 5 s."""
    result = run([(0.0, 7, 4), (0.0, 3, 4)], num_usable_blocks=3)
    assert result.requests[1].token_times == [1, 2, 5, 6]
    assert result.token_gaps_s == [1, 1, 1, 1, 3, 1]


def test_arrivals_during_an_iteration_wait_for_its_end() -> None:
    """Also one at the very end of an iteration joins the next batch, as does one at the end of an idle time."""
    result = run([(0.0, 1, 2), (0.5, 1, 1), (1.0, 1, 1), (1.25, 1, 1), (7.5, 1, 1)])
    assert [request.scheduled_s for request in result.requests] == [0, 1, 1, 2, 7.5]
    assert [batch.members for batch in result.batches] == [
        [(0, 1)],
        [(0, 1), (1, 1), (2, 1)],
        [(3, 1)],
        [(4, 1)],
    ]
    assert result.replicas[0].busy_s == 4.0


def test_seats_and_blocks_of_a_finished_request_are_free_at_its_very_end() -> None:
    result = run([(0.0, 4, 1), (1.0, 4, 1)], max_num_seqs=1, num_usable_blocks=1)
    assert [request.scheduled_s for request in result.requests] == [0, 1]


def test_equal_arrivals_keep_their_order() -> None:
    """Of requests handed in out of order, the earlier goes first; of equals, the lower index."""
    result = run([(3.0, 1, 1), (0.0, 1, 1), (0.0, 2, 1), (0.0, 3, 1)], max_num_seqs=1)
    assert [request.scheduled_s for request in result.requests] == [3, 0, 1, 2]


def test_round_robin_follows_the_order_of_arrival() -> None:
    result = run([(3.0, 1, 1), (0.0, 1, 1), (0.0, 1, 1), (0.0, 1, 1), (1.0, 1, 1)], replicas=3)
    assert replicas(result) == [1, 0, 1, 2, 0]


def test_least_outstanding_breaks_ties_by_id_and_counts_at_once() -> None:
    """Requests of one moment are routed one after another, each seeing the ones before."""
    result = run([(0.0, 1, 3)] * 4, replicas=3, router="least_outstanding")
    assert replicas(result) == [0, 1, 2, 0]
    assert {request.scheduled_s for request in result.requests} == {0.0}


def test_least_outstanding_counts_completions_of_that_very_moment() -> None:
    """At 1 s replica 1 has just completed its request: it is empty, and replica 0 is not."""
    result = run([(0.0, 1, 3), (0.0, 1, 1), (1.0, 1, 1)], replicas=2, router="least_outstanding")
    assert replicas(result) == [0, 1, 1]
    assert result.requests[2].scheduled_s == 1.0


def test_least_outstanding_does_not_see_the_future() -> None:
    """At 0.75 s both replicas are busy until 1 s: a tie."""
    result = run([(0.0, 1, 3), (0.0, 1, 1), (0.75, 1, 1)], replicas=2, router="least_outstanding")
    assert replicas(result) == [0, 1, 0]


def test_least_outstanding_counts_waiting_requests() -> None:
    """One seat a replica: the third waits on replica 0, so the fourth goes to replica 1, then they are equal."""
    result = run(
        [(0.0, 1, 5), (0.0, 1, 4), (0.0, 1, 1), (0.5, 1, 1), (0.5, 1, 1)],
        replicas=2,
        router="least_outstanding",
        max_num_seqs=1,
    )
    assert replicas(result) == [0, 1, 0, 1, 0]


def test_routing_comes_before_a_batch_of_the_same_moment() -> None:
    """At 1 s both replicas are free for a new batch; the arrival of that time is in it, wherever it goes."""
    for router in ("round_robin", "least_outstanding"):
        result = run([(0.0, 1, 3), (0.0, 1, 3), (1.0, 1, 1), (1.0, 1, 1)], replicas=2, router=router)
        assert replicas(result) == [0, 1, 0, 1]
        assert [batch.num_sequences for batch in result.batches] == [1, 2, 1, 1, 2, 1]


def test_iterations_without_duration_end() -> None:
    """A free machine answers at the moment of arrival, also when several arrive then."""
    requests = [(1.0, 3, 3), (1.0, 3, 3), (2.0, 1, 1)]
    result = simulate(requests, build_tables(), config(replicas=2, router="least_outstanding"))
    assert [request.completed_s for request in result.requests] == [1, 1, 2]
    assert replicas(result) == [0, 1, 0]


def test_no_requests() -> None:
    result = run([], replicas=2)
    assert (result.requests, result.batches, result.token_gaps_s) == ([], [], [])
    assert [replica.iterations for replica in result.replicas] == [0, 0]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ((0.0, 9, 8), None),
        ((0.0, 9, 9), "request 1 needs more KV than 4 blocks of 4 tokens"),
        ((0.0, 1, 19), "request 1 is longer than max_model_len"),
        ((0.0, 0, 1), "request 1 needs at least 1 prompt token and 1 output token"),
        ((0.0, 1, 0), "request 1 needs at least 1 prompt token and 1 output token"),
        ((-1.0, 1, 1), "request 1 arrives at -1.0 s"),
        ((float("nan"), 1, 1), "request 1 arrives at nan s"),
    ],
)
def test_requests_that_can_never_fit_are_refused(request_: tuple[float, int, int], message: str | None) -> None:
    """The longest that fits runs: 9 + 8 - 1 tokens are 4 blocks of 4."""
    options = {"num_usable_blocks": 4, "block_size": 4, "max_model_len": 19}
    if message is None:
        assert len(run([(0.0, 1, 1), request_], **options).requests[1].token_times) == 8
        return
    with pytest.raises(ValueError, match=message):
        run([(0.0, 1, 1), request_], **options)


def test_longest_request_by_model_length_runs() -> None:
    """P + O = L: the limit L - 1 - C on a step never stops it, and nothing of it is lost."""
    result = run([(0.0, 3, 5), (0.0, 7, 1)], max_model_len=8)
    assert [len(request.token_times) for request in result.requests] == [5, 1]
    with pytest.raises(ValueError, match="longer than max_model_len"):
        run([(0.0, 3, 6)], max_model_len=8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_usable_blocks": 0}, "num_usable_blocks is 0"),
        ({"replicas": 0}, "replicas is 0"),
        ({"long_prefill_token_threshold": -1}, "long_prefill_token_threshold is -1"),
        ({"max_num_seqs": 65}, "max_num_batched_tokens is 64, it must be at least max_num_seqs"),
    ],
)
def test_impossible_sizes_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**options)


def test_iteration_bound_is_reached_but_not_passed() -> None:
    """With a budget of one token a lone request takes all the iterations the bound allows."""
    result = run([(0.0, 4, 3)], max_num_batched_tokens=1, max_num_seqs=1)
    assert result.replicas[0].iterations == 6


def test_passing_the_iteration_bound_is_an_error() -> None:
    """A policy that forgets what it computed would run for ever."""

    class Forgetful(VllmV1):
        def process_outputs(self, batch: Batch) -> list[BatchMember]:
            for member in batch.members:
                member.request.computed_tokens = member.request.tokens_in_flight = 0
            return []

    engine = SynchronousEngine(0, Forgetful(config()), [ONE_SECOND], config())
    engine.assign(Request(0, 0.0, 4, 3))
    for clock_s in range(6):
        engine.finish(clock_s)
        engine.start(clock_s)
    engine.finish(6.0)
    with pytest.raises(AssertionError, match="passed its bound of 6 iterations"):
        engine.start(6.0)
    assert engine.result.iterations == 6


def test_an_empty_batch_is_an_error() -> None:
    """A request that slipped past the check of simulate() must not let the loop spin."""
    small = config(num_usable_blocks=1)
    engine = SynchronousEngine(0, VllmV1(small), [ONE_SECOND], small)
    engine.assign(Request(0, 0.0, 5, 1))
    with pytest.raises(AssertionError, match="empty batch"):
        engine.start(0.0)


def test_a_negative_duration_is_an_error() -> None:
    with pytest.raises(AssertionError, match="the tables give an iteration of -1"):
        simulate([(0.0, 1, 1)], build_tables(token=lambda _: -1.0), config())
