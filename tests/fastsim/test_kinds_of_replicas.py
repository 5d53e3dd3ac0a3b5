"""The event loops for one kind of replica and of client do what the one for all does."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import cases, prepare_kernel
from kernel_cases import run_kernel as run_any

from fastsim.kernel.advance import AHEAD, ONE_STAGE, STAGES
from fastsim.kernel.jit import DISABLED
from fastsim.kernel.slots import compiled, run_of_kind
from fastsim.kernel.slots import policies as slots_of
from fastsim.kernel.state import DONE
from fastsim.options import ROUTERS
from fastsim.schedulers import SCHEDULERS

EXAMPLES = 10 if DISABLED else 60
#: Kind of replica, and what a case must be to be one of it: batch policy, stages, features.
KINDS = {
    "one stage": (ONE_STAGE, "vllm_v1", (1,), ()),
    "one stage, clients that wait": (ONE_STAGE, "vllm_v1", (1,), ("closed",)),
    "ahead": (AHEAD, "vllm_v1", (1,), ("ahead", "caching")),
    "stages": (STAGES, "vllm_v1", (2, 3), ()),
    "stages with requests of their own": (STAGES, "sglang", (2, 3), ()),
}


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_the_loop_for_a_kind_equals_that_for_all(name: str, data: st.DataObject):
    kind, policy, stages, features = KINDS[name]
    orders = ("fcfs", "sjf")
    case = data.draw(cases(max_requests=12, policies=(policy,), stages=stages, orders=orders, features=features))
    waits = case.config.client == "closed"
    if waits != ("closed" in features) or case.config.async_scheduling != (kind == AHEAD):
        return  # a feature that was not drawn
    state, values = prepare_kernel(case)
    slots = slots_of(SCHEDULERS[policy].kernel, ROUTERS[case.config.router].kernel)
    loop = compiled("loop:with_clients" if waits else "loop:without_clients", run_of_kind(kind))
    assert loop(state, values, slots, kind) == DONE
    expected = run_any(case)
    for column in ("scheduled_s", "first_token_s", "completed_s", "preemptions", "cached_tokens"):
        assert np.array_equal(state.requests[column], expected.requests[column])
    assert np.array_equal(state.replicas["iteration"], expected.replicas["iteration"])
