"""Routers, counted again from the results of the run."""

from typing import Any

from hypothesis import given, settings
from reference.simulate import ReferenceConfig, simulate
from reference_tests.builders import ONE_SECOND
from reference_tests.policy_cases import UNEVEN, Case, cases


@settings(max_examples=200)
@given(cases())
def test_each_router_chose_as_it_says(case: Case) -> None:
    config, requests = case
    result = simulate(requests, UNEVEN, config)
    order = sorted(range(len(requests)), key=lambda i: (requests[i][0], i))
    for position, chosen in enumerate(order):
        now_s = requests[chosen][0]
        counts, tokens = [0] * config.replicas, [0] * config.replicas
        session = config.sessions[chosen]
        same = [result.requests[i].replica for i in order[:position] if session == config.sessions[i] != -1]
        for earlier in order[:position]:
            if result.requests[earlier].completed_s > now_s:
                counts[result.requests[earlier].replica] += 1
                tokens[result.requests[earlier].replica] += requests[earlier][1] + requests[earlier][2]
        expected = {
            "round_robin": position % config.replicas,
            "random": config.router_choices[position],
            "least_outstanding": counts.index(min(counts)),
            "least_outstanding_tokens": tokens.index(min(tokens)),
            "session_affinity": same[-1] if same else counts.index(min(counts)),
        }
        # Of KV in use the results keep no record between batches; least_kv has its own tests.
        assert result.requests[chosen].replica == expected.get(config.router, result.requests[chosen].replica)


def test_a_session_stays_where_it_began() -> None:
    """Its first request, and one without a session, go where the fewest requests are, of equals to replica 0."""
    config = ReferenceConfig(100, replicas=2, router="session_affinity", sessions=(5, -1, 5, 7, 5, -1))
    result = simulate([(0.0, 5, 5)] * 6, ONE_SECOND, config)
    assert [request.replica for request in result.requests] == [0, 1, 0, 1, 0, 1]


def least_kv(requests: list[tuple[float, int, int]]) -> list[int]:
    """Where two replicas of one-token blocks get the requests; every iteration takes a second."""
    config = ReferenceConfig(100, 1, 4, 64, 64, replicas=2, router="least_kv")
    return [request.replica for request in simulate(requests, ONE_SECOND, config).requests]


def test_least_kv_counts_blocks_not_requests() -> None:
    """Two short requests on replica 1 hold less than a long one on replica 0, so the fourth joins them."""
    assert least_kv([(0.0, 30, 9), (0.0, 5, 9), (0.5, 5, 9), (1.5, 5, 9)]) == [0, 1, 1, 1]


def test_least_kv_spreads_a_burst() -> None:
    """Requests that have not run hold nothing: of equals the one with fewer outstanding requests."""
    assert least_kv([(0.0, 5, 5)] * 4) == [0, 1, 0, 1]


def test_least_kv_sees_blocks_freed_at_that_time() -> None:
    """Replica 0 ends its request at 1.0 and holds nothing when the third request is routed."""
    assert least_kv([(0.0, 30, 1), (0.0, 5, 5), (1.0, 5, 5)]) == [0, 1, 0]


def prefix_aware(requests: list[tuple[float, int, int]], **options: Any) -> list[int]:
    """Where two replicas get requests of one text, whose tokens are blocks; every iteration takes a second."""
    sizes = {"enable_prefix_caching": True, "block_tokens": 1, "block_ids": (tuple(range(8)),) * len(requests)}
    config = ReferenceConfig(100, 1, 4, 64, 64, replicas=2, router="prefix_aware", **{**sizes, **options})
    return [request.replica for request in simulate(requests, ONE_SECOND, config).requests]


def test_prefix_aware_goes_where_the_prompt_is_cached() -> None:
    """Both are idle at 3.0, and 7 of the 8 tokens are on replica 1, where least_outstanding_tokens had put the second.

    The prompt's last token is computed anew, so it does not count.
    """
    requests = [(0.0, 8, 2), (0.5, 8, 1), (3.0, 8, 1)]
    other_text = {"block_ids": ((9,), tuple(range(8)), tuple(range(8)))}
    assert prefix_aware(requests, **other_text) == [0, 1, 1]
    assert prefix_aware(requests, hit_weight=0.0, **other_text) == [0, 1, 0]
    assert prefix_aware(requests, enable_prefix_caching=False, **other_text) == [0, 1, 0]


def test_prefix_aware_sets_outstanding_tokens_against_hits() -> None:
    """At 1.5 replica 0 has 7 tokens of the prompt, being computed for a request of 10: 3 more than it saves."""
    requests = [(0.0, 8, 2), (1.5, 8, 1)]
    assert prefix_aware(requests) == [0, 1]
    # 10 - 7 w < 0 from w = 10 / 7 on; of equals the first.
    assert prefix_aware(requests, hit_weight=1.42) == [0, 1]
    assert prefix_aware(requests, hit_weight=1.43) == [0, 0]


def test_prefix_aware_counts_what_was_routed_at_the_same_time() -> None:
    assert prefix_aware([(0.0, 8, 2)] * 3) == [0, 1, 0]
