"""Mixtures of experts: what they are, what they weigh, and how long a layerwise profile says they take."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layerwise_files import DENSE, experts_profile, write_config

from estimators import EstimatorError, ModelSpec, load_model
from estimators.experts import expert_seconds
from estimators.layerwise import layerwise_tables
from estimators.sources.all_reduce import AllReduce

SMALL = {"max_tokens": 256, "max_sequences": 16, "max_model_len": 512}


@pytest.fixture
def model(tmp_path: Path) -> ModelSpec:
    spec = load_model(write_config(tmp_path))
    assert spec.experts is not None
    return spec


def test_a_model_of_30_billion_parameters_uses_3_for_a_token(model: ModelSpec):
    assert model.num_parameters == pytest.approx(30.5e9, rel=0.002)
    embeddings = 2 * 151936 * 2048
    assert model.linear_flops_per_token / 2 + embeddings == pytest.approx(3.35e9, rel=0.01)
    assert model.experts.width == 8 * 768
    assert model.weight_bytes(2) < 0.51 * model.weight_bytes(1)
    assert 3 not in model.tensor_parallel_sizes()


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"decoder_sparse_step": 0}, "decoder_sparse_step"),
        ({"decoder_sparse_step": 49}, "num_hidden_layers"),
        ({"mlp_only_layers": ["first"]}, "mlp_only_layers"),
        ({"num_experts": 0}, "num_experts"),
        ({"num_experts_per_tok": 129}, "num_experts_per_tok"),
        ({"moe_intermediate_size": None}, "moe_intermediate_size"),
        ({"architectures": ["Qwen2MoeForCausalLM"]}, "architectures"),
    ],
)
def test_a_config_that_cannot_be_simulated_is_refused_by_key(tmp_path: Path, change: dict[str, Any], key: str):
    path = write_config(tmp_path, **change)
    with pytest.raises(EstimatorError) as caught:
        load_model(path)
    assert caught.value.field == f"{path}: {key}"


def test_more_tokens_meet_more_experts(model: ModelSpec):
    experts = model.experts.expected_experts(np.array([1, 2, 10_000]))
    assert experts.tolist() == pytest.approx([8, 8 + 120 * 8 / 128, 128])


def test_times_are_linear_in_tokens_and_activated_experts(model: ModelSpec):
    # Only what can happen was measured: one token activates 8 experts.
    rows = [(1, 8), (2, 8), (2, 16), (64, 8), (64, 16), (64, 128)]
    keys = np.array(rows)
    seconds = np.array([100 * experts + tokens for tokens, experts in rows], dtype=float)
    tokens = np.array([1, 2, 33])
    expected = 100 * model.experts.expected_experts(tokens) + tokens
    assert expert_seconds(keys, seconds, model.experts, tokens).tolist() == pytest.approx(expected.tolist())


def test_a_layer_has_its_experts_in_place_of_the_mlp(tmp_path: Path, model: ModelSpec):
    tables = layerwise_tables(experts_profile(tmp_path / "profile"), model, **SMALL)
    dense_us = 2 * DENSE["layernorm"] + DENSE["qkv_proj"] + DENSE["rotary_emb"] + DENSE["o_proj"] + 5 * 2 + 1000
    outside_us = DENSE["embedding"] + DENSE["final_layernorm"] + 2 * 2 + 2 * 101
    expected = 48 * (dense_us + 7 * 15.5) + outside_us
    assert tables.iteration_time_s(2, 1) == pytest.approx(expected / 1e6)


def test_a_split_mixture_adds_two_all_reduces_for_each_layer(tmp_path: Path, model: ModelSpec):
    root = experts_profile(tmp_path / "profile", tp=2)
    times = [
        layerwise_tables(
            root, model, 2, all_reduce=AllReduce(2, np.array([1, 2]), np.full(2, us * 1e-6), "toy"), **SMALL
        )
        for us in (0.0, 1.0)
    ]
    assert times[1].iteration_time_s(2, 0) - times[0].iteration_time_s(2, 0) == pytest.approx(97e-6)


def test_a_profile_without_experts_is_refused(tmp_path: Path, model: ModelSpec):
    root = experts_profile(tmp_path / "profile")
    (root / "tp1" / "moe.csv").unlink()
    with pytest.raises(EstimatorError, match=r"moe\.csv is missing, and .* has experts"):
        layerwise_tables(root, model, **SMALL)
