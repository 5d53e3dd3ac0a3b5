"""Operators of layers with experts, latent attention, windows and norms behind."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from model_specs import DEEPSEEK_V3, GEMMA_3, GPT_OSS, MIXTRAL

from estimators.errors import EstimatorError
from estimators.models import load_model
from estimators.operators import iteration_calls


def calls(model, tp=1, dtype="auto", **more):
    found = iteration_calls(model, tp, dtype, **more)
    assert max(Counter(call.name for call in found).values()) == 1  # each has a name of its own
    return {call.name: call for call in found}


# Experts


@pytest.mark.parametrize(
    ("tp", "dp", "ep", "inter", "local"),
    [(1, 1, 1, 14336, 8), (4, 1, 1, 3584, 8), (4, 1, 4, 14336, 2), (2, 4, 8, 14336, 1), (2, 4, 1, 1792, 8)],
)
def test_gpus_share_experts_or_parts_of_each(tp, dp, ep, inter, local):
    found = calls(MIXTRAL, tp, data_parallel=dp, expert_parallel=ep)
    assert found["experts"].shape == {
        "hidden": 4096,
        "inter": inter,
        "topk": 2,
        "experts": 8,
        "local_experts": local,
        "load": 120,
    }
    assert found["experts"].axis == ("tokens" if dp == 1 else "engines")
    assert found["experts"].count == 32
    assert found["router"].shape == {"n": 8, "k": 4096}
    assert not {"gate_up_proj", "down_proj", "shared_down_proj"} & set(found)


@pytest.mark.parametrize(("load", "expected"), [("balanced", 0), ("power_law_1.01", 101), ("power_law_1.2", 120)])
def test_the_load_is_one_that_was_measured(load, expected):
    assert calls(MIXTRAL, expert_load=load)["experts"].shape["load"] == expected


def test_engines_exchange_the_tokens_of_all():
    def exchange(**more):
        found = calls(MIXTRAL, data_parallel=4, **more)
        return {
            name: (call.operator, call.axis, dict(call.shape), call.count)
            for name, call in found.items()
            if call.operator in ("all_gather", "reduce_scatter", "all_to_all", "all_reduce") and call.count == 32
        }

    def over(gpus, elements=4096):
        return {"gpus": gpus, "elements": elements}

    gather = {"expert_gather": ("all_gather", "engines", over(4), 32)}
    scatter = {"expert_scatter": ("reduce_scatter", "engines", over(4), 32)}
    assert exchange(tp=1) == exchange(tp=1, expert_parallel=4) == gather | scatter
    reduced = {f"{part}_all_reduce": ("all_reduce", "tokens", over(2), 32) for part in ("attention", "mlp")}
    # Parts of every expert: each GPU exchanges with its counterparts, then the engine adds up.
    assert exchange(tp=2) == gather | scatter | reduced
    # Whole experts: each GPU exchanges its part of the tokens with all, and the engine gathers what came back.
    reduced.pop("mlp_all_reduce")
    assert exchange(tp=2, expert_parallel=8) == {
        "expert_gather": ("all_gather", "engines", over(8), 32),
        "expert_scatter": ("reduce_scatter", "engines", over(8), 32),
        "expert_output_gather": ("all_gather", "tokens", over(2), 32),
        **reduced,
    }
    # A token of two experts goes to two GPUs of eight, and is on one of them.
    sent = exchange(tp=2, expert_parallel=8, expert_exchange="all_to_all")
    for name in ("expert_dispatch", "expert_combine"):
        assert sent[name] == ("all_to_all", "engines", over(8, 4096 * 2 // 8), 32)


def test_engines_of_a_dense_model_share_nothing():
    model = load_model("Llama-3.1-8B")
    assert iteration_calls(model, 2, data_parallel=4) == iteration_calls(model, 2)


@pytest.mark.parametrize(
    ("arguments", "field", "mend"),
    [
        ({"expert_parallel": 2}, "expert_parallel", "give 1 or 4"),
        ({"expert_parallel": 0}, "expert_parallel", "give 1 or more"),
        ({"data_parallel": True}, "data_parallel", "give 1 or more"),
        ({"data_parallel": 4, "expert_parallel": 16}, "expert_parallel", "fewer GPUs"),
        ({"expert_load": "even"}, "expert_load", "choose one of power_law_1.2, power_law_1.01, balanced"),
        ({"expert_exchange": "mail"}, "expert_exchange", "choose one of all_gather"),
        ({"data_parallel": 2, "expert_exchange": "all_to_all"}, "expert_exchange", "expert_parallel = 8"),
    ],
)
def test_experts_that_cannot_be_shared_are_refused(arguments, field, mend):
    with pytest.raises(EstimatorError, match=mend) as caught:
        iteration_calls(MIXTRAL, 4, **arguments)
    assert caught.value.field == field
    with pytest.raises(EstimatorError, match="has none"):
        iteration_calls(load_model("Llama-3.1-8B"), 2, expert_parallel=2)


def test_some_layers_are_dense_and_some_experts_take_every_token():
    found = calls(DEEPSEEK_V3, 8)
    assert (found["gate_up_proj"].count, found["experts"].count, found["shared_gate_up_proj"].count) == (3, 58, 58)
    assert found["gate_up_proj"].shape == {"n": 2 * 18432 // 8, "k": 7168}
    assert found["shared_gate_up_proj"].shape == {"n": 2 * 2048 // 8, "k": 7168}
    assert found["mlp_all_reduce"].count == found["attention_all_reduce"].count == 61
    # Engines that share whole experts add up in the dense layers only.
    assert calls(DEEPSEEK_V3, 2, data_parallel=4, expert_parallel=8)["mlp_all_reduce"].count == 3
    # The first of two pipeline stages has all three dense layers.
    first, last = (calls(DEEPSEEK_V3, 8, pp=2, stage=stage) for stage in (0, 1))
    assert (first["gate_up_proj"].count, first["experts"].count, last["experts"].count) == (3, 28, 30)
    assert "gate_up_proj" not in last


@pytest.mark.parametrize("model", [MIXTRAL, GPT_OSS, GEMMA_3, DEEPSEEK_V3], ids=lambda model: model.name)
def test_matrix_products_are_those_that_the_flops_count(model):
    found = calls(model)
    flops = sum(
        2 * call.count * call.shape["n"] * call.shape["k"] for call in found.values() if call.operator == "gemm"
    )
    if "experts" in found:
        shape = found["experts"].shape
        flops += 6 * found["experts"].count * shape["topk"] * shape["hidden"] * shape["inter"]
    if model.latent is not None:
        flops -= 2 * found["history_kv_b_proj"].count * 128 * 256 * 512  # of tokens that were computed before
    expected = model.linear_flops_per_token + model.lm_head_flops_per_sequence
    # An LM head that is timed in parts is rounded up to equal ones.
    assert expected <= flops <= expected * (1 + 1e-6)


# Types


def test_each_part_has_its_type():
    assert {name: call.dtype for name, call in calls(GPT_OSS, 2).items() if call.dtype != "bf16"} == {
        "experts": "mxfp4"
    }
    found = calls(DEEPSEEK_V3, 8, kv_dtype="fp8")
    fp8 = {name for name, call in found.items() if call.dtype == "fp8"}
    block = {name for name, call in found.items() if call.dtype == "fp8_block"}
    assert fp8 == {"latent_decode", "latent_prefill"}
    assert block == {
        *("qkv_a_proj", "q_b_proj", "kv_b_proj", "history_kv_b_proj", "o_proj", "gate_up_proj", "down_proj"),
        *("shared_gate_up_proj", "shared_down_proj", "experts"),
    }


def test_a_checkpoint_may_leave_all_of_the_attention_alone_but_its_output():
    model = replace(DEEPSEEK_V3, weight_dtype="nvfp4", unquantised=("attention",))
    products = {name: call.dtype for name, call in calls(model).items() if call.operator == "gemm"}
    assert {name for name, dtype in products.items() if dtype == "bf16"} == {
        *("qkv_a_proj", "q_b_proj", "kv_b_proj", "history_kv_b_proj", "lm_head", "router"),
    }
    assert products["o_proj"] == "nvfp4"


# Attention


def test_windows_have_calls_of_their_own():
    found = calls(GPT_OSS, 2)
    heads = {"q_heads": 32, "kv_heads": 4, "head_dim": 64}
    for kind in ("decode", "prefill"):
        assert found[f"{kind}_attention"].shape == heads | {"window": 0}
        assert found[f"window_{kind}_attention"].shape == heads | {"window": 128}
        assert found[f"{kind}_attention"].count == found[f"window_{kind}_attention"].count == 18
    everywhere = replace(GPT_OSS, window_layers=tuple(range(36)))
    assert "decode_attention" not in calls(everywhere)
    assert "window_decode_attention" not in calls(MIXTRAL)


def test_latent_attention_projects_down_and_up():
    found = calls(DEEPSEEK_V3, 8)
    products = {name: dict(call.shape) for name, call in found.items() if call.operator == "gemm"}
    assert products["qkv_a_proj"] == {"n": 1536 + 512 + 64, "k": 7168}  # whole on every GPU
    assert products["q_b_proj"] == {"n": 16 * 192, "k": 1536}
    assert products["kv_b_proj"] == products["history_kv_b_proj"] == {"n": 16 * 256, "k": 512}
    assert products["o_proj"] == {"n": 7168, "k": 16 * 128}
    assert found["q_absorb"].shape == {"heads": 16, "n": 512, "k": 128}
    assert found["v_expand"].shape == {"heads": 16, "n": 128, "k": 512}
    assert found["latent_decode"].shape == found["latent_prefill"].shape == {"heads": 16}
    assert found["kv_write"].shape["bytes"] == 576 * (2 + 2)
    assert "qkv_proj" not in found
    # A chunk projects all that it sees, which its decodes never do.
    axes = {name: found[name].axis for name in ("kv_b_proj", "history_kv_b_proj", "q_absorb", "merge")}
    assert axes == {
        "kv_b_proj": "chunk",
        "history_kv_b_proj": "history",
        "q_absorb": "decodes",
        "merge": "resumed",
    }


def test_queries_without_a_latent_are_projected_at_once():
    assert DEEPSEEK_V3.latent is not None
    small = replace(DEEPSEEK_V3, latent=replace(DEEPSEEK_V3.latent, q_lora_rank=None))
    found = calls(small)
    assert found["q_proj"].shape == {"n": 128 * 192, "k": 7168}
    assert found["kv_a_proj"].shape == {"n": 576, "k": 7168}
    assert not {"qkv_a_proj", "q_b_proj", "q_norm"} & set(found)


def test_gemma_has_a_norm_behind_each_half():
    found = calls(GEMMA_3)
    assert found["attention_output_norm"].shape["bytes"] == found["mlp_output_norm"].shape["bytes"] == 2 * 5376 * 2
    assert found["input_norm"].count == found["mlp_output_norm"].count == 62
    assert found["window_decode_attention"].count == 52


def test_columns_follow_the_rows():
    rows, found = np.array([1, 5]), calls(MIXTRAL, 2, data_parallel=2)
    columns = {name: values.tolist() for name, values in found["experts"].columns(rows).items()}
    assert columns["tokens"] == [1, 5]
    assert (columns["inter"], columns["local_experts"]) == ([3584, 3584], [8, 8])
    assert found["expert_gather"].columns(rows)["elements"].tolist() == [4096, 5 * 4096]
    bmm = calls(DEEPSEEK_V3)["q_absorb"].columns(rows)
    assert {name: values.tolist() for name, values in bmm.items()} == {
        "tokens": [1, 5],
        "heads": [128, 128],
        "n": [512, 512],
        "k": [128, 128],
    }


def test_one_gpu_has_one_choice():
    with pytest.raises(EstimatorError, match=r"give 1\.$"):
        iteration_calls(MIXTRAL, expert_parallel=4)
