"""The kernel in other people's code: what it takes, starting over, and compiled callers."""

import numba
import numpy as np
import pytest
from plain_tables import plain_config, plain_tables
from simulate_calls import some_workload

import fastsim
from fastsim import SimulationConfig, Workload
from fastsim.custom import as_slot
from fastsim.kernel import copy_state, reset, run
from fastsim.kernel.jit import DISABLED
from fastsim.kernel.state import DONE

#: Kinds of replicas, each with its own tables in the state.
KINDS = {
    "one": {},
    "replicas": {"replicas": 3, "router": "least_outstanding"},
    "stages": {"pipeline_parallel": 2},
    "engines": {"data_parallel": 2, "replicas": 2},
    "clients": {"client": "closed", "client_options": {"concurrency": 8}},
    "shortage": {"num_kv_blocks": 40},
}


def inputs_of(workload: Workload, max_num_seqs: int = 16, max_num_batched_tokens: int = 128, **fields):
    config = plain_config(max_num_seqs, max_num_batched_tokens, **fields)
    return config, fastsim.kernel_inputs(config, workload, plain_tables(config, 0.01, 1e-5))


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_is_that_of_simulate_and_can_be_repeated(kind: str):
    workload = some_workload(60)
    config, inputs = inputs_of(workload, **KINDS[kind])
    expected = fastsim.simulate(config, workload, plain_tables(config, 0.01, 1e-5)).requests
    start = copy_state(inputs.state)
    for _ in range(2):
        assert run(*inputs) == DONE
        in_rows = np.argsort(inputs.state.requests["row"])
        for name in ("scheduled_s", "first_token_s", "completed_s", "preemptions"):
            assert inputs.state.requests[name][in_rows].tolist() == expected[name].to_list(), name
        reset(inputs.state, start)
        for name, table, first in zip(start._fields, inputs.state, start, strict=True):
            assert name == "batches" or table.tobytes() == first.tobytes(), name


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_shares_nothing_but_what_the_state_shares_with_itself(kind: str):
    state = inputs_of(some_workload(20), **KINDS[kind])[1].state
    copy = copy_state(state)
    assert (copy.fleet is copy.replicas) == (state.fleet is state.replicas)
    assert not any(np.shares_memory(mine, other) for mine in copy for other in state)


def late(requests, limit_s):
    """How many requests have their first token later than limit_s after their arrival."""
    count = 0
    for i in range(requests.size):
        count += requests[i].first_token_s - requests[i].arrival_s > limit_s
    return count


def sweep(state, start, tables, policies, changes, found):
    """Run once for each row of changes: (rate, max_num_seqs, max_num_batched_tokens, num_blocks, longest output)."""
    for k in range(changes.shape[0]):
        reset(state, start)
        for i in range(state.requests.size):
            state.requests[i].arrival_s /= changes[k, 0]
            state.requests[i].output_tokens = min(state.requests[i].output_tokens, changes[k, 4])
        replica = state.replicas[0]
        replica.max_num_seqs = changes[k, 1]
        replica.max_micro_batch = changes[k, 1]
        replica.max_num_batched_tokens = changes[k, 2]
        replica.num_blocks = changes[k, 3]
        replica.free_blocks = changes[k, 3]
        if run(state, tables, policies) != DONE:
            return k
        for i in range(state.requests.size):
            found[k, i] = state.requests[i].completed_s
    return changes.shape[0]


@pytest.mark.skipif(DISABLED, reason="NUMBA_DISABLE_JIT is set")
def test_compiled_code_may_change_what_the_documentation_says():
    workload = some_workload(80)
    _, inputs = inputs_of(workload)
    changes = [(1.0, 16, 128, 1000, 99), (3.0, 8, 128, 1000, 99), (0.5, 8, 32, 60, 99), (2.0, 1, 64, 40, 7)]
    found = np.empty((len(changes), len(workload)))
    start = copy_state(inputs.state)
    assert numba.njit(sweep)(inputs.state, start, inputs.tables, inputs.policies, np.array(changes), found) == 4
    for (rate, sequences, tokens, blocks, longest), completed_s in zip(changes, found, strict=True):
        outputs = np.minimum(workload.output_tokens, longest)
        changed = Workload.from_arrays(workload.arrival_s / rate, workload.prompt_tokens, outputs)
        config = plain_config(sequences, tokens, num_kv_blocks=blocks + 1)
        expected = fastsim.simulate(config, changed, plain_tables(config, 0.01, 1e-5)).requests
        assert completed_s.tolist() == expected["completed_s"].to_list()


@pytest.mark.skipif(DISABLED, reason="NUMBA_DISABLE_JIT is set")
def test_what_a_policy_raises_reaches_the_caller_of_compiled_code():
    def refuses(requests, replicas, cluster, i):
        if i == 3:
            raise ValueError("not this one")
        return 0

    @numba.njit
    def call(state, tables, policies):
        return run(state, tables, policies)

    inputs = inputs_of(some_workload(10))[1]
    policies = inputs.policies[0], as_slot("router", refuses)
    with pytest.raises(ValueError, match="not this one"):
        call(inputs.state, inputs.tables, policies)


def test_what_the_kernel_cannot_do_alone_is_refused():
    workload = some_workload(10)
    for field, value in (("parity", "vidur"), ("record_batches", True)):
        with pytest.raises(fastsim.ConfigError) as caught:
            fastsim.kernel_inputs(SimulationConfig(scheduler="sarathi", **{field: value}), workload)
        assert caught.value.field == field
