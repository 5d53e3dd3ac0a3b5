"""A run whose requests come in segments is the run of all of them at once, to the last bit."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import Case, cases, prepare_kernel, run_kernel
from reference_tests.feature_cases import ENGINES

from fastsim import kernel
from fastsim.kernel.jit import DISABLED
from fastsim.kernel.prepare_segments import append_requests, count_done, drop_done
from fastsim.kernel.slots import policies as slots_of
from fastsim.kernel.state import COMPLETED, DONE, NEEDS_REQUESTS
from fastsim.options import ROUTERS
from fastsim.schedulers import SCHEDULERS

EXAMPLES = 15 if DISABLED else 400
#: Of the records what a run says of a request.
SAID = ("row", "replica", "scheduled_s", "first_token_s", "completed_s", "preemptions", "cached_tokens", "phase")
#: Of the replicas what it says of them; the rest are places, limits, and what is at hand.
SUMS = ("busy_s", "active_s", "tbt_sum_s", "block_seconds", "running_seconds", "prefill_tokens", "decode_tokens")
COUNTS = (
    "iteration",
    "completed",
    "preemptions",
    "attention_pairs",
    "peak_blocks",
    "peak_batch_tokens",
    "peak_decodes",
)


def in_segments(case: Case, sizes: list[int], most_kept: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The completed requests, the replicas and the pool of a run in segments."""
    state, values = prepare_kernel(case)
    slots = slots_of(SCHEDULERS[case.config.batch_policy].kernel, ROUTERS[case.config.router].kernel)
    all_requests, buffer = state.requests, state.requests[:0]
    state.cluster["more_to_come"] = 1
    state = state._replace(requests=all_requests[:0])
    done, begin = [], 0
    for size in sizes:
        state, buffer = append_requests(state, all_requests[begin : begin + size], buffer)
        begin += size
        if begin >= len(all_requests):
            state.cluster["more_to_come"] = 0
        status = kernel.run(state, values, slots)
        if begin >= len(all_requests):
            assert status == DONE
            break
        assert status == NEEDS_REQUESTS
        count = count_done(state)
        assert (state.requests["phase"][:count] == COMPLETED).all()
        if count > most_kept:
            done.append(state.requests[:count].copy())
            state = drop_done(state, count)
            assert state.cluster["first_request"][0] == sum(map(len, done))
    return np.concatenate([*done, state.requests]), state.replicas, state.integers


def assert_same(case: Case, sizes: list[int], most_kept: int = 0) -> None:
    whole = run_kernel(case)
    requests, replicas, integers = in_segments(case, sizes, most_kept)
    for name in SAID:
        assert requests[name].tobytes() == whole.requests[name].tobytes(), name
    for name in (*SUMS, *COUNTS):
        assert replicas[name].tobytes() == whole.replicas[name].tobytes(), name
    assert np.array_equal(integers[:6400], whole.integers[:6400])


@st.composite
def streams(draw: st.DrawFn, policy: str) -> Case:
    """A case that can be streamed, in which requests complete while others arrive."""
    case = draw(cases(policies=(policy,), features=("caching", "ahead", "overheads", "prefix_aware", ENGINES)))
    gap_s = draw(st.sampled_from([0.0, 0.05, 0.5, 3.0]))
    requests = [(arrival_s + gap_s * i, prompt, output) for i, (arrival_s, prompt, output) in enumerate(case.requests)]
    router = "random" if case.config.router == "session_affinity" else case.config.router
    return replace(case, requests=requests, config=replace(case.config, router=router), record_bins=0)


@pytest.mark.parametrize("policy", SCHEDULERS)
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_segments_change_nothing(policy: str, data: st.DataObject):
    case = data.draw(streams(policy))
    size = data.draw(st.sampled_from([1, 2, 3, 7]))
    assert_same(case, [size] * len(case.requests), data.draw(st.sampled_from([0, 0, 5])))
