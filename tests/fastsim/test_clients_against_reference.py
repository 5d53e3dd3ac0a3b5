"""Clients, delays, prefix caching and engines: the kernel equals the reference simulator to the last bit."""

import math

import numpy as np
from hypothesis import given, settings
from kernel_cases import Case, bucket_of, cases, client_requests, run_kernel
from reference.simulate import simulate as reference_simulate
from reference_tests.feature_cases import FEATURES

from fastsim.kernel.histogram import NUM_BUCKETS
from fastsim.kernel.jit import DISABLED

EXAMPLES = 60 if DISABLED else 300


@settings(max_examples=EXAMPLES)
@given(cases(features=FEATURES))
def test_clients_and_engines_equal_the_reference(case: Case):
    state = run_kernel(case)
    expected = reference_simulate(case.requests, case.tables, case.config)
    for got, want in zip(client_requests(case, state), expected.requests, strict=True):
        assert (
            got.arrival_s,
            got.replica,
            got.scheduled_s,
            got.first_token_s,
            got.completed_s,
            got.preemptions,
            got.cached_tokens,
        ) == (
            want.arrival_s,
            want.replica,
            want.scheduled_s,
            want.first_token_s,
            want.completed_s,
            want.preemptions,
            want.cached_tokens,
        )
    for got, want in zip(state.replicas, expected.replicas, strict=True):
        assert (got.iteration, got.busy_s) == (want.iterations, want.busy_s)
    counts = np.zeros(NUM_BUCKETS, np.int64)
    for gap_s in expected.token_gaps_s:
        counts[bucket_of(gap_s)] += 1
    assert np.array_equal(state.integers[:NUM_BUCKETS], counts)
    assert math.isclose(state.replicas["tbt_sum_s"].sum(), math.fsum(expected.token_gaps_s), rel_tol=1e-9)
