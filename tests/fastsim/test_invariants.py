"""What holds in every simulation, whatever arrives and whatever serves it.

Each invariant is one property or more over `kernel_cases.cases`: loads from idle to overload, ample to tiny KV, one to
three replicas, all routers and queue orders, one to four pipeline stages, recompute and swap, both prefill rules.
docs/kernel.md cites these numbers.

I1  Completion: every request completes, exactly once, on the replica to which it was routed.
I2  Token conservation: a replica computes the P + D - 1 tokens of each of its requests, prompts in chunks and D - 1
    outputs in decodes, and on top of them only what preemptions discarded: nothing where they swap. Each of the D
    outputs comes once.
I3  KV blocks: no iteration uses more blocks than there are or fewer than its requests need; at the end all are free,
    and nothing is left in the calendars of completions, the block crossings, the queues, the bench and the sums over
    decodes.
I4  Clock: the clock of a replica never runs back; the iterations of a stage do not overlap, and a batch starts on a
    stage when it has left the one before.
I5  Causality: arrival <= scheduled < first token <= completed, and the last two are equal if and only if D = 1.
I6  Determinism: the same inputs give the same bits, also when other simulations run on other threads.
I7  First come, first served: under fcfs the requests of a replica are first scheduled in order of arrival.
I8  Work conservation: a replica idles only while none of its requests has arrived and not completed; it starts again at
    the very arrival that ends the idle time.
I9  Termination: without preemptions a replica needs at most one iteration for each of the P + D - 1 tokens of its
    requests; in any case a request completes within a bounded number of them, and a run that makes no progress ends
    with a status instead of hanging.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from kernel_cases import Case, cases, pool_of, prepare_kernel, run_kernel, scheduler_of

from fastsim import kernel
from fastsim.kernel.cohorts import HEADER
from fastsim.kernel.histogram import NUM_BUCKETS
from fastsim.kernel.jit import DISABLED, jit
from fastsim.kernel.slots import SCHEDULE, policies
from fastsim.kernel.state import COMPLETED, NO_PROGRESS, NONE, State

# As plain Python the kernel is a thousand times slower: a few cases cover its branches.
EXAMPLES = 40 if DISABLED else 400
over_all_cases = settings(max_examples=EXAMPLES)


#: What the cases must reach, or the properties below would say little.
CORNERS: dict[str, Callable[[Case, State], bool]] = {
    "many preemptions": lambda _, state: state.replicas["preemptions"].max() >= 5,
    "preempted twice": lambda _, state: state.requests["preemptions"].max() >= 2,
    "every block in use": lambda case, state: state.replicas["peak_blocks"].max() == case.config.num_usable_blocks,
    "idle between requests": lambda _, state: (state.replicas["busy_s"] < 0.5 * state.replicas["clock_s"]).all(),
    "a full batch of requests": lambda case, state: (
        state.replicas["peak_sequences"].max() == case.config.max_num_seqs > 4
    ),
    "a prompt longer than the budget": lambda case, _: (
        max(prompt for _, prompt, _ in case.requests) > case.config.max_num_batched_tokens
    ),
    "one output token": lambda case, _: 1 in [output for _, _, output in case.requests],
    "equal arrival times": lambda case, _: len({arrival for arrival, _, _ in case.requests}) < len(case.requests),
    "preempted by swapping": lambda case, state: (
        case.config.preemption_mode == "swap" and state.replicas["preemptions"].max() >= 2
    ),
    "preempted under priority": lambda case, state: (
        case.config.queue_order == "priority" and state.replicas["preemptions"].max() >= 2
    ),
    "preempted with stages": lambda case, state: (
        case.config.num_stages > 1 and state.replicas["preemptions"].max() >= 2
    ),
    "a replica without requests": lambda _, state: 0 in state.replicas["completed"],
}


@pytest.mark.filterwarnings("ignore:Generating overly large repr")
@pytest.mark.parametrize("corner", CORNERS)
def test_cases_reach(corner: str):
    find(
        cases(),
        lambda case: bool(CORNERS[corner](case, run_kernel(case))),
        settings=settings(max_examples=1000, phases=[Phase.generate]),
    )


def requests_of(state: State, replica: int) -> np.ndarray:
    """The requests of one replica, in order of arrival."""
    return state.requests[state.requests["replica"] == replica]


def stage_runs_of(state: State, replica: int, stage: int) -> np.ndarray:
    """The batch log of one stage of a replica, in order."""
    log = state.batches[: state.cluster[0].num_batches]
    return log[(log["replica"] == replica) & (log["stage"] == stage)]


def iterations_of(state: State, replica: int) -> np.ndarray:
    """The batches of one replica in order, each from its start on the first stage to its end on the last."""
    first = stage_runs_of(state, replica, 0).copy()
    first["end_s"] = stage_runs_of(state, replica, int(state.replicas[replica].num_stages) - 1)["end_s"]
    return first


def tokens_to_compute(requests: np.ndarray) -> int:
    """P + D - 1 of each request, summed up: the last output is never written."""
    return int((requests["prompt_tokens"].astype(int) + requests["output_tokens"] - 1).sum())


@over_all_cases
@given(cases())
def test_i1_every_request_completes_exactly_once(case: Case):
    state = run_kernel(case)
    assert len(state.requests) == len(case.requests)
    assert (state.requests["phase"] == COMPLETED).all()
    assert np.isfinite(state.requests["completed_s"]).all()
    served = [len(requests_of(state, replica)) for replica in range(case.config.replicas)]
    assert state.replicas["completed"].tolist() == served
    assert sum(served) == len(case.requests)


@over_all_cases
@given(cases())
def test_i2_tokens_are_conserved(case: Case):
    state = run_kernel(case)
    for index, replica in enumerate(state.replicas):
        requests = requests_of(state, index)
        computed = replica.prefill_tokens + replica.decode_tokens
        assert replica.preemptions == requests["preemptions"].sum()
        if replica.preemptions == 0:
            assert replica.prefill_tokens == requests["prompt_tokens"].sum()
            assert replica.decode_tokens == (requests["output_tokens"] - 1).sum()
        recomputed = computed - tokens_to_compute(requests)
        if case.config.preemption_mode == "swap":
            assert recomputed == 0
        # A preempted request had at least one token of KV, and at least one token of its life to go, unless that was in
        # flight.
        in_flight = int(replica.stays_running and replica.num_stages > 1)
        whole = requests["prompt_tokens"].astype(int) + requests["output_tokens"] - 2 + in_flight
        assert (0 if in_flight or replica.swaps else replica.preemptions) <= recomputed
        assert recomputed <= (requests["preemptions"] * whole).sum()


@over_all_cases
@given(cases())
def test_i2_every_output_token_comes_once(case: Case):
    state = run_kernel(case)
    gaps = state.integers[:NUM_BUCKETS].sum()
    assert gaps == sum(output_tokens - 1 for _, _, output_tokens in case.requests)
    # Together the gaps are the times between first and last tokens.
    between_s = (state.requests["completed_s"] - state.requests["first_token_s"]).sum()
    assert state.replicas["tbt_sum_s"].sum() == pytest.approx(between_s, rel=1e-9, abs=1e-9)


@over_all_cases
@given(cases(max_requests=20))
def test_i2_batches_hold_the_tokens_that_are_counted(case: Case):
    state = run_kernel(case, record_batches=True)
    for index, replica in enumerate(state.replicas):
        log = iterations_of(state, index)
        assert log["num_tokens"].sum() == replica.prefill_tokens + replica.decode_tokens
        assert log["num_decodes"].sum() == replica.decode_tokens
        assert log["preempted"].sum() == replica.preemptions
        assert (log["num_tokens"] <= scheduler_of(case.config).most_tokens(pool_of(case.config))).all()
        assert (log["num_sequences"] <= case.config.max_num_seqs).all()


@over_all_cases
@given(cases(max_requests=20))
def test_i3_no_iteration_uses_blocks_that_are_not_there(case: Case):
    state = run_kernel(case, record_batches=True)
    for index, replica in enumerate(state.replicas):
        log = iterations_of(state, index)
        assert (log["used_blocks"] <= case.config.num_usable_blocks).all()
        # Every request in a batch holds a block, and the decodes hold those that they read.
        assert (log["used_blocks"] >= log["num_sequences"]).all()
        assert (log["used_blocks"].astype(int) * case.config.block_size >= log["decode_kv"]).all()
        assert replica.peak_blocks == max(log["used_blocks"], default=0)


@over_all_cases
@given(cases())
def test_i3_nothing_is_left_at_the_end(case: Case):
    state = run_kernel(case)
    empty = ("outstanding", "num_running", "num_decodes", "num_prefills", "decode_kv", "in_flight", "num_in_flight")
    empty += ("num_fresh", "num_benched", "running_tokens", "running_blocks")
    ends = ("waiting_head", "waiting_tail", "running_head", "running_tail")
    for replica in state.replicas:
        assert replica.free_blocks == replica.num_blocks == case.config.num_usable_blocks
        assert [replica[name] for name in empty] == [0] * len(empty)
        assert [replica[name] for name in ends] == [NONE] * len(ends)
        for slot in range(case.config.num_stages + 1 if case.config.num_stages > 1 else 1):
            begin = replica.slots + slot * replica.slot_size + HEADER
            crossings = begin + replica.calendar_mask + 1
            assert (state.integers[begin:crossings] == NONE).all()
            assert (state.integers[crossings : crossings + replica.block_size] == 0).all()


@over_all_cases
@given(cases())
def test_i3_peak_use_stays_within_the_pool_without_a_log_too(case: Case):
    state = run_kernel(case)
    assert (state.replicas["peak_blocks"] <= case.config.num_usable_blocks).all()
    # No request can run on fewer blocks than its last token needs.
    needed = max(-(-(prompt + output - 1) // case.config.block_size) for _, prompt, output in case.requests)
    assert state.replicas["peak_blocks"].max() >= needed


@over_all_cases
@given(cases(max_requests=20))
def test_i4_iterations_do_not_overlap(case: Case):
    state = run_kernel(case, record_batches=True)
    for index, replica in enumerate(state.replicas):
        log = iterations_of(state, index)
        assert replica.iteration == len(log)
        assert (log["start_s"] < log["end_s"]).all()
        assert replica.clock_s == max(log["end_s"], default=0.0)
        stages = [stage_runs_of(state, index, stage) for stage in range(case.config.num_stages)]
        for runs in stages:
            assert all(before.end_s <= after.start_s for before, after in pairwise(runs))
        for before, after in pairwise(stages):
            assert (before["end_s"] <= after["start_s"]).all()


@over_all_cases
@given(cases())
def test_i4_a_replica_is_not_busy_for_longer_than_its_clock_ran(case: Case):
    state = run_kernel(case)
    for index, replica in enumerate(state.replicas):
        requests = requests_of(state, index)
        if len(requests) == 0:
            assert (replica.clock_s, replica.busy_s) == (0.0, 0.0)
        else:
            assert replica.clock_s == requests["completed_s"].max()
            span_s = (replica.clock_s - requests["arrival_s"][0]) * (1 + 1e-9)
            assert replica.active_s <= span_s
            assert replica.busy_s <= case.config.num_stages * replica.active_s * (1 + 1e-9)
            stages = state.stages[index * case.config.num_stages :][: case.config.num_stages]
            assert stages["busy_s"].sum() == pytest.approx(replica.busy_s, rel=1e-9)


@over_all_cases
@given(cases())
def test_i5_causes_come_before_effects(case: Case):
    requests = run_kernel(case).requests
    assert (requests["arrival_s"] <= requests["scheduled_s"]).all()
    assert (requests["scheduled_s"] < requests["first_token_s"]).all()
    several = requests["output_tokens"] > 1
    assert (requests["first_token_s"][several] < requests["completed_s"][several]).all()
    assert (requests["first_token_s"][~several] == requests["completed_s"][~several]).all()


def bits(state: State) -> list[bytes]:
    """Everything that a run reads and changes."""
    return [table.tobytes() for table in state]


@settings(max_examples=max(1, EXAMPLES // 10))
@given(st.lists(cases(), min_size=4, max_size=8))
def test_i6_the_same_inputs_give_the_same_bits_on_any_thread(some: list[Case]):
    alone = [bits(run_kernel(case)) for case in some]
    assert [bits(run_kernel(case)) for case in some] == alone
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda case: bits(run_kernel(case)), some + some[::-1]))
    assert together == alone + alone[::-1]


@over_all_cases
@given(cases(orders=("fcfs",)))
def test_i7_first_come_is_first_scheduled(case: Case):
    state = run_kernel(case)
    for index in range(case.config.replicas):
        scheduled_s = requests_of(state, index)["scheduled_s"]
        assert (scheduled_s[:-1] <= scheduled_s[1:]).all()


@over_all_cases
@given(cases(max_requests=20))
def test_i8_a_replica_idles_only_without_work(case: Case):
    state = run_kernel(case, record_batches=True)
    for index in range(case.config.replicas):
        requests = requests_of(state, index)
        idle_from_s = 0.0
        for iteration in iterations_of(state, index):
            assert iteration.num_sequences > 0
            if iteration.start_s > idle_from_s:
                unfinished = (requests["arrival_s"] < iteration.start_s) & (requests["completed_s"] > idle_from_s)
                assert not unfinished.any()
                assert iteration.start_s in requests["arrival_s"]
            idle_from_s = max(idle_from_s, iteration.end_s)


@over_all_cases
@given(cases())
def test_i9_iterations_are_bounded_by_the_tokens(case: Case):
    state = run_kernel(case)
    for index, replica in enumerate(state.replicas):
        requests = requests_of(state, index)
        if replica.preemptions == 0:
            assert replica.iteration <= tokens_to_compute(requests)
        # Between two completions, docs/policies.md section 8.
        whole = int((requests["prompt_tokens"].astype(int) + requests["output_tokens"]).sum())
        assert replica.iteration <= len(requests) * case.config.num_stages * whole**2


def form_no_batch(requests, replica, integers):
    """A broken batch policy: it admits nobody."""
    return 0


@settings(max_examples=max(1, EXAMPLES // 10))
@given(cases())
def test_i9_a_run_without_progress_ends(case: Case):
    state, tables = prepare_kernel(case)
    _, router = policies("vllm_v1:schedule", f"routing:{case.config.router}")
    broken = form_no_batch if DISABLED else jit(SCHEDULE)(form_no_batch)
    assert kernel.run(state, tables, (broken, router)) == NO_PROGRESS
