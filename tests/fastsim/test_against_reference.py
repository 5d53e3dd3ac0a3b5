"""The kernel equals the reference simulator to the last bit."""

import numpy as np
import pytest
from comparisons import assert_equal
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import Case, cases, run_kernel
from reference.simulate import simulate as reference_simulate

from fastsim.kernel.jit import DISABLED
from fastsim.schedulers import SCHEDULERS

# As plain Python the kernel is a thousand times slower: a few cases cover its branches.
EXAMPLES = 60 if DISABLED else 1000


@pytest.mark.parametrize("policy", SCHEDULERS)
@settings(max_examples=EXAMPLES // 2)
@given(data=st.data())
def test_every_request_and_replica_equals_the_reference(policy: str, data: st.DataObject):
    case = data.draw(cases(policies=(policy,)))
    assert_equal(case, run_kernel(case), reference_simulate(case.requests, case.tables, case.config))


@settings(max_examples=EXAMPLES // 4)
@given(cases(max_requests=20, stages=(2, 3, 4), factors=(0.0, 0.0, 1.0)))
def test_stages_that_take_no_time_equal_the_reference(case: Case):
    # Then several batches end at one time.
    state = run_kernel(case)
    expected = reference_simulate(case.requests, case.tables, case.config)
    for got, want in zip(state.requests, expected.requests, strict=True):
        assert (got.scheduled_s, got.first_token_s, got.completed_s, got.preemptions) == (
            want.scheduled_s,
            want.first_token_s,
            want.completed_s,
            want.preemptions,
        )
    assert state.replicas["iteration"].tolist() == [replica.iterations for replica in expected.replicas]


@settings(max_examples=EXAMPLES // 10)
@given(cases(max_requests=20))
def test_every_iteration_equals_the_reference(case: Case):
    state = run_kernel(case, record_batches=True)
    log = state.batches[: state.cluster[0].num_batches]
    expected = reference_simulate(case.requests, case.tables, case.config)
    for replica in range(case.config.replicas):
        got = log[log["replica"] == replica]
        want = expected.replicas[replica].batches
        rows = [(batch, times) for batch in want for times in batch.stage_times or [(batch.start_s, batch.end_s)]]
        assert len(got) == len(rows)
        for row, (batch, times) in zip(got, rows, strict=True):
            assert (row.start_s, row.end_s, row.num_tokens, row.num_sequences, row.num_decodes) == (
                *times,
                batch.num_tokens,
                batch.num_sequences,
                batch.num_decodes,
            )
            assert (row.used_blocks, row.preempted) == (batch.blocks_used, len(batch.preempted))
            assert row.decode_kv == batch.decode_kv


@settings(max_examples=EXAMPLES // 10)
@given(cases(max_requests=20))
def test_a_batch_log_changes_nothing(case: Case):
    # With the log every iteration is run on its own, without it the kernel leaps.
    plain, logged = run_kernel(case), run_kernel(case, record_batches=True)
    for name in ("scheduled_s", "first_token_s", "completed_s"):
        assert np.array_equal(plain.requests[name], logged.requests[name])
    assert np.array_equal(plain.replicas["iteration"], logged.replicas["iteration"])
