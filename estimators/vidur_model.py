"""Models as the simulator Vidur describes them: the table ``model_config`` of its resolved ``config.json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from estimators.errors import EstimatorError
from estimators.model_spec import ModelSpec

# Vidur writes its enumeration of norms as numbers: 0 is LayerNorm (with a bias), 1 is RMSNorm.
_LAYER_NORM = (0, "layer_norm")
_NUMBERS = {
    "embedding_dim": "hidden_size",
    "num_layers": "num_layers",
    "num_q_heads": "num_q_heads",
    "num_kv_heads": "num_kv_heads",
    "mlp_hidden_dim": "intermediate_size",
    "vocab_size": "vocab_size",
    "max_position_embeddings": "max_position_embeddings",
}


def vidur_model_config(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The ``model_config`` of a Vidur configuration; None where it is something else."""
    found: Any = config
    for key in ("cluster_config", "replica_config", "model_config"):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else None


def check_vidur_model(model: ModelSpec) -> None:
    """Raise ``EstimatorError`` unless a model is one that Vidur can describe: dense, with full attention."""
    for field, what in (
        ("experts", "a mixture of experts"),
        ("latent", "latent attention"),
        ("window", "windowed attention"),
    ):
        if getattr(model, field) is not None:
            mend = "choose a dense model with full attention, or no parity"
            raise EstimatorError("model", model.name, f"has {what}, which Vidur does not simulate", mend)


def model_from_vidur(config: Mapping[str, Any], source: str = "model_config") -> ModelSpec:
    """Build a ModelSpec from Vidur's ``model_config``.

    Args:
        config: the table.
        source: what errors call it.

    Raises:
        EstimatorError: a field is missing or wrong.
    """

    def error(key: str, wrong: str) -> EstimatorError:
        return EstimatorError(f"{source}: {key}", config.get(key), wrong, "correct the file")

    numbers: dict[str, Any] = {}
    for key, name in _NUMBERS.items():
        value = config.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise error(key, "is not a positive integer")
        numbers[name] = value
    for key, divides in (("embedding_dim", "num_q_heads"), ("num_q_heads", "num_kv_heads")):
        if config[key] % config[divides]:
            raise error(divides, f"does not divide {key} {config[key]}")
    head_dim = numbers["hidden_size"] // numbers["num_q_heads"]
    rotary = config.get("partial_rotary_factor", 1.0)
    if isinstance(rotary, bool) or not isinstance(rotary, int | float) or not 0 < rotary <= 1:
        raise error("partial_rotary_factor", "is not a number above 0 and up to 1")
    biased, norm = bool(config.get("use_bias", False)), config.get("norm", 1)
    return ModelSpec(
        name=str(config.get("name", "a model of Vidur's")),
        head_dim=head_dim,
        rotary_dim=max(1, int(head_dim * rotary)),
        gated_mlp=bool(config.get("use_gated_mlp", True)),
        qkv_bias=biased or bool(config.get("use_qkv_bias", False)),
        output_bias=biased,
        mlp_bias=biased,
        norm_bias=(norm.lower() if isinstance(norm, str) else norm) in _LAYER_NORM,
        parallel_attention_mlp=not config.get("post_attn_norm", True),
        **numbers,
    )
