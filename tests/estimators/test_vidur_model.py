import json

import pytest

from estimators import EstimatorError, load_model
from estimators.vidur_model import model_from_vidur

PHI = {
    "name": "microsoft/phi-2",
    "num_layers": 32,
    "num_q_heads": 32,
    "num_kv_heads": 32,
    "embedding_dim": 2560,
    "mlp_hidden_dim": 10240,
    "max_position_embeddings": 2048,
    "use_gated_mlp": False,
    "use_bias": True,
    "use_qkv_bias": True,
    "activation": 0,
    "norm": 0,
    "post_attn_norm": False,
    "vocab_size": 51200,
    "partial_rotary_factor": 0.4,
    "no_tensor_parallel": True,
}
QWEN = PHI | {
    "name": "Qwen/Qwen-72B",
    "embedding_dim": 8192,
    "num_q_heads": 64,
    "num_kv_heads": 64,
    "mlp_hidden_dim": 24576,
    "use_gated_mlp": True,
    "use_bias": False,
    "norm": 1,
    "post_attn_norm": True,
    "partial_rotary_factor": 1.0,
}


def test_a_model_of_one_norm_is_the_built_in_one():
    theirs, ours = model_from_vidur(PHI), load_model("microsoft/phi-2")
    different = {name for name in vars(ours) if getattr(theirs, name) != getattr(ours, name)}
    assert different == {"lm_head_bias"}  # not in Vidur's description


def test_a_model_that_is_not_built_in():
    spec = model_from_vidur(QWEN)
    assert (spec.qkv_bias, spec.output_bias, spec.mlp_bias, spec.norm_bias) == (True, False, False, False)
    assert (spec.parallel_attention_mlp, spec.gated_mlp, spec.head_dim, spec.rotary_dim) == (False, True, 128, 128)


def test_a_configuration_file_of_vidurs_is_a_model(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"cluster_config": {"replica_config": {"model_config": QWEN}}}))
    assert load_model(path) == model_from_vidur(QWEN)
    assert load_model(path).name == "Qwen/Qwen-72B"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_layers": 0}, "model_config: num_layers 0 is not a positive integer"),
        ({"vocab_size": None}, "model_config: vocab_size is not a positive integer"),
        ({"num_q_heads": 48}, "model_config: num_q_heads 48 does not divide embedding_dim 8192"),
        ({"num_kv_heads": 48}, "model_config: num_kv_heads 48 does not divide num_q_heads 64"),
    ],
)
def test_refusals(change, words):
    with pytest.raises(EstimatorError) as caught:
        model_from_vidur(QWEN | change)
    assert words in str(caught.value)
