"""Pipeline stages: what each holds, and how long it takes."""

from dataclasses import replace

import numpy as np
import pytest
from roofline_estimators import RooflineEstimators, build_small

from estimators.cache import cache_directory
from estimators.devices import device_names
from estimators.errors import EstimatorError
from estimators.models import load_model
from estimators.operators import iteration_calls
from estimators.tables import IterationTables


def layers(name, pp):
    model = load_model(name)
    return [model.pipeline_stage(pp, stage).layers for stage in range(pp)]


# What a stage holds


@pytest.mark.parametrize(
    ("name", "pp", "expected"),
    [
        ("Llama-3.1-8B", 1, [32]),
        ("Llama-3.1-8B", 4, [8, 8, 8, 8]),
        # What is left over goes to the stages before the last one, from the back.
        ("Llama-3.1-8B", 5, [6, 6, 7, 7, 6]),
        ("Qwen2.5-7B", 3, [9, 10, 9]),
        ("Llama-3.1-70B", 3, [27, 27, 26]),
        ("Qwen3-8B", 10, [3, 3, 3, 4, 4, 4, 4, 4, 4, 3]),
        ("Llama-3.1-8B", 32, [1] * 32),
    ],
)
def test_layers_are_split_as_vllm_splits_them(name, pp, expected):
    assert layers(name, pp) == expected


def test_an_odd_layer_of_two_stages_goes_to_the_first():
    model = replace(load_model("Llama-3.1-8B"), num_layers=33)
    assert [model.pipeline_stage(2, stage).layers for stage in (0, 1)] == [17, 16]


@pytest.mark.parametrize("pp", range(1, 33))
def test_every_layer_is_in_one_stage_and_only_the_ends_are_ends(pp):
    model = load_model("Llama-3.1-8B")
    stages = [model.pipeline_stage(pp, stage) for stage in range(pp)]
    assert sum(stage.layers for stage in stages) == 32
    assert max(stage.layers for stage in stages) - min(stage.layers for stage in stages) <= 1
    assert [stage.first for stage in stages] == [True] + [False] * (pp - 1)
    assert [stage.last for stage in stages] == [False] * (pp - 1) + [True]


@pytest.mark.parametrize("pp", [0, -1, 33, True, 2.0, "2", None])
def test_a_number_of_stages_that_does_not_fit_is_refused(pp):
    for call in (load_model("Llama-3.1-8B").weight_bytes, load_model("Llama-3.1-8B").kv_bytes_per_token):
        with pytest.raises(EstimatorError, match=r"32 layers of meta-llama/Llama-3.1-8B; choose 1 to 32\.$") as caught:
            call(pp=pp)
        assert (caught.value.field, caught.value.value) == ("pp", pp)


@pytest.mark.parametrize("stage", [2, -1, True, 1.0, None])
def test_a_stage_that_does_not_exist_is_refused(stage):
    with pytest.raises(EstimatorError, match=r"not one of 2 pipeline stages; choose 0 to 1\.$") as caught:
        load_model("Llama-3.1-8B").pipeline_stage(2, stage)
    assert (caught.value.field, caught.value.value) == ("stage", stage)


@pytest.mark.parametrize("pp", [1, 2, 3, 7])
@pytest.mark.parametrize("tp", [1, 4])
@pytest.mark.parametrize("name", ["Llama-3.1-8B", "Llama-3.1-70B"])
def test_weights_and_kv_of_the_stages_sum_to_the_whole(name, tp, pp):
    model = load_model(name)
    parts = [model.weight_bytes(tp, "bf16", pp, stage) for stage in range(pp)]
    assert sum(parts) == model.weight_bytes(tp)
    assert sum(model.kv_bytes_per_token(tp, "bf16", pp, stage) for stage in range(pp)) == model.kv_bytes_per_token(tp)


def test_the_ends_hold_the_embedding_and_the_head():
    model = load_model("Llama-3.1-8B")
    first, middle, last = (model.weight_bytes(1, "bf16", 4, stage) for stage in (0, 1, 3))
    assert first - middle == 2 * 128256 * 4096
    assert last - first == 2 * 4096  # the final norm
    assert model.weight_bytes(1, "bf16", 4, 2) == middle


@pytest.mark.parametrize("pp", [2, 3])
def test_a_tied_embedding_is_held_by_both_ends(pp):
    tied = replace(load_model("Llama-3.1-8B"), tied_embeddings=True)
    parts = [tied.weight_bytes(1, "bf16", pp, stage) for stage in range(pp)]
    assert sum(parts) - tied.weight_bytes() == 2 * 128256 * 4096


# What a stage runs


def names(name, tp, pp, stage):
    return {call.name for call in iteration_calls(load_model(name), tp, "bf16", pp, stage)}


def test_only_the_ends_run_what_is_outside_the_layers():
    first, middle, last = (names("Llama-3.1-70B", 4, 4, stage) for stage in (0, 1, 3))
    assert first - middle == {"embedding", "embedding_all_reduce"}
    assert middle - first == {"input_gather"}
    assert last - middle == {"final_norm", "lm_head", "logits_gather", "logits_cast", "sample"}
    assert middle < last


def test_a_later_stage_shares_what_it_was_sent():
    def gather(name, tp):
        return next(call for call in iteration_calls(load_model(name), tp, "bf16", 2, 1) if call.name == "input_gather")

    # Hidden state and residual, each 0.65 of an all-reduce; phi-2 has one sum.
    assert (gather("Llama-3.1-8B", 2).count, gather("phi-2", 2).count) == (2 * 0.65, 0.65)
    assert gather("Llama-3.1-8B", 2).shape == {"gpus": 2, "elements": 4096}
    assert "input_gather" not in names("Llama-3.1-8B", 1, 2, 1)


def test_one_stage_is_the_whole():
    model = load_model("Qwen3-32B")
    assert iteration_calls(model, 4, "bf16", 1, 0) == iteration_calls(model, 4)
    assert build_small(pp=1, stage=0).hash == build_small().hash


# How long it takes


@pytest.mark.parametrize("device", device_names())
@pytest.mark.parametrize(("model", "tp", "pp"), [("Llama-3.1-8B", 1, 5), ("Llama-3.1-70B", 4, 2)])
def test_tables_of_the_stages_sum_to_those_of_the_whole(device, model, tp, pp):
    limits = {"max_sequences": 64, "max_kv": 2**16, "max_model_len": 1024, "cache": False}
    whole = IterationTables.build(model, device, tp, **limits)
    stages = [IterationTables.build(model, device, tp, pp=pp, stage=stage, **limits) for stage in range(pp)]
    assert {stage.layout for stage in stages} == {whole.layout}
    for name in ("sequence_s", "decode_s", "prefill_s"):
        total = sum(getattr(stage, name) for stage in stages)
        scale = getattr(whole, name).max()
        assert total == pytest.approx(getattr(whole, name), rel=1e-12, abs=1e-12 * scale)
    total = sum(stage.token_s for stage in stages)
    if tp == 1:
        assert total == pytest.approx(whole.token_s, rel=1e-12)
    else:  # The later stages gather what they were sent.
        assert (total[1:] > whole.token_s[1:]).all()


def test_the_gather_of_a_later_stage_is_in_its_token_table():
    def predict(tokens):
        return float(RooflineEstimators().predict("all_reduce", {"gpus": [2], "elements": [tokens * 4096]})[0])

    whole = build_small(tp=2)
    total = sum(build_small(tp=2, pp=4, stage=stage).token_s for stage in range(4))
    for tokens in (1, 100, 2048):
        assert total[tokens] - whole.token_s[tokens] == pytest.approx(3 * 2 * 0.65 * predict(tokens), rel=1e-9)


def test_only_the_last_stage_takes_time_per_request():
    first, last = (build_small(pp=2, stage=stage) for stage in (0, 1))
    assert not first.sequence_s.any()
    assert np.array_equal(last.sequence_s, build_small().sequence_s)


def test_stages_that_hold_the_same_share_their_tables(cache_home):
    known = RooflineEstimators()
    tables = [build_small(known, cache=True, pp=5, stage=stage) for stage in range(5)]
    # 6, 6, 7, 7, 6 layers: the first, two kinds between, the last.
    assert tables[2].hash == tables[3].hash
    assert len({stage.hash for stage in tables}) == 4
    assert len(list(cache_directory().glob("*.npy"))) == 4
    asked = len(known.calls)
    # Of 16 stages of two layers all those between are alike.
    assert build_small(known, cache=True, pp=16, stage=3).hash == build_small(known, cache=True, pp=16, stage=4).hash
    assert len(known.calls) == asked + 3  # gemm and both kinds of attention, once
    stage = {"layers": 6, "first": False, "last": False, "window_layers": 0, "expert_layers": 0}
    assert tables[1].provenance["stage"] == stage
