"""Sums over time: the kernel's bins equal the reference's, and recording changes nothing."""

from dataclasses import replace

import numpy as np
import pytest
from comparisons import assert_equal
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import Case, cases, client_requests, run_kernel
from plain_tables import plain_config, plain_tables
from reference.results import ReferenceResult
from reference.series import NAMES, series
from reference.simulate import simulate as reference_simulate
from reference_tests.feature_cases import ENGINES, FEATURES
from simulate_calls import run, some_workload

import fastsim
from fastsim import ConfigError, SimulationConfig, Workload
from fastsim.kernel.jit import DISABLED
from fastsim.kernel.prepare_series import histograms, sums_at_edges
from fastsim.kernel.state import State
from fastsim.kernel.visits import CHUNK_TOKENS, DECODES, DECODES_ALONE, SEQUENCES, TOKENS
from fastsim.series import record_bins

EXAMPLES = 60 if DISABLED else 600


def assert_series_equal(case: Case) -> None:
    """Every sum in every bin, up to rounding: the kernel takes differences of running sums; and the rest."""
    state = run_kernel(case)
    result = reference_simulate(case.requests, case.tables, case.config)
    assert_visits_equal(state, result)
    assert_equal(case, state, result)
    expected = result.replicas
    edges, sums = sums_at_edges(state, float(state.replicas["clock_s"].max()))
    assert len(edges) - 1 <= case.record_bins
    for engine, result in enumerate(expected):
        want = series(result, case.config, edges.tolist()).sums
        for name in NAMES:
            tolerance = 1e-9 * max(1.0, sum(want[name]))
            assert np.diff(sums[name][engine]) == pytest.approx(want[name], rel=0, abs=tolerance), name


def assert_visits_equal(state: State, result: ReferenceResult) -> None:
    """How many batches had each number of requests and tokens, and, up to rounding, their seconds."""
    expected = [[np.zeros(len(of_one)) for of_one in pair] for pair in histograms(state)]
    for batch in result.batches:
        begin_s, end_s = batch.stage_times[0] if batch.stage_times else (batch.start_s, batch.end_s)
        numbers = {DECODES_ALONE: batch.num_decodes}
        if batch.chunks:
            numbers = {SEQUENCES: batch.num_sequences, DECODES: batch.num_decodes, TOKENS: batch.num_tokens}
            numbers[CHUNK_TOKENS] = batch.num_tokens - batch.num_decodes
        for histogram, number in numbers.items():
            expected[histogram][0][number] += 1
            expected[histogram][1][number] += end_s - begin_s
    for got, want in zip(histograms(state), expected, strict=True):
        assert np.array_equal(got[0], want[0])
        assert got[1] == pytest.approx(want[1], rel=1e-9, abs=1e-9 * max(1.0, want[1].sum()))


recorded = st.sampled_from([2, 8, 64])


@settings(max_examples=EXAMPLES)
@given(cases(), recorded)
def test_bins_equal_the_reference(case: Case, record_bins: int):
    assert_series_equal(replace(case, record_bins=record_bins))


@settings(max_examples=EXAMPLES // 2)
@given(cases(features=FEATURES), recorded)
def test_bins_equal_the_reference_with_clients_and_engines(case: Case, record_bins: int):
    assert_series_equal(replace(case, record_bins=record_bins))


@settings(max_examples=EXAMPLES // 2)
@given(cases(policies=("vllm_v1",), stages=(1,), features=(*FEATURES, ENGINES)), recorded)
def test_bins_of_data_parallel_engines_equal_the_reference(case: Case, record_bins: int):
    assert_series_equal(replace(case, record_bins=record_bins))


def outcome(case: Case, state: State) -> list[bytes]:
    """What a run says but for what is recorded."""
    totals = ("clock_s", "iteration", "busy_s", "active_s", "tbt_sum_s", "block_seconds", "running_seconds")
    return [client_requests(case, state).tobytes(), *(state.replicas[name].tobytes() for name in totals)]


@settings(max_examples=EXAMPLES // 4)
@given(cases(features=FEATURES))
def test_recording_changes_nothing(case: Case):
    plain, recorded = replace(case, record_bins=0), replace(case, record_bins=8)
    assert outcome(case, run_kernel(plain)) == outcome(case, run_kernel(recorded))


def test_a_time_series_of_one_request():
    # Ten prompt tokens in one iteration of a second, then three decodes of a second each.
    config = plain_config(4, 64, record_metrics=True)
    result = fastsim.simulate(config, Workload.from_arrays([3.0], [10], [4]), plain_tables(config, 1.0))
    frame = result.timeseries
    width_s = frame["end_s"][0] - frame["start_s"][0]
    assert (width_s, frame.height, frame["start_s"][0]) == (2.0**-7, 512, 3.0)
    assert frame["utilization"].to_list() == [1.0] * 512
    assert frame["prefill_tokens_per_s"].to_list() == [10.0] * 128 + [0.0] * 384
    assert frame["decode_tokens_per_s"].to_list() == [0.0] * 128 + [1.0] * 384
    assert frame["kv_use_mean"].to_list() == [1 / 256] * 512
    assert [frame[name].arg_max() for name in ("arrivals", "first_tokens", "completions")] == [0, 128, 511]
    assert frame["completed_output_tokens"].sum() == 4
    assert (frame["queue_mean"].sum(), frame["outstanding_mean"].to_list()) == (0.0, [1.0] * 512)


def test_a_time_series_adds_up_to_the_summary():
    result = run(some_workload(400, qps=60.0), record_metrics=True, replicas=2)
    frame, requests = result.timeseries, result.requests
    seconds = frame["end_s"] - frame["start_s"]
    for number, replica in enumerate(result.summary["replicas"]):
        own = frame["replica"] == number
        for name in ("iterations", "prefill_tokens", "decode_tokens"):
            assert (frame[f"{name}_per_s"] * seconds).filter(own).sum() == pytest.approx(replica[name])
        assert (frame["utilization"] * seconds).filter(own).sum() == pytest.approx(replica["busy_s"])
        assert (frame["running_mean"] * seconds).filter(own).sum() == pytest.approx(
            replica["batch_size_mean"] * replica["active_s"]
        )
        assert frame["completions"].filter(own).sum() == replica["requests"]
    assert (frame["outstanding_mean"] * seconds).sum() == pytest.approx(requests["e2e_s"].sum())
    assert (frame["queue_mean"] * seconds).sum() == pytest.approx(requests["scheduling_delay_s"].sum(), abs=1e-6)
    assert frame["completed_output_tokens"].sum() == requests["output_tokens"].sum()


def test_engines_have_rows_of_their_own():
    frame = run(some_workload(100), record_metrics=True, data_parallel=2, replicas=2).timeseries
    assert frame.select("replica", "engine").unique().height == 4


def test_nothing_is_recorded_unless_asked():
    assert run().timeseries is None


@pytest.mark.parametrize(("replicas", "bins"), [(1, 512), (100_000, 4)])
def test_memory_is_bounded(replicas: int, bins: int):
    assert record_bins(SimulationConfig(record_metrics=True, replicas=replicas)) == bins


def test_vidurs_rules_record_nothing():
    with pytest.raises(ConfigError, match=r"record_metrics .* parity"):
        SimulationConfig(record_metrics=True, parity="vidur", scheduler="vllm_v0")
