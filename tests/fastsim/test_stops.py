"""Runs that end once a limit is certain to break: the kernel stops where the reference does, and nowhere else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import Case, cases, run_kernel, run_with_stops
from reference.simulate import simulate as reference_simulate
from reference.stops import StoppedError

from fastsim.kernel.jit import DISABLED
from fastsim.kernel.state import DONE, STOPPED

EXAMPLES = 60 if DISABLED else 500
FEATURES = ("caching", "ahead", "overheads", "delays", "prefix_aware", "engines")
METRICS = ("scheduling_delay_s", "ttft_s", "e2e_s", "tpot_s")
COLUMNS = ("scheduled_s", "first_token_s", "completed_s")


@st.composite
def limits(draw: st.DrawFn, metrics: tuple[str, ...] = METRICS) -> list[tuple[str, float, float]]:
    """One to three limits."""
    drawn = st.tuples(
        st.sampled_from(metrics),
        st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]),
        st.sampled_from([0.001, 0.01, 0.05, 0.125, 0.5, 1.0, 5.0, 30.0]),
    )
    return draw(st.lists(drawn, min_size=1, max_size=3))


def stops_at(case: Case, given_limits: list[tuple[str, float, float]]) -> float | None:
    """When the reference stops."""
    try:
        reference_simulate(case.requests, case.tables, case.config, given_limits)
    except StoppedError as stopped:
        return stopped.clock_s
    return None


@settings(max_examples=EXAMPLES)
@given(cases(max_requests=25, features=FEATURES), limits(METRICS[:3]))
def test_the_kernel_stops_if_and_only_if_the_reference_does(case: Case, given_limits: list):
    status, _ = run_with_stops(case, given_limits)
    assert status in (DONE, STOPPED)
    assert (status == STOPPED) == (stops_at(case, given_limits) is not None)


@settings(max_examples=EXAMPLES // 2)
@given(cases(max_requests=25), limits(("tpot_s",)))
def test_a_time_per_token_stops_only_where_the_reference_does(case: Case, given_limits: list):
    # The kernel does not look at it after the last arrival, nor past a request that is still short of its limit.
    status, _ = run_with_stops(case, given_limits)
    assert status == DONE or stops_at(case, given_limits) is not None


@settings(max_examples=EXAMPLES // 2)
@given(cases(max_requests=25, features=FEATURES), limits())
def test_what_has_happened_is_the_same_as_without_stops(case: Case, given_limits: list):
    status, stopped = run_with_stops(case, given_limits)
    whole = run_kernel(case)
    for name in COLUMNS:
        arrived = slice(0, int(stopped.cluster[0].next_request))
        times, expected = stopped.requests[name][arrived], whole.requests[name][arrived]
        happened = ~np.isnan(times)
        assert np.array_equal(times[happened], expected[happened])
        if status == DONE:
            assert happened.all()
    if status == DONE:
        for name in ("iteration", "busy_s", "tbt_sum_s", "block_seconds", "active_s", "free_blocks"):
            assert np.array_equal(stopped.replicas[name], whole.replicas[name])
        assert np.array_equal(stopped.integers[: len(whole.integers)][:6400], whole.integers[:6400])


def test_a_run_is_over_long_before_its_end():
    case = slow_machine([(0.1 * i, 6, 4) for i in range(200)])
    status, state = run_with_stops(case, [("scheduling_delay_s", 0.9, 1.0)])
    assert status == STOPPED
    assert 0 < int(state.cluster[0].next_request) < len(case.requests) // 2


def slow_machine(requests: list[tuple[float, int, int]]) -> Case:
    """Every iteration takes a second."""
    from reference.simulate import ReferenceConfig
    from reference_tests.builders import ONE_SECOND

    config = ReferenceConfig(
        num_usable_blocks=100,
        block_size=4,
        max_num_seqs=4,
        max_num_batched_tokens=64,
        max_model_len=256,
        sessions=(-1,) * len(requests),
        send_latency_s=(0.0,),
        send_s_per_token=(0.0,),
    )
    return Case(requests, config, [ONE_SECOND])


@pytest.mark.parametrize(("limit_s", "status"), [(1.0, DONE), (0.999, STOPPED)])
def test_a_time_per_token_stops_while_requests_arrive(limit_s: float, status: int):
    # Every token takes a second.
    case = slow_machine([(10.0 * i, 6, 4) for i in range(9)])
    assert run_with_stops(case, [("tpot_s", 0.5, limit_s)])[0] == status


@pytest.mark.parametrize(("limit_s", "status"), [(1.0, DONE), (0.999, STOPPED)])
def test_a_request_is_late_above_the_limit_not_at_it(limit_s: float, status: int):
    case = slow_machine([(0.0, 6, 1), (0.0, 50, 1)])
    assert run_with_stops(case, [("ttft_s", 0.0, limit_s)])[0] == status
