"""Tables of models with experts, latent attention and windows."""

from dataclasses import replace

import numpy as np
import pytest
from model_specs import DEEPSEEK_V3, GEMMA_3, GPT_OSS, MIXTRAL
from roofline_estimators import LAUNCH, RooflineEstimators, build_small

from estimators.cache import cache_directory
from estimators.devices import load_device
from estimators.errors import EstimatorError
from estimators.expert_layout import ExpertLayout
from estimators.models import load_model
from estimators.operators import bandwidth_seconds, iteration_calls
from estimators.row_tables import Clock

DEVICE = load_device("h100_sxm")


def predict(operator, **columns):
    return float(
        RooflineEstimators().predict(operator, {name: np.array([value]) for name, value in columns.items()})[0]
    )


def seconds_of(calls, axis, rows):
    """All calls along an axis, by rows."""
    clock, total = Clock(DEVICE, dict.fromkeys(("bf16", "fp8_block", "mxfp4"), RooflineEstimators())), 0.0
    for call in calls:
        if call.axis == axis:
            total += call.count * float(clock.rows([(call, np.array([rows]))])[0][0])
    return total


# Experts


@pytest.mark.parametrize("model", [MIXTRAL, GPT_OSS, DEEPSEEK_V3], ids=lambda model: model.name)
@pytest.mark.parametrize("tokens", [1, 100, 2048])
def test_experts_are_in_the_token_table(model, tokens):
    tables = build_small(model=model, tp=8, dtype="auto")
    expected = seconds_of(iteration_calls(model, 8, "auto"), "tokens", tokens)
    assert tables.token_s[tokens] - tables.provenance["attention_launch_s"] == pytest.approx(expected, rel=1e-9)
    assert tables.expert is None
    shape = {"hidden": 4096, "inter": 1792, "topk": 2, "experts": 8, "local_experts": 8, "load": 120}
    if model is MIXTRAL:
        assert expected > 32 * predict("moe", tokens=tokens, **shape)


def test_engines_have_their_experts_in_a_table_of_their_own():
    alone = build_small(model=MIXTRAL, tp=2)
    shared = build_small(model=MIXTRAL, tp=2, data_parallel=4, expert_parallel=8)
    assert shared.expert == ExpertLayout(4 * 2048, 4)
    calls = iteration_calls(MIXTRAL, 2, data_parallel=4, expert_parallel=8)
    for tokens in (1, 5000, 8192):
        assert float(shared.expert_time_s(tokens)) == pytest.approx(seconds_of(calls, "engines", tokens), rel=1e-9)
    assert float(shared.expert_time_s(0)) == 0
    assert (shared.token_s[1:] < alone.token_s[1:]).all()
    for name in ("sequence_s", "decode_s", "prefill_s"):
        np.testing.assert_array_equal(getattr(shared, name), getattr(alone, name))
    assert shared.provenance["experts"]["data_parallel"] == 4
    assert shared.provenance["profiled"]["engines"] == [1, 65536]


def test_many_engines_are_evaluated_on_a_log_axis():
    known = RooflineEstimators()
    tables = build_small(known, model=MIXTRAL, data_parallel=64, expert_parallel=1, max_tokens=8192)
    assert tables.expert.max_tokens == 64 * 8192
    assert known.rows < 300_000


def test_a_model_without_experts_has_the_tables_of_one_engine():
    one, four = (build_small(data_parallel=count) for count in (1, 4))
    assert (four.expert, four.hash) == (None, one.hash)


def test_gpus_of_several_nodes_exchange_over_the_network():
    tables = build_small(model=MIXTRAL, tp=8, data_parallel=4)
    inside = build_small(model=MIXTRAL, tp=8, data_parallel=4, device=replace(DEVICE, gpus_per_node=64))
    assert tables.hash == inside.hash  # counterparts of four engines
    wide = replace(MIXTRAL, experts=replace(MIXTRAL.experts, num_experts=32))
    over, within = (
        build_small(model=wide, tp=8, data_parallel=4, expert_parallel=32, device=device)
        for device in (DEVICE, replace(DEVICE, gpus_per_node=64))
    )
    assert over.provenance["outside_profiles"] == [
        f"{name} joins 32 GPUs of several nodes, which is modelled" for name in ("expert_gather", "expert_scatter")
    ]
    assert within.provenance["outside_profiles"] == []
    # A million tokens of 4096 numbers: 31/32 of 2 bytes each, at 0.8 of the cards of a node.
    experts = {"hidden": 4096, "inter": 14336, "topk": 2, "experts": 32, "local_experts": 1, "load": 120}
    exchanged = over.expert_time_s(8192) / 32 - predict("moe", tokens=8192, **experts)
    assert exchanged == pytest.approx(2 * (40e-6 + 8192 * 4096 * 2 * 31 / 32 / (0.8 * 8 * 50e9)), rel=1e-6)


# Attention


@pytest.mark.parametrize(("batch", "kv"), [(1, 64), (1, 8192), (16, 16 * 64), (64, 2**16)])
def test_decodes_read_no_more_than_the_window(batch, kv):
    tables = build_small(model=GPT_OSS, dtype="auto")
    heads = {"q_heads": 64, "kv_heads": 8, "head_dim": 64}
    full = predict("decode_attention", batch=batch, kv=kv / batch, window=0, **heads)
    part = predict("decode_attention", batch=batch, kv=min(128, kv / batch), window=128, **heads)
    seconds = tables.decode_time_s(batch, kv) + tables.provenance["attention_launch_s"]
    assert seconds == pytest.approx(18 * full + 18 * part, rel=1e-12)


@pytest.mark.parametrize(("history", "chunk"), [(0, 64), (0, 2048), (4096, 1024), (512, 512)])
def test_what_lies_before_the_window_of_a_chunk_costs_nothing(history, chunk):
    tables = build_small(model=GEMMA_3)
    heads = {"batch": 1, "chunk": chunk, "q_heads": 32, "kv_heads": 16, "head_dim": 128}
    full = predict("prefill_attention", history=history, window=0, **heads)
    part = predict("prefill_attention", history=min(1024, history), window=1024, **heads)
    seconds = tables.prefill_time_s(history, chunk) + tables.provenance["attention_launch_s"]
    assert seconds == pytest.approx(10 * full + 52 * part, rel=1e-12)


@pytest.mark.parametrize(("batch", "kv"), [(1, 8192), (64, 2**16)])
def test_latent_decodes_are_between_two_products(batch, kv):
    tables = build_small(model=DEEPSEEK_V3, tp=8, dtype="auto")
    expected = predict("latent_decode", batch=batch, kv=kv / batch, heads=16)
    expected += predict("latent_bmm", tokens=batch, heads=16, n=512, k=128)
    expected += predict("latent_bmm", tokens=batch, heads=16, n=128, k=512)
    seconds = tables.decode_time_s(batch, kv) + tables.provenance["attention_launch_s"]
    assert seconds == pytest.approx(61 * expected, rel=1e-12)


@pytest.mark.parametrize(("history", "chunk"), [(0, 64), (0, 2048), (4096, 1024)])
def test_chunks_project_all_that_they_see(history, chunk):
    tables = build_small(model=DEEPSEEK_V3, tp=8, dtype="auto")
    expected = predict("latent_prefill", batch=1, chunk=chunk, history=history, heads=16)
    for rows in (chunk, history):
        if rows:
            expected += predict("gemm", m=rows, n=16 * 256, k=512)
            expected += float(bandwidth_seconds(rows * 2 * 16 * 192 * 2, DEVICE))
    if history:
        expected += float(bandwidth_seconds(history * 576 * 4, DEVICE))
        expected += float(bandwidth_seconds(chunk * 3 * 16 * 128 * 2, DEVICE))
    seconds = tables.prefill_time_s(history, chunk) + tables.provenance["attention_launch_s"]
    assert seconds == pytest.approx(61 * expected, rel=1e-9)


def test_shapes_between_measured_ones_are_told():
    known = RooflineEstimators()
    known.profiled["moe"] |= {"hidden": [2048, 7168], "topk": [1, 8], "experts": [8, 256], "inter": [128, 4096]}
    known.metadata = {"moe": {"measured_values": {"hidden": [2048, 4096, 7168], "experts": [8, 128, 256]}}}
    assert build_small(known, model=GPT_OSS, dtype="auto").provenance["outside_profiles"] == [
        "experts lies outside the measured shapes: hidden size 2880 (between the measured 2048 and 4096)"
    ]
    assert build_small(known, model=MIXTRAL, tp=2).provenance["outside_profiles"] == [
        "experts lies outside the measured shapes: inner width per GPU 7168 (measured 128 to 4096)"
    ]


# Members, cache


def test_members_are_tables_of_their_own(cache_home):
    known = RooflineEstimators()
    first, second = (build_small(known, cache=True, member=member) for member in (0, 2))
    assert len(list(cache_directory().glob("*.npy"))) == 2
    assert (first.provenance["member"], second.provenance["member"]) == (0, 2)
    learned = first.decode_time_s(64, 2**16) + first.provenance["attention_launch_s"]
    other = second.decode_time_s(64, 2**16) + second.provenance["attention_launch_s"]
    assert other == pytest.approx(1.02 * learned)
    assert build_small(known, cache=True, member=2).hash == second.hash


@pytest.mark.parametrize(
    "change", [{"expert_load": "balanced"}, {"expert_parallel": 2}, {"data_parallel": 2}, {"dtype": "fp8"}]
)
def test_how_experts_are_shared_is_in_the_key(change):
    build_small(cache=True, model=MIXTRAL, tp=2)
    if change == {"expert_parallel": 2}:
        assert build_small(cache=True, model=MIXTRAL, tp=2, **change).expert is None
    else:
        build_small(cache=True, model=MIXTRAL, tp=2, **change)
    assert len(list(cache_directory().glob("*.json"))) == 2


def test_splits_that_experts_do_not_allow_are_refused():
    with pytest.raises(EstimatorError, match="has none"):
        build_small(model=load_model("Llama-3.1-8B"), tp=2, expert_parallel=2)
    with pytest.raises(EstimatorError, match="expert_load"):
        build_small(model=MIXTRAL, expert_load="even")


def test_a_narrow_product_is_no_reason_to_warn():
    known = RooflineEstimators()
    known.profiled["gemm"] = {"n": [32, 5000], "k": [32, 65536]}  # eight experts
    told = build_small(known, model=MIXTRAL).provenance["outside_profiles"]
    assert told
    assert not any("router" in sentence for sentence in told)


def test_the_least_that_attention_takes_is_paid_once():
    tables = build_small(model=GPT_OSS, tp=8, dtype="auto")
    launch = tables.provenance["attention_launch_s"]
    assert 36 * LAUNCH < launch <= float(tables.decode_s[1:].min() + launch)
    assert min(tables.decode_s[1:].min(), tables.prefill_s[:, 1:].min()) == 0
