"""Data-parallel engines: the kernel equals the reference simulator to the last bit."""

import pytest
from comparisons import assert_equal
from hypothesis import Phase, find, given, settings
from kernel_cases import Case, cases, run_kernel
from reference.simulate import simulate as reference_simulate
from reference_tests.feature_cases import ENGINES, FEATURES

from fastsim.kernel.jit import DISABLED

EXAMPLES = 60 if DISABLED else 600
ENGINE_CASES = cases(policies=("vllm_v1",), stages=(1,), features=(*FEATURES, ENGINES))


@settings(max_examples=EXAMPLES)
@given(ENGINE_CASES)
def test_engines_equal_the_reference(case: Case):
    assert_equal(case, run_kernel(case), reference_simulate(case.requests, case.tables, case.config))


@settings(max_examples=EXAMPLES // 4)
@given(ENGINE_CASES)
def test_every_batch_of_every_engine_equals_the_reference(case: Case):
    state = run_kernel(case, record_batches=True)
    log = state.batches[: state.cluster[0].num_batches]
    expected = reference_simulate(case.requests, case.tables, case.config)
    names = ("start_s", "end_s", "num_tokens", "num_sequences", "num_decodes", "decode_kv")
    for engine, result in enumerate(expected.replicas):
        rows = log[log["replica"] == engine]
        assert len(rows) == len(result.batches)
        for row, batch in zip(rows, result.batches, strict=True):
            assert [row[name] for name in names] == [getattr(batch, name) for name in names]
            assert (row.used_blocks, row.preempted) == (batch.blocks_used, len(batch.preempted))


#: What the cases must reach, or the properties above would say little.
CORNERS = {
    "rounds formed ahead": lambda config, in_lockstep: in_lockstep and config.is_asynchronous,
    "synchronous rounds": lambda config, in_lockstep: in_lockstep and not config.is_asynchronous,
    "padded rounds": lambda config, in_lockstep: in_lockstep and len(config.capture_sizes) > 0,
    "rounds with a prefix cache": lambda config, in_lockstep: in_lockstep and config.enable_prefix_caching,
    "rounds that swap": lambda config, in_lockstep: in_lockstep and config.preemption_mode == "swap",
    "three dense engines": lambda config, in_lockstep: not in_lockstep and config.data_parallel == 3,
    "several replicas of engines": lambda config, _: config.data_parallel > 1 < config.replicas,
}


@pytest.mark.filterwarnings("ignore:Generating overly large repr")
@pytest.mark.parametrize("corner", CORNERS)
def test_cases_reach(corner: str):
    find(
        ENGINE_CASES,
        lambda case: CORNERS[corner](case.config, case.stage_tables[0].expert is not None),
        settings=settings(max_examples=1000, phases=[Phase.generate]),
    )
