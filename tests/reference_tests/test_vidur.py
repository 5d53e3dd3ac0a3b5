"""Parity without the golden runs: where Vidur's oddities show, and that nothing else sets parity apart."""

from collections import defaultdict
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from reference.config import ReferenceConfig
from reference.requests import Request
from reference.sarathi import Sarathi
from reference.simulate import simulate
from reference.vidur import simulate_vidur
from reference.vidur_routing import Lor
from reference.vidur_tables import VidurTables
from reference_tests.policy_cases import CONSTANT, PAPER_POLICIES, Case, cases

ONE_LAYER_OPERATORS = (
    "attn_pre_proj",
    "attn_post_proj",
    "attn_rope",
    "attn_kv_cache_save",
    "attn_decode",
    "attn_prefill",
    "input_layernorm",
    "mlp_up_proj",
    "mlp_down_proj",
    "mlp_act",
    "post_attention_layernorm",
    "add",
)


def vidur_tables(milliseconds: dict[str, float], **options: Any) -> VidurTables:
    """The same time for every key of an operator; the others cost nothing."""
    constants = {
        "num_layers": 1,
        "tensor_parallel": 1,
        "grouped_query_attention": False,
        "post_attention_norm": True,
        "decode_overhead_fraction": 0.1,
        "prefill_overhead_fraction": 0.1,
        "launch_overhead_ms": 0.0,
        "skew_overhead_per_device_ms": 0.0,
        "kv_granularity": 64,
    }
    known = dict.fromkeys((*ONE_LAYER_OPERATORS, "all_reduce", "send_recv"), 0.0) | milliseconds
    operators = {name: defaultdict(lambda ms=ms: ms) for name, ms in known.items()}
    return VidurTables(operators=operators, **{**constants, **options})


ONE_SECOND = vidur_tables({"add": 1000.0})


def config(**options: Any) -> ReferenceConfig:
    """Sarathi under parity, roomy except where the options say otherwise."""
    sizes = {
        "batch_policy": "sarathi",
        "parity": "vidur",
        "num_usable_blocks": 100,
        "block_size": 1,
        "max_num_seqs": 8,
        "max_num_batched_tokens": 64,
        "watermark_blocks_fraction": 0.0,
    }
    return ReferenceConfig(**{**sizes, **options})


@settings(max_examples=300)
@given(cases(PAPER_POLICIES, max_stages=1, orders=("fcfs",), modes=("recompute",)), st.permutations(range(12)))
def test_parity_equals_the_engine_where_no_oddity_shows(case: Case, offsets: list[int]) -> None:
    """One stage, no two arrivals at once, no prefill cut short by a restart, whole blocks, groups that end together."""
    config, requests = case
    config = replace(config, router=config.router if config.router in ("round_robin", "random") else "round_robin")
    if config.batch_policy in ("orca", "faster_transformer"):
        assume(config.max_model_len % config.block_size == 0)
    if config.batch_policy == "faster_transformer":
        requests = [(arrival_s, 1, config.max_model_len - 1) for arrival_s, _, _ in requests]
    requests = [
        (arrival_s + offset / 128, *sizes) for (arrival_s, *sizes), offset in zip(requests, offsets, strict=False)
    ]
    theirs = simulate_vidur(requests, ONE_SECOND, replace(config, parity="vidur"))
    assume([request.prompt_tokens for request in theirs.requests] == [prompt for _, prompt, _ in requests])
    # What the random router drew is given in the order of arrival here, and there in that of the input.
    order = sorted(range(len(requests)), key=lambda i: requests[i])
    ours = simulate(requests, CONSTANT, replace(config, router_choices=tuple(config.router_choices[i] for i in order)))
    for their, our in zip(theirs.requests, ours.requests, strict=True):
        assert (their.replica, their.scheduled_s, their.first_token_s, their.completed_s, their.preemptions) == (
            our.replica,
            our.scheduled_s,
            our.first_token_s,
            our.completed_s,
            our.preemptions,
        )
    assert theirs.num_events == 6 * len(ours.batches) + 3 * len(requests)


@settings(max_examples=300)
@given(cases(("vllm_v0",), orders=("fcfs",), modes=("recompute",)), st.permutations(range(12)))
def test_parity_equals_the_engine_with_stages(case: Case, offsets: list[int]) -> None:
    """vllm_v0 sorts before it decodes, so with stages only arrivals that meet the end of a micro-batch differ."""
    config, requests = case
    links_s = (0.25,) * (config.num_stages - 1) + (0.0,)
    config = replace(config, router="round_robin", send_latency_s=links_s, send_s_per_token=())
    requests = [
        (arrival_s + offset / 128, *sizes) for (arrival_s, *sizes), offset in zip(requests, offsets, strict=False)
    ]
    tables = vidur_tables({"add": 1000.0, "send_recv": 250.0})
    theirs = simulate_vidur(requests, tables, replace(config, parity="vidur"))
    ours = simulate(requests, CONSTANT, config)
    ends = {end_s for replica in ours.replicas for batch in replica.batches for _, end_s in batch.stage_times}
    assume(not ends & {arrival_s for arrival_s, _, _ in requests})
    for their, our in zip(theirs.requests, ours.requests, strict=True):
        assert (their.scheduled_s, their.first_token_s, their.completed_s) == (
            our.scheduled_s,
            our.first_token_s,
            our.completed_s,
        )


def test_composition_of_a_layer() -> None:
    """Every term of VIDUR.md 4.12 once: GQA, two GPUs, two stages, CPU overhead."""
    tables = vidur_tables(
        {name: 2.0**power for power, name in enumerate(ONE_LAYER_OPERATORS)}
        | {"all_reduce": 0.5, "send_recv": 0.125}
        | dict.fromkeys(
            ("schedule", "sampler_e2e", "prepare_inputs_e2e", "process_model_outputs", "ray_comm_time"), 3.0
        ),
        tensor_parallel=2,
        launch_overhead_ms=0.25,
        num_layers=3,
        grouped_query_attention=True,
    )
    result = simulate_vidur([(0.0, 4, 2), (0.0, 5, 2)], tables, config(num_stages=2, max_num_seqs=4))
    # One micro-batch of two chunks, then one of two decodes: attention of the other kind is absent, its own gets 10 %.
    layer_ms = 2.0**12 - 1 + 2 * 0.75
    chunks_ms = layer_ms - 2**4 + 0.1 * 2**5
    decodes_ms = layer_ms - 2**5 + 0.1 * 2**4
    expected = [chunks_ms * 3 + 0.125, chunks_ms * 3, decodes_ms * 3 + 0.125, decodes_ms * 3]
    assert [stage.model_s for stage in result.stages] == pytest.approx([ms / 1000 for ms in expected], rel=1e-12)
    assert [stage.total_s - stage.model_s for stage in result.stages] == pytest.approx([0.015] * 4, rel=1e-9)


def test_attention_keys() -> None:
    """Mean cut to an integer, then rounded up to 64; chunks aggregate to one square, half to even."""
    result = simulate_vidur(
        [(0.0, 70, 3), (0.0, 60, 3), (1.5, 30, 1), (1.5, 40, 1)],
        vidur_tables({"add": 1000.0}),
        config(num_usable_blocks=1000, max_num_batched_tokens=60),
    )
    keys = [
        (stage.num_decodes, stage.decode_kv, stage.num_chunks, stage.prefill_kv, stage.prefill_chunk)
        for stage in result.stages
    ]
    assert keys[:3] == [(0, 0, 1, 0, 60), (0, 0, 2, 64, 51), (1, 128, 3, 64, 37)]


def test_time_limit_handles_one_event_more() -> None:
    """The run stops after the first event beyond the limit: here the end of the second batch's stage."""
    result = simulate_vidur([(0.0, 4, 5)], ONE_SECOND, config(time_limit_s=1.5))
    (request,) = result.requests
    assert (request.first_token_s, request.completed_s, request.execution_s) == (1.0, 0.0, 2.0)
    assert (request.processed_tokens, result.num_batches) == (5, 2)


def test_lor_counts_only_who_waits() -> None:
    """Oddity 4: replica 0 runs, nobody waits, so the next goes there too; the corrected router uses replica 1."""
    requests = [(0.0, 4, 5), (1.5, 4, 5)]
    theirs = simulate_vidur(requests, ONE_SECOND, config(router="lor", replicas=2))
    assert [request.replica for request in theirs.requests] == [0, 0]
    ours = simulate(requests, CONSTANT, config(parity=None, router="least_outstanding", replicas=2))
    assert [request.replica for request in ours.requests] == [0, 1]
    assert Lor(config()).assign([Request(i, 0.0, 1, 1) for i in range(5)], [2, 0, 1]) == [1, 1, 2, 0, 1]


def test_restart_of_a_partial_prefill() -> None:
    """Oddity 6: 3 of 8 prompt tokens are done when the block is needed; Vidur makes them the prompt, we keep 8."""
    requests = [(0.0, 4, 6), (0.0, 8, 2)]
    sizes = {"num_usable_blocks": 13, "max_num_batched_tokens": 4}
    theirs = simulate_vidur(requests, ONE_SECOND, config(**sizes)).requests[1]
    # So short a prompt is admitted again at once, and evicted again as a decode when both have grown.
    assert (theirs.preemptions, theirs.prompt_tokens, theirs.output_tokens) == (2, 3, 7)
    ours = simulate(requests, CONSTANT, config(parity=None, **sizes))
    assert (ours.requests[1].preemptions, len(ours.requests[1].token_times)) == (1, 2)
    assert sum(tokens for batch in ours.batches for name, tokens in batch.members if name == 1) == 3 + 8 + 1


@pytest.mark.parametrize(("parity", "tokens"), [("vidur", [1, 1, 2]), (None, [1])])
def test_prefills_under_way_and_the_micro_batch_cap(parity: str | None, tokens: list[int]) -> None:
    """Oddity 13: room for one in a micro-batch, two prefills under way; a cap once passed admits the third, too."""
    policy = Sarathi(config(parity=parity, max_num_seqs=3, num_stages=3, max_num_batched_tokens=4))
    in_flight = []
    for name in (0, 1):
        policy.add(Request(name, 0.0, 5, 1))
        in_flight.append(policy.schedule())
    for batch in in_flight:
        policy.process_outputs(batch)
    policy.add(Request(2, 0.0, 2, 1))
    assert [member.tokens for member in policy.schedule().members] == tokens


@pytest.mark.parametrize(("parity", "order"), [("vidur", [1, 0]), (None, [0, 1])])
def test_order_of_the_running_list(parity: str | None, order: list[int]) -> None:
    """Vidur's sarathi walks it in order of return from micro-batches, ours in order of arrival."""
    policy = Sarathi(config(parity=parity, max_num_seqs=2, num_stages=2, max_num_batched_tokens=4))
    in_flight = []
    for name in (0, 1):
        policy.add(Request(name, 0.0, 5, 1))
        in_flight.append(policy.schedule())
    for batch in reversed(in_flight):
        policy.process_outputs(batch)
    assert [request.request_id for request in policy.running] == order


def test_members_that_finish_early_leak() -> None:
    """Oddity 5: the blocks of the short request are never freed, so the third never starts."""
    requests = [(0.0, 4, 1), (0.0, 4, 3), (0.5, 4, 1)]
    sizes = {"batch_policy": "faster_transformer", "num_usable_blocks": 16, "max_model_len": 8, "max_num_seqs": 2}
    simulate_vidur([(0.0, 4, 3), (0.0, 4, 3), (0.5, 4, 3)], ONE_SECOND, config(**sizes))
    with pytest.raises(ValueError, match="left over"):
        simulate_vidur(requests, ONE_SECOND, config(**sizes))
    ours = simulate(requests, CONSTANT, config(parity=None, **sizes))
    assert [request.completed_s for request in ours.requests] == [1.0, 3.0, 4.0]


@pytest.mark.parametrize(
    ("request_", "options", "message"),
    [
        ((0.0, 65, 1), {"batch_policy": "vllm_v0"}, "may prefill 65 tokens at once"),
        ((0.0, 50, 16), {"batch_policy": "vllm_v0"}, "may prefill 65 tokens at once"),
        ((0.0, 65, 1), {"batch_policy": "lightllm"}, "prefills 65 tokens at once"),
        ((0.0, 60, 41), {"batch_policy": "lightllm"}, "needs 100 tokens of KV"),
        ((0.0, 91, 1), {"watermark_blocks_fraction": 0.1}, "needs 101 KV blocks, watermark included"),
        ((0.0, 60, 42), {}, "more KV than 100 blocks"),
    ],
)
def test_what_could_never_run_is_refused(request_: tuple[float, int, int], options: dict, message: str) -> None:
    """Oddity 15: Vidur blocks the replica for ever; we refuse before the run, and one token less runs."""
    with pytest.raises(ValueError, match=message):
        simulate([request_], CONSTANT, config(parity=None, **options))
    arrival_s, prompt, output = request_
    assert simulate([(arrival_s, prompt - 1, output)], CONSTANT, config(parity=None, **options)).requests
    if output == 1:
        with pytest.raises(ValueError, match="left over"):
            simulate_vidur([request_], ONE_SECOND, config(**options))


@pytest.mark.parametrize(("parity", "length"), [("vidur", 3), (None, 1)])
def test_cap_of_orca_with_stages(parity: str | None, length: int) -> None:
    """Oddity 14: per micro-batch in Vidur, per replica here."""
    sizes = {"batch_policy": "orca", "max_num_seqs": 3, "num_stages": 2, "max_model_len": 8, "parity": parity}
    requests = [(0.0, 4, 1)] * 3
    if parity is None:
        assert len(simulate(requests, CONSTANT, config(**sizes)).batches[0].members) == length
    else:
        assert simulate_vidur(requests, ONE_SECOND, config(**sizes)).stages[0].num_requests == length


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parity": "vidur2"}, "parity is 'vidur2'"),
        ({"parity": None, "router": "lor"}, "counts waiting requests only"),
        ({"parity": None, "max_num_seqs": 1, "num_stages": 2}, "max_num_seqs is 1, it must be at least num_stages"),
        ({"parity": None, "batch_policy": "lightllm", "block_size": 2}, "lightllm needs block_size 1"),
        ({"parity": None, "batch_policy": "orca", "max_model_len": 101}, "reserves 101 blocks"),
        ({"parity": None, "watermark_blocks_fraction": 1.0}, "watermark_blocks_fraction is 1.0"),
        ({"parity": None, "num_stages": 2, "send_latency_s": (-1.0, 0.0)}, "no entry must be < 0"),
        ({"parity": None, "num_stages": 2, "send_s_per_token": (0.0,)}, "one is needed for each of 2 stages"),
        ({"parity": None, "num_stages": 2, "send_latency_s": (1.0, 1.0)}, "the last stage sends nothing"),
    ],
)
def test_configurations_that_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**options)


def test_each_entry_refuses_the_others_configuration() -> None:
    with pytest.raises(ValueError, match="simulate_vidur"):
        simulate([(0.0, 1, 1)], CONSTANT, config())
    with pytest.raises(ValueError, match="parity is None"):
        simulate_vidur([(0.0, 1, 1)], ONE_SECOND, config(parity=None))
    with pytest.raises(ValueError, match="Vidur does not have it"):
        simulate_vidur([(0.0, 1, 1)], ONE_SECOND, config(batch_policy="vllm_v1"))
