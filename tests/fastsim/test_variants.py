"""The event loops for one kind of replica and of client do what the one for all does."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import cases, prepare_kernel
from kernel_cases import run_kernel as run_any

from fastsim.kernel.jit import DISABLED
from fastsim.kernel.slots import RUN, compiled
from fastsim.kernel.slots import policies as slots_of
from fastsim.kernel.state import DONE
from fastsim.options import ROUTERS
from fastsim.schedulers import SCHEDULERS

EXAMPLES = 10 if DISABLED else 60
#: Variant -> what a case must be to be one of its kind: batch policy, stages, features.
KINDS = {
    "one_stage": ("vllm_v1", (1,), ()),
    "one_stage_clients": ("vllm_v1", (1,), ("closed",)),
    "ahead": ("vllm_v1", (1,), ("ahead", "caching")),
    "stages": ("vllm_v1", (2, 3), ()),
    "slots": ("sglang", (2, 3), ()),
}


@pytest.mark.parametrize("variant", KINDS)
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_a_variant_equals_the_loop_for_all(variant: str, data: st.DataObject):
    policy, stages, features = KINDS[variant]
    orders = ("fcfs", "sjf")
    case = data.draw(cases(max_requests=12, policies=(policy,), stages=stages, orders=orders, features=features))
    waits = case.config.client == "closed"
    if waits != variant.endswith("clients") or case.config.async_scheduling != (variant == "ahead"):
        return  # a feature that was not drawn
    state, values = prepare_kernel(case)
    slots = slots_of(SCHEDULERS[policy].kernel, ROUTERS[case.config.router].kernel)
    assert compiled(f"variants:{variant}", RUN)(state, values, slots) == DONE
    expected = run_any(case)
    for name in ("scheduled_s", "first_token_s", "completed_s", "preemptions", "cached_tokens"):
        assert np.array_equal(state.requests[name], expected.requests[name])
    assert np.array_equal(state.replicas["iteration"], expected.replicas["iteration"])
