"""Clients: closed loops, sessions whose turns wait for each other, and the way between clients and replicas."""

import math
from typing import Any

import pytest
from reference.simulate import ReferenceConfig, ReferenceResult, simulate
from reference_tests.builders import ONE_SECOND

NOW = math.nan


def run(requests: list[tuple[float, int, int]], **options: Any) -> ReferenceResult:
    """Every iteration takes a second; roomy except where the options say otherwise."""
    sizes = {"num_usable_blocks": 100, "block_size": 1, "max_num_seqs": 4, "max_num_batched_tokens": 16}
    return simulate(requests, ONE_SECOND, ReferenceConfig(**{**sizes, **options}))


def arrivals(result: ReferenceResult) -> list[float]:
    return [request.arrival_s for request in result.requests]


def completions(result: ReferenceResult) -> list[float]:
    return [request.completed_s for request in result.requests]


# Closed


def test_a_lone_closed_client_sends_one_request_after_the_other() -> None:
    """It ignores the times of the workload and thinks half a second."""
    result = run([(9.0, 4, 2), (3.0, 4, 1), (7.0, 4, 3)], client="closed", concurrency=1, client_think_s=0.5)
    assert arrivals(result) == [0.0, 2.5, 4.0]
    assert completions(result) == [2.0, 3.5, 7.0]


def test_closed_clients_take_the_next_request_in_order_as_they_become_free() -> None:
    """0 and 1 at 0.0; 1 ends at 1.0, so 2 is sent; 0 and 2 end together at 3.0, so 3 and 4 are sent; 3 ends: 5."""
    outputs = [3, 1, 2, 1, 2, 1]
    result = run([(0.0, 2, output) for output in outputs], client="closed", concurrency=2)
    assert arrivals(result) == [0, 0, 1, 3, 3, 4]
    assert completions(result) == [3, 1, 3, 4, 5, 5]


def test_what_is_sent_at_an_end_is_in_the_batch_that_is_formed_then() -> None:
    result = run([(0.0, 2, 2), (0.0, 2, 1), (0.0, 2, 1)], client="closed", concurrency=2)
    assert [batch.members for batch in result.batches] == [[(0, 2), (1, 2)], [(0, 1), (2, 2)]]


def test_more_clients_than_requests() -> None:
    assert arrivals(run([(5.0, 2, 1)] * 3, client="closed", concurrency=9)) == [0, 0, 0]


def test_closed_clients_of_an_engine_that_schedules_ahead() -> None:
    """The only batch ends at 1.0 and is processed at 1.25: the client knows then."""
    options = {"client": "closed", "async_scheduling": True, "process_s": 0.25, "launch_s": 0.5}
    result = run([(0.0, 4, 1)] * 2, **options)
    assert (arrivals(result), completions(result)) == ([0.0, 1.75], [1.75, 3.5])


def test_ends_on_several_replicas_at_one_time_send_in_order() -> None:
    """Both replicas are done at 2.0; requests 2 and 3 are routed in their order."""
    result = run([(0.0, 4, 2)] * 4, client="closed", concurrency=2, replicas=2, router="least_outstanding")
    assert arrivals(result) == [0, 0, 2, 2]
    assert [request.replica for request in result.requests] == [0, 1, 0, 1]


# Sessions


def test_a_turn_is_sent_a_think_time_after_the_one_before_is_complete() -> None:
    """Its own arrival time means nothing; a session without think times, and a request without one, are as before."""
    requests = [(0.0, 4, 2), (0.0, 4, 1), (0.0, 4, 1), (1.0, 4, 1), (5.5, 4, 1)]
    result = run(requests, sessions=(7, 7, 7, -1, 7), think_s=(NOW, 0.5, 2.0, NOW, NOW))
    # At 2.0 the first turn and the one without a session are done; the second is sent at 2.5 and done at 3.5.
    assert arrivals(result) == [0.0, 2.5, 5.5, 1.0, 5.5]
    assert completions(result) == [2.0, 3.5, 6.5, 2.0, 6.5]


def test_a_think_time_without_a_turn_before_is_refused() -> None:
    with pytest.raises(ValueError, match="request 1 has a think time and nobody to wait for"):
        run([(0.0, 4, 1), (0.0, 4, 1)], sessions=(1, 2), think_s=(NOW, 1.0))


def test_arrivals_at_one_time_go_in_the_order_of_the_workload() -> None:
    """At 1.0 three arrive: 2 by its own time, 1 and 4 because 0 and 3 end."""
    requests = [(0.0, 4, 1), (0.0, 4, 1), (1.0, 4, 1), (0.0, 4, 1), (0.0, 4, 1)]
    config = {"sessions": (0, 0, -1, 4, 4), "think_s": (NOW, 0.0, NOW, NOW, 0.0), "max_num_seqs": 1, "replicas": 2}
    result = run(requests, router="least_outstanding", **config)
    # 0 on replica 0 and 3 on replica 1 end at 1.0; then 1, 2 and 4 are routed.
    assert arrivals(result) == [0, 1, 1, 0, 1]
    assert [request.replica for request in result.requests] == [0, 0, 1, 1, 0]


def test_later_turns_find_the_earlier_ones() -> None:
    """Of 8 tokens of the first turn 7 are written, so the second, of 12, finds 7."""
    text = tuple(range(12))
    config = {"enable_prefix_caching": True, "block_ids": (text[:8], text), "block_tokens": 1}
    result = run([(0.0, 4, 4), (0.0, 12, 1)], sessions=(1, 1), think_s=(NOW, 1.0), **config)
    assert [request.cached_tokens for request in result.requests] == [0, 7]
    assert result.batches[-1].chunks == [(1, 7, 5)]


# The way


def test_delays_on_the_way() -> None:
    """1/2 s and 1/4 s per prompt token to the replica, 1/8 s back: all that the client sees is with them."""
    result = run([(0.0, 2, 3)], ingress_s=0.5, ingress_s_per_token=0.25, egress_s=0.125)
    request = result.requests[0]
    assert (request.arrival_s, request.scheduled_s) == (0.0, 1.0)
    assert request.token_times == [2.125, 3.125, 4.125]
    assert (request.first_token_s, request.completed_s) == (2.125, 4.125)
    assert result.token_gaps_s == [1.0, 1.0]


def test_a_long_prompt_may_arrive_after_one_that_was_sent_later() -> None:
    """It then stands behind it, everywhere."""
    requests = [(0.0, 8, 1), (0.5, 2, 1)]
    result = run(requests, ingress_s_per_token=0.25, max_num_seqs=1, replicas=2)
    assert [request.scheduled_s for request in result.requests] == [2.0, 1.0]
    assert [request.replica for request in result.requests] == [1, 0]


def test_a_client_waits_for_the_way_back() -> None:
    result = run([(0.0, 2, 1)] * 2, client="closed", client_think_s=0.25, ingress_s=0.5, egress_s=0.125)
    assert arrivals(result) == [0.0, 1.875]
    assert completions(result) == [1.625, 3.5]
    sessions = run([(0.0, 2, 1)] * 2, sessions=(1, 1), think_s=(NOW, 0.25), ingress_s=0.5, egress_s=0.125)
    assert arrivals(sessions) == arrivals(result)


@pytest.mark.parametrize("options", [{"egress_s": -1.0}, {"ingress_s": math.inf}, {"client_think_s": math.nan}])
def test_times_that_make_no_sense_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="it must be a finite time that is not negative"):
        run([(0.0, 1, 1)], **options)
