"""Parity: the compiled loop repeats the plain-Python reference, and the real Vidur, to the last bit."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import event, given, settings
from parity_cases import GRANULARITY, ParityCase, operators, parity_cases, product_config, product_tables
from plain_tables import plain_tables
from reference.config import ReferenceConfig
from reference.vidur import simulate_vidur
from reference.vidur_results import VidurResult

from estimators.vidur_tables import OperatorTables
from fastsim import ConfigError, SimulationConfig, Workload, simulate, simulate_many
from fastsim.kernel.vidur.evicting import schedule_sarathi
from fastsim.kernel.vidur.lists import append
from fastsim.kernel.vidur.members import take
from fastsim.kernel.vidur.state import RUNNING, WAITING, State
from fastsim.profiled_range import ProfiledRangeWarning
from fastsim.vidur import prepare
from fastsim.vidur.memory import VidurMemory
from fastsim.vidur.simulate import run_parity, simulate_parity

#: Fields of our records and of the reference's requests.
FIELDS = {
    "scheduled_s": "scheduled_s",
    "first_token_s": "first_token_s",
    "completed_s": "completed_s",
    "execution_s": "execution_s",
    "model_execution_s": "model_execution_s",
    "preempted_s": "preempted_s",
    "restarts": "preemptions",
    "prefill": "prefill_tokens",
    "processed": "processed_tokens",
}
STAGES = {
    "batch": "batch",
    "replica": "replica",
    "stage": "stage",
    "formed_s": "formed_s",
    "start_s": "start_s",
    "end_s": "end_s",
    "total_s": "total_s",
    "model_s": "model_s",
    "num_sequences": "num_requests",
    "num_tokens": "num_tokens",
    "num_chunks": "num_chunks",
    "num_decodes": "num_decodes",
    "decode_kv": "decode_kv",
    "prefill_kv": "prefill_kv",
    "prefill_chunk": "prefill_chunk",
    "used_blocks": "blocks_used",
}


def workload(requests: list[tuple[float, int, int]]) -> Workload:
    return Workload.from_arrays(*zip(*requests, strict=True))


def run(case: ParityCase) -> tuple[VidurResult | None, State | None]:
    """Both runs; None where a run ends as Vidur dies."""
    order = np.argsort([arrival_s for arrival_s, *_ in case.requests], kind="stable")
    requests = [case.requests[i] for i in order]
    choices = [case.reference.router_choices[i] for i in order] if case.config.router == "random" else None
    try:
        theirs = simulate_vidur(case.requests, case.reference_tables, case.reference)
    except (ValueError, AssertionError):
        theirs = None
    try:
        ours = run_parity(case.config, workload(requests), case.tables, choices)
    except ConfigError:
        ours = None
    return theirs, ours


@settings(max_examples=500)
@given(parity_cases())
def test_the_kernel_repeats_the_reference_to_the_last_bit(case: ParityCase):
    theirs, ours = run(case)
    assert (theirs is None) == (ours is None)
    if theirs is None or ours is None:
        event("Vidur dies")
        return
    event(f"{case.config.scheduler}, {'restarts' if ours.work.requests['restarts'].any() else 'no restarts'}")
    # Our requests are sorted by arrival.
    requests = sorted(theirs.requests, key=lambda request: request.arrival_s)
    for ours_name, theirs_name in FIELDS.items():
        expected = [getattr(request, theirs_name) or 0 for request in requests]
        assert ours.work.requests[ours_name].tolist() == expected, ours_name
    scheduled = ours.work.requests["scheduled"] == 1
    assert np.where(scheduled, ours.work.requests["replica"], -1).tolist() == [
        -1 if request.scheduled_s is None else request.replica for request in requests
    ]
    cluster = ours.cluster[0]
    assert (cluster["num_batches"], cluster["num_events"]) == (theirs.num_batches, theirs.num_events)
    log = ours.log[: cluster["num_stage_runs"]]
    for ours_name, theirs_name in STAGES.items():
        assert log[ours_name].tolist() == [getattr(stage, theirs_name) for stage in theirs.stages], ours_name


def test_prefills_under_way_and_the_cap_of_a_micro_batch():
    """Oddity 13: room for one in a micro-batch, two prefills under way; a cap once passed admits the third, too."""
    config = product_config(ReferenceConfig(100, 1, 3, 4, batch_policy="sarathi", num_stages=3))
    memory = VidurMemory(9, 100, 0, 9, 9)
    work = workload([(0.0, 5, 1), (0.0, 5, 1), (0.0, 2, 1)])
    state = prepare.new_state(config, work, memory, np.zeros(3, np.int64), num_layers=32, prefill_factor=1.0)
    requests, batches, queues, _ = state.work
    replica, batch = state.replicas[0], batches[0]
    for i in (0, 1):
        requests[i].processed = 4
        take(replica, requests[i], 5)
        append(requests, queues, RUNNING, i)
    append(requests, queues, WAITING, 2)
    schedule_sarathi(state.work, replica, batch)
    assert queues[batch.members].length == 3
    assert requests["tokens"].tolist() == [1, 1, 2]


def test_the_log_grows_within_a_run(monkeypatch: pytest.MonkeyPatch):
    config = product_config(ReferenceConfig(num_usable_blocks=50, batch_policy="sarathi", num_stages=2, max_num_seqs=4))
    work = workload([(0.0, 8, 5)] * 6)
    long = simulate(config, work, product_tables(False)).batches
    monkeypatch.setattr(prepare, "_FIRST_LOG_ROWS", 1)
    short = simulate(config, work, product_tables(False)).batches
    assert long.height > 2
    assert short.equals(long)


def test_a_result_has_the_columns_of_any_result_and_vidurs():
    config = product_config(ReferenceConfig(9, 2, 4, batch_policy="sarathi", max_model_len=24))
    work = workload([(0.0, 8, 5), (0.0, 6, 1), (0.1, 6, 9)])
    result = simulate(config, work, product_tables(False))
    ours = simulate(SimulationConfig(), Workload.generate(num_requests=5, qps=1))
    assert set(result.summary) == set(ours.summary)
    assert set(result.summary["metrics"]) == set(ours.summary["metrics"])
    frame = result.requests
    assert set(frame.columns) - set(ours.requests.columns) == {
        "execution_time_s",
        "model_execution_time_s",
        "preempted_time_s",
        "final_prompt_tokens",
        "final_output_tokens",
        "processed_tokens",
    }
    assert frame["prompt_tokens"].to_list() == [8, 6, 6]
    assert frame["preemptions"].sum() == result.summary["metrics"]["preemptions"] > 0
    restarted = frame.filter(pl.col("preemptions") > 0)
    assert (restarted["final_prompt_tokens"] != restarted["prompt_tokens"]).all()
    final = frame["final_prompt_tokens"] + frame["final_output_tokens"]
    assert (final == work.prompt_tokens + work.output_tokens).all()
    assert frame["tpot_s"].null_count() == 1
    assert result.batches["num_tokens"].sum() == (
        result.summary["replicas"][0]["prefill_tokens"] + result.summary["replicas"][0]["decode_tokens"]
    )
    # Gaps between tokens add up to the time from first token to last, restarts included.
    gaps = (frame["completed_s"] - frame["first_token_s"]).sum()
    assert result.summary["metrics"]["tbt_s"]["mean"] == pytest.approx(gaps / (5 + 1 + 9 - 3), rel=1e-9)


def test_a_time_limit_leaves_nulls():
    config = product_config(ReferenceConfig(num_usable_blocks=50, batch_policy="vllm_v0", time_limit_s=3.0))
    result = simulate(config, workload([(0.0, 8, 2), (0.0, 8, 16), (9.0, 8, 2)]), product_tables(False))
    frame = result.requests
    assert result.summary["simulation"]["requests"] == 3
    assert result.summary["simulation"]["completed"] == frame["completed_s"].is_not_null().sum() < 3
    assert frame["scheduled_s"].is_null().to_list() == [False, False, True]
    assert not any(frame[name].is_nan().any() for name in frame.columns if frame[name].dtype.is_float())
    early = config.with_fields(parity_options=config.parity_options | {"time_limit_s": 1e-6})
    with pytest.raises(ConfigError, match="time_limit_s 1e-06 comes before any request completes"):
        simulate(early, workload([(0.0, 8, 5)]), product_tables(False))


def test_the_random_router_draws_from_the_seed():
    config = product_config(ReferenceConfig(num_usable_blocks=50, batch_policy="vllm_v0", router="random", replicas=3))
    work = workload([(i, 8, 2) for i in range(300)])
    first, second = simulate_many([config, config], work, tables=[product_tables(False)] * 2)
    assert first.requests.equals(second.requests)
    assert np.bincount(first.requests["replica"]).min() > 60
    other = simulate(config.with_fields(seed=1), work, product_tables(False))
    assert not other.requests["replica"].equals(first.requests["replica"])
    with pytest.raises(ConfigError, match="choices are not 300 replicas; give 300 numbers from 0 to 2"):
        simulate_parity(config, work, product_tables(False), [3] * 300)


def test_classes_and_sessions_pass_through():
    config = product_config(ReferenceConfig(num_usable_blocks=50, batch_policy="vllm_v0"))
    requests = [(i, 8, 2) for i in range(4)]
    plain = simulate(config, workload(requests), product_tables(False))
    assert not {"request_class", "session"} & set(plain.requests.columns)
    more = {"request_class": [1, 0, 1, 1], "session": [-1, 5, 5, -1]}
    classed = simulate(config, Workload.from_arrays(*zip(*requests, strict=True), **more), product_tables(False))
    assert {name: classed.requests[name].to_list() for name in more} == more
    assert {name: of_one["requests"] for name, of_one in classed.summary["classes"].items()} == {"0": 1, "1": 3}


def refusal(config: SimulationConfig, requests: list[tuple[float, int, int]], tables: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        simulate(config, workload(requests), tables)
    assert str(caught.value).endswith(".")
    return str(caught.value)


def test_a_run_that_leaves_requests_is_refused():
    config = product_config(ReferenceConfig(num_usable_blocks=4, batch_policy="vllm_v0", block_size=2))
    sentence = refusal(config, [(0.0, 2, 1), (0.0, 9, 1)], product_tables(False))
    assert "scheduler 'vllm_v0' ends under Vidur's rules with 1 of 2 requests unfinished" in sentence


def test_blocks_that_are_never_freed_are_refused():
    """Oddity 5: a member of a group that finishes early."""
    config = product_config(ReferenceConfig(num_usable_blocks=50, batch_policy="faster_transformer", max_model_len=16))
    sentence = refusal(config, [(0.0, 4, 1), (0.0, 4, 3)], product_tables(False))
    assert "with 0 of 2 requests unfinished and KV blocks of 1 never freed, of which Vidur dies" in sentence


@pytest.mark.parametrize(
    ("policy", "requests", "words"),
    [
        ("orca", [(0.0, 20, 1)] * 20, "no entry 400 of attn_pre_proj, which a batch of 20 requests and 400 tokens"),
        ("orca", [(0.0, 1, 3)] * 13, "no entry (13, 4) of attn_decode, which a batch of 13 requests and 13 tokens"),
        ("sarathi", [(0.0, 97, 1)], "no entry (0, 9409) of attn_prefill"),
    ],
)
def test_a_batch_beyond_the_tables_is_refused(policy: str, requests: list[tuple[float, int, int]], words: str):
    """Oddity 11, with the operator and the key."""
    config = product_config(ReferenceConfig(num_usable_blocks=500, batch_policy=policy, max_model_len=128))
    assert words in refusal(config, requests, product_tables(False))


def test_a_run_without_progress_ends(monkeypatch: pytest.MonkeyPatch):
    """Nobody has seen one; here a request of 20 outputs counts as one."""
    monkeypatch.setattr(prepare, "_MOST_ITERATIONS", 5)
    config = product_config(ReferenceConfig(num_usable_blocks=50, batch_policy="sarathi"))
    assert simulate(config, workload([(0.0, 4, 6)]), product_tables(False)).requests.height == 1
    assert "restarts requests for ever under Vidur's rules" in refusal(config, [(0.0, 4, 20)], product_tables(False))


def test_requests_of_the_host_are_a_key_too():
    config = product_config(ReferenceConfig(num_usable_blocks=500, batch_policy="orca", max_model_len=8))
    assert "no entry 13 of schedule" in refusal(config, [(0.0, 1, 1)] * 13, product_tables(True))


def test_tables_must_fit_the_configuration():
    config = product_config(ReferenceConfig(num_usable_blocks=50, batch_policy="sarathi"))
    one = [(0.0, 8, 2)]
    coarse = config.with_fields(parity_options={"kv_cache_prediction_granularity": 64})
    assert f"is not that of the tables, {GRANULARITY}" in refusal(coarse, one, product_tables(False))
    lacking = {name: table for name, table in operators().items() if name != "all_reduce"}
    tables = OperatorTables.from_operators(lacking, kv_granularity=GRANULARITY)
    assert simulate(config, workload(one), tables).requests.height == 1
    sentence = refusal(config.with_fields(tensor_parallel=2), one, tables)
    assert sentence == "tables lack the operator all_reduce; take tables made for this model and tp."


def test_each_kind_of_tables_belongs_to_its_rules():
    config = product_config(ReferenceConfig(num_usable_blocks=50, batch_policy="sarathi"))
    plain = SimulationConfig(num_kv_blocks=100)
    assert "tables are of whole iterations" in refusal(config, [(0.0, 8, 2)], plain_tables(plain, 1.0))
    assert "tables are by operator" in refusal(plain, [(0.0, 8, 2)], product_tables(False))


def test_parity_takes_no_functions_of_ones_own():
    config = product_config(ReferenceConfig(num_usable_blocks=50, batch_policy="sarathi"))
    with pytest.raises(ConfigError, match="takes no functions of your own"):
        simulate(config, workload([(0.0, 8, 2)]), product_tables(False), router=len)


def test_tables_of_our_own_estimators():
    config = SimulationConfig(parity="vidur", scheduler="sarathi", pipeline_parallel=2, max_model_len=4096)
    work = Workload.generate(num_requests=200, qps=20, max_total_tokens=4096)
    result = simulate(config, work)
    assert result.summary["simulation"]["completed"] == 200
    assert result.summary["estimates"]["source"] == "operator estimators, composed as Vidur does"
    # Vidur knows no embedding, LM head or sampling, and adds what it costs to send: of the same order all the same.
    ours = simulate(config.with_fields(parity=None, parity_options={}, pipeline_parallel=1), work)
    ratio = result.summary["metrics"]["tpot_s"]["p50"] / ours.summary["metrics"]["tpot_s"]["p50"]
    assert 0.7 < ratio < 1.5


def test_times_outside_the_profiles_are_warned_about():
    config = SimulationConfig(parity="vidur", scheduler="sarathi", model="microsoft/phi-2", max_model_len=2048)
    with pytest.warns(ProfiledRangeWarning, match="key/value heads per GPU 32") as caught:
        simulate(config, workload([(0.0, 8, 2)]))
    assert caught[-1].filename == __file__
