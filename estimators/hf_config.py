"""Models as Hugging Face's ``config.json`` describes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from estimators.config_reader import ConfigReader
from estimators.families import FAMILIES, TEXT_MODELS, Family
from estimators.latent import LatentAttention
from estimators.model_spec import ModelSpec
from estimators.quantisation import UNQUANTISED, quantisation_of

# Which of them have experts, a window or quantised weights is told by layer. The deepest published models have 126.
_MOST_LAYERS = 1000
_FULL, _WINDOWED = "full_attention", "sliding_attention"
_QUANTISATION = ("quantization_config", "compression_config")
# Keys of what is not simulated, in whatever family they stand, and what they mean.
_REFUSED = {
    "linear_num_key_heads": "linear attention",
    "linear_attn_config": "linear attention",
    "hybrid_override_pattern": "state-space layers",
    "ssm_state_size": "state-space layers",
    "index_topk": "sparse attention (DSA)",
    "sparse_attention_config": "sparse attention",
    "block_configs": "layers that differ from each other",
    "global_head_dim": "layers whose heads differ",
    "swa_num_key_value_heads": "layers whose heads differ",
    "attention_chunk_size": "attention in chunks",
    "qk_layernorm": "a norm of queries and keys with biases",
}
# Keys that only some families know.
_OF_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")


def model_from_config(config: Mapping[str, Any], name: str, source: str = "config") -> ModelSpec:
    """Build a ModelSpec from the keys of a Hugging Face ``config.json``.

    Args:
        config: the parsed file. Of a model that sees images the ``text_config`` counts.
        name: name of the model, kept in the spec.
        source: what errors call the file.

    Raises:
        EstimatorError: naming file and key of what is missing, wrong, or not simulated.
    """
    read, family = _family(ConfigReader(config, source))
    layers = read.positive("num_hidden_layers")
    if layers > _MOST_LAYERS:
        raise read.error("num_hidden_layers", f"is more than {_MOST_LAYERS:,}", "correct the file")
    window, window_layers = _windows(read, family, layers)
    bias = read.flag(family.bias, False)
    fields: dict[str, Any] = dict(
        name=name,
        hidden_size=read.positive("hidden_size"),
        num_layers=layers,
        intermediate_size=read.positive("intermediate_size") // (2 if family.joined_mlp else 1),
        vocab_size=read.positive("vocab_size"),
        max_position_embeddings=read.positive("max_position_embeddings"),
        tied_embeddings=read.flag("tie_word_embeddings", False),
        qkv_bias=read.flag(family.qkv_bias, False) if family.qkv_bias else bias,
        output_bias=bias,
        mlp_bias=read.flag(family.mlp_bias, False),
        qk_norm=read.flag("use_qk_norm", False),
        experts=family.experts(read, layers) if family.experts else None,
        window=window,
        window_layers=window_layers,
        **(_latent_heads(read) if family.latent else _heads(read, family)),
    )
    model = ModelSpec(**fields | dict(family.always))
    key = next((key for key in _QUANTISATION if read.config.get(key)), None)
    told = quantisation_of(read.config[key], f"{read.source}: {key}", model) if key else UNQUANTISED
    return ModelSpec(**vars(model) | told._asdict())


def _family(read: ConfigReader) -> tuple[ConfigReader, Family]:
    """The table that counts, completed by what its configuration class fills in."""
    architecture, config, source = _architecture(read), read.config, read.source
    if isinstance(inner := config.get("text_config"), Mapping):
        outer = {key: config[key] for key in ("tie_word_embeddings", *_QUANTISATION) if key in config}
        source, config = f"{source}: text_config", {**outer, **inner}
    read = ConfigReader(config, source)
    for key, meaning in _REFUSED.items():
        if config.get(key):
            raise read.error(key, f"means {meaning}, which is not simulated", "choose another model")
    family = FAMILIES.get(TEXT_MODELS.get(architecture, architecture))
    if family is None:
        known = ", ".join(sorted({*FAMILIES, *TEXT_MODELS}))
        error = ConfigReader({"architectures": [architecture]}, read.source).error
        raise error("architectures", "is not simulated", f"choose a model of {known}")
    for key in (*(() if family.experts else _OF_EXPERTS), *(() if family.latent else ("kv_lora_rank",))):
        if config.get(key):
            raise read.error(key, f"is not known of {architecture}", "correct the architecture, or take the key out")
    return ConfigReader({**family.defaults, **config}, source), family


def _architecture(read: ConfigReader) -> str:
    names = read.config.get("architectures")
    if not isinstance(names, list) or len(names) != 1 or not isinstance(names[0], str):
        raise read.error("architectures", "is not a list of one name", "add the key, as in the model's own config.json")
    return names[0]


def _heads(read: ConfigReader, family: Family) -> dict[str, int]:
    """Heads of ordinary attention."""
    hidden, heads = read.positive("hidden_size"), read.positive("num_attention_heads")
    stated = family.kv_heads or read.has("num_key_value_heads")
    kv_heads = read.positive("num_key_value_heads") if stated else heads
    if heads % kv_heads:
        raise read.error("num_key_value_heads", f"does not divide the {heads} query heads", "correct the file")
    if not read.has("head_dim") and hidden % heads:
        raise read.error("hidden_size", f"is not a multiple of the {heads} heads", "add the key head_dim")
    head_dim = read.positive("head_dim") if read.has("head_dim") else hidden // heads
    rotary_dim = int(head_dim * read.fraction("partial_rotary_factor", 1.0))
    if read.has("rotary_dim"):
        rotary_dim = read.positive("rotary_dim")
    return {"num_q_heads": heads, "num_kv_heads": kv_heads, "head_dim": head_dim, "rotary_dim": rotary_dim}


def _latent_heads(read: ConfigReader) -> dict[str, Any]:
    """Heads of latent attention."""
    rank = read.positive("q_lora_rank") if read.has("q_lora_rank") else None
    widths = ("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
    latent, heads = LatentAttention(rank, *map(read.positive, widths)), read.positive("num_attention_heads")
    return {
        "num_q_heads": heads,
        "num_kv_heads": heads,
        "head_dim": latent.qk_head_dim,
        "rotary_dim": latent.qk_rope_head_dim,
        "latent": latent,
    }


def _windows(read: ConfigReader, family: Family, layers: int) -> tuple[int | None, tuple[int, ...]]:
    """Length of the sliding window, and the layers that have it."""
    types = read.names("layer_types") if read.has("layer_types") else None
    if types is not None and (len(types) != layers or not {_FULL, _WINDOWED}.issuperset(types)):
        wrong = f"is not {_FULL} or {_WINDOWED} for each of the {layers} layers"
        raise read.error("layer_types", wrong, "choose another model")
    if not read.has("sliding_window") or not read.flag("use_sliding_window", True):
        return None, ()
    window = read.positive("sliding_window")
    if types is not None:
        found = tuple(i for i, kind in enumerate(types) if kind == _WINDOWED)
    elif read.has("max_window_layers"):
        found = tuple(range(read.count("max_window_layers"), layers))
    else:
        pattern = read.positive("sliding_window_pattern") if read.has("sliding_window_pattern") else family.pattern
        found = tuple(i for i in range(layers) if not pattern or (i + 1) % pattern)
    # A window that no context outgrows is none.
    return (window, found) if found and window < read.positive("max_position_embeddings") else (None, ())
