from dataclasses import replace

import numpy as np
import pytest
from roofline_estimators import RooflineEstimators

from estimators import EstimatorError, load_device, load_model
from estimators.operators import bandwidth_seconds, iteration_calls
from estimators.vidur_build import build_operator_tables
from estimators.vidur_tables import NETWORK_OPERATORS, TOKEN_OPERATORS

SMALL = {"max_tokens": 64, "max_batch": 4, "max_context": 256, "max_chunk": 100, "estimators": RooflineEstimators()}
H100 = load_device("h100_sxm")


def test_every_key_of_vidurs_tables_has_a_time():
    tables = build_operator_tables("Llama-3.1-8B", "h100_sxm", tp=2, pp=2, **SMALL)
    assert set(tables.token_ms) == {*TOKEN_OPERATORS, *NETWORK_OPERATORS}
    for name, ms in tables.token_ms.items():
        assert ms.shape == (65,)
        assert (ms[1:] > 0).all() or name == "add"
    assert tables.decode_ms.shape == (5, 5)
    assert tables.prefill_ms.shape == (5, 101)
    assert (tables.decode_ms[1:] > 0).all()
    assert (tables.prefill_ms[:, 1:] > 0).all()
    assert not tables.cpu_ms


def test_operators_are_ours_of_one_layer():
    tables = build_operator_tables("Llama-3.1-8B", "h100_sxm", tp=2, **SMALL)
    calls = {call.name: call for call in iteration_calls(load_model("Llama-3.1-8B"), 2)}
    tokens = np.array([8, 64])

    def expected(name):
        return 1e3 * SMALL["estimators"].predict(calls[name].operator, calls[name].columns(tokens))

    for theirs, ours in (
        ("attn_pre_proj", "qkv_proj"),
        ("mlp_down_proj", "down_proj"),
        ("all_reduce", "mlp_all_reduce"),
    ):
        np.testing.assert_allclose(tables.token_ms[theirs][tokens], expected(ours))
    norm = 1e3 * bandwidth_seconds(tokens * calls["input_norm"].shape["bytes"], H100)
    np.testing.assert_allclose(tables.token_ms["input_layernorm"][tokens], norm)
    heads = {"q_heads": 16, "kv_heads": 4, "head_dim": 128, "window": 0}
    decode = SMALL["estimators"].predict("decode_attention", {"batch": 3, "kv": 128, **heads})
    assert tables.decode_ms[3, 2] == pytest.approx(1e3 * decode)
    prefill = SMALL["estimators"].predict("prefill_attention", {"batch": 1, "chunk": 100, "history": 64, **heads})
    assert tables.prefill_ms[1, 100] == pytest.approx(1e3 * prefill, rel=1e-3)


def test_one_gpu_has_no_network_and_one_norm_adds_apart():
    tables = build_operator_tables("microsoft/phi-2", "h100_sxm", **SMALL)
    assert not set(NETWORK_OPERATORS) & set(tables.token_ms)
    assert not tables.token_ms["post_attention_layernorm"].any()
    assert tables.token_ms["add"][8] > 0
    assert tables.provenance["outside_profiles"] == []


def test_sending_takes_longer_between_nodes():
    near = build_operator_tables("Llama-3.1-8B", "h100_sxm", tp=4, pp=2, **SMALL)
    far = build_operator_tables("Llama-3.1-8B", "h100_sxm", tp=4, pp=4, **SMALL)
    rate = {name: np.diff(tables.token_ms["send_recv"])[0] for name, tables in (("near", near), ("far", far))}
    assert rate["near"] == pytest.approx(1e3 * 4096 * 2 / H100.link(inside_node=True)[1])
    assert rate["far"] == pytest.approx(1e3 * 4096 * 2 / H100.link(inside_node=False)[1])


def test_many_tokens_are_interpolated():
    few = RooflineEstimators()
    tables = build_operator_tables("Llama-3.1-8B", "h100_sxm", **(SMALL | {"max_tokens": 300_000, "estimators": few}))
    assert few.rows < 50_000
    calls = {call.name: call for call in iteration_calls(load_model("Llama-3.1-8B"))}
    tokens = np.array([20_008, 123_456, 300_000])
    exact = 1e3 * few.predict("gemm", calls["o_proj"].columns(tokens))
    np.testing.assert_allclose(tables.token_ms["attn_post_proj"][tokens], exact, rtol=1e-3)


def test_only_dense_models(monkeypatch):
    calls = [call for call in iteration_calls(load_model("Llama-3.1-8B")) if call.name != "down_proj"]
    monkeypatch.setattr("estimators.vidur_build.iteration_calls", lambda *_: calls)
    with pytest.raises(EstimatorError, match="has no mlp_down_proj, as all of Vidur's have; take a dense one"):
        build_operator_tables("Llama-3.1-8B", "h100_sxm", **SMALL)


def test_a_spec_does():
    spec = replace(load_model("Llama-3.1-8B"), num_layers=1)
    assert build_operator_tables(spec, H100, **SMALL).hash == build_operator_tables("Llama-3.1-8B", H100, **SMALL).hash
