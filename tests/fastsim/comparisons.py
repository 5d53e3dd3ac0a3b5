"""What it means that the kernel equals the reference."""

import math

import numpy as np
import pytest
from kernel_cases import Case, bucket_of, client_requests
from reference.results import ReferenceResult

from fastsim.kernel.histogram import NUM_BUCKETS
from fastsim.kernel.prepare_series import preempted_s, worst_tbt_s
from fastsim.kernel.state import State

#: Of every request, to the last bit; a request is in its place in the case, and its times are those of its client.
COLUMNS = ("arrival_s", "replica", "scheduled_s", "first_token_s", "completed_s", "preemptions", "cached_tokens")


def assert_equal(case: Case, state: State, expected: ReferenceResult) -> None:
    """Requests and their notes, replicas and times between tokens after a run, and that no block is left over."""
    for got, want in zip(client_requests(case, state), expected.requests, strict=True):
        assert [got[name] for name in COLUMNS] == [getattr(want, name) for name in COLUMNS]
    if case.record_bins > 0:
        worst, preempted = np.nan_to_num(worst_tbt_s(state)), preempted_s(state)
        assert worst.tolist() == [request.worst_tbt_s for request in expected.requests]
        assert preempted == pytest.approx([request.preempted_s for request in expected.requests], rel=1e-9, abs=1e-9)
    for got, want in zip(state.replicas, expected.replicas, strict=True):
        assert (got.iteration, got.busy_s) == (want.iterations, want.busy_s)
        assert got.free_blocks == got.num_blocks
    counts = np.zeros(NUM_BUCKETS, np.int64)
    for gap_s in expected.token_gaps_s:
        counts[bucket_of(gap_s)] += 1
    assert np.array_equal(state.integers[:NUM_BUCKETS], counts)
    assert state.replicas["tbt_sum_s"].sum() == pytest.approx(math.fsum(expected.token_gaps_s), rel=1e-9)
