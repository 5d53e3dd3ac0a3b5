"""Models by name or from a Hugging Face ``config.json``."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from estimators.errors import EstimatorError
from estimators.model_spec import DTYPE_BYTES, ModelSpec
from estimators.quantisation import quantised_dtypes
from estimators.vidur_model import model_from_vidur, vidur_model_config

__all__ = ["DTYPE_BYTES", "ModelSpec", "load_model", "model_from_config", "model_names"]

# Families whose configuration class fills in a number of key/value heads of its own when the key is missing.
_QWEN_EXPERTS = "Qwen3MoeForCausalLM"
_KV_HEADS_REQUIRED = ("MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM", _QWEN_EXPERTS)
_EXPERT_KEYS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_intermediate_size")


def _builtin(
    architecture: str,
    hidden: int,
    layers: int,
    heads: int,
    kv_heads: int,
    inner: int,
    vocab: int,
    context: int,
    **more: Any,
) -> dict[str, Any]:
    return {
        "architectures": [architecture],
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": inner,
        "vocab_size": vocab,
        "max_position_embeddings": context,
        **more,
    }


_LLAMA_3_8B = _builtin("LlamaForCausalLM", 4096, 32, 32, 8, 14336, 128256, 131072)
_LLAMA_3_70B = _builtin("LlamaForCausalLM", 8192, 80, 64, 8, 28672, 128256, 131072)
# What NVIDIA's Model Optimizer writes beside the fp8 weights of these models.
_MODELOPT_FP8 = {"quantization_config": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}}

# The figures of the models' public config.json files; only the keys that matter here.
_BUILTIN: dict[str, dict[str, Any]] = {
    "meta-llama/Llama-2-7b-hf": _builtin("LlamaForCausalLM", 4096, 32, 32, 32, 11008, 32000, 4096),
    "meta-llama/Llama-2-70b-hf": _builtin("LlamaForCausalLM", 8192, 80, 64, 8, 28672, 32000, 4096),
    "meta-llama/Llama-3.1-8B": _LLAMA_3_8B,
    "meta-llama/Llama-3.1-70B": _LLAMA_3_70B,
    "meta-llama/Llama-3.1-405B": _builtin("LlamaForCausalLM", 16384, 126, 128, 8, 53248, 128256, 131072),
    "nvidia/Llama-3.1-8B-Instruct-FP8": _LLAMA_3_8B | _MODELOPT_FP8,
    "nvidia/Llama-3.1-70B-Instruct-FP8": _LLAMA_3_70B | _MODELOPT_FP8,
    "nvidia/Llama-3.3-70B-Instruct-FP8": _LLAMA_3_70B | _MODELOPT_FP8,
    "Qwen/Qwen2.5-7B": _builtin("Qwen2ForCausalLM", 3584, 28, 28, 4, 18944, 152064, 131072),
    "Qwen/Qwen2.5-72B": _builtin("Qwen2ForCausalLM", 8192, 80, 64, 8, 29568, 152064, 131072),
    "Qwen/Qwen3-8B": _builtin("Qwen3ForCausalLM", 4096, 36, 32, 8, 12288, 151936, 40960, head_dim=128),
    "Qwen/Qwen3-32B": _builtin("Qwen3ForCausalLM", 5120, 64, 64, 8, 25600, 151936, 40960, head_dim=128),
    "mistralai/Mistral-7B-v0.3": _builtin("MistralForCausalLM", 4096, 32, 32, 8, 14336, 32768, 32768),
    "codellama/CodeLlama-34b-Instruct-hf": _builtin("LlamaForCausalLM", 8192, 48, 64, 8, 22016, 32000, 16384),
    "internlm/internlm-20b": _builtin("InternLMForCausalLM", 5120, 60, 40, 40, 13824, 103168, 4096, bias=False),
    "microsoft/phi-2": _builtin("PhiForCausalLM", 2560, 32, 32, 32, 10240, 51200, 2048, partial_rotary_factor=0.4),
}


def model_names() -> tuple[str, ...]:
    """Names that ``load_model`` knows without a file, sorted."""
    return tuple(sorted(_BUILTIN, key=str.lower))


def load_model(name_or_path: str | os.PathLike[str]) -> ModelSpec:
    """Return the model of a built-in name, or of a Hugging Face ``config.json`` (or the directory that holds one).

    The ``config.json`` of a run of the simulator Vidur is taken, too. A name may be given in any case, and without what
    stands before its last slash. Names win over paths.

    Raises:
        EstimatorError: when there is neither such a model nor such a file, or the file describes a model that cannot be
            simulated (experts other than Qwen3's, latent attention, an active sliding window, weights quantised to
            anything but plain fp8, an unknown architecture).
    """
    if not isinstance(name_or_path, str | os.PathLike):
        raise EstimatorError("model", name_or_path, "is neither a name nor a path", "give one of them or a ModelSpec")
    given = os.fspath(name_or_path)
    for name, config in _BUILTIN.items():
        if given.lower() in (name.lower(), name.lower().rpartition("/")[2]):
            return model_from_config(config, name)
    path = Path(given)
    if path.is_dir():
        path = path / "config.json"
    if not path.is_file():
        known = ", ".join(model_names())
        raise EstimatorError(
            "model", given, "is neither a known name nor a file", f"name a config.json or one of {known}"
        )
    config = _read_json(path)
    if (vidur := vidur_model_config(config)) is not None:
        return model_from_vidur(vidur, f"{path}: model_config")
    beside = path.with_name("hf_quant_config.json")
    if path.name == "config.json" and not config.get("quantization_config") and beside.is_file():
        config["quantization_config"] = _read_json(beside)
    name = path.resolve().parent.name if path.name == "config.json" else path.stem
    return model_from_config(config, name, str(path))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        wrong = f"cannot be read as JSON ({error})"
        raise EstimatorError("model", str(path), wrong, f"give a valid {path.name}") from error
    if not isinstance(content, dict):
        raise EstimatorError("model", str(path), "does not hold a JSON object", f"give a valid {path.name}")
    return content


def model_from_config(config: Mapping[str, Any], name: str, source: str = "config") -> ModelSpec:
    """Build a ModelSpec from the keys of a Hugging Face ``config.json``.

    Args:
        config: the parsed file.
        name: name of the model, kept in the spec.
        source: what errors call the file.

    Raises:
        EstimatorError: as ``load_model``.
    """
    read = _Reader(config, source)
    architecture = _architecture(read)
    _refuse_unsupported(read, architecture)
    hidden, heads = read.positive("hidden_size"), read.positive("num_attention_heads")
    if architecture in _KV_HEADS_REQUIRED or config.get("num_key_value_heads") is not None:
        kv_heads = read.positive("num_key_value_heads")
    else:
        kv_heads = heads
    if heads % kv_heads:
        raise read.error("num_key_value_heads", f"does not divide the {heads} query heads", "correct the file")
    head_dim = read.positive("head_dim") if config.get("head_dim") is not None else _head_dim(read, hidden, heads)
    weight_dtype, kv_dtype = _quantisation(read)
    phi, internlm = architecture == "PhiForCausalLM", architecture == "InternLMForCausalLM"
    attention_bias = phi or read.flag("bias" if internlm else "attention_bias", internlm)
    fields: dict[str, Any] = dict(
        name=name,
        hidden_size=hidden,
        num_layers=read.positive("num_hidden_layers"),
        num_q_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        rotary_dim=int(head_dim * read.fraction("partial_rotary_factor", 0.5 if phi else 1.0)),
        intermediate_size=read.positive("intermediate_size"),
        vocab_size=read.positive("vocab_size"),
        max_position_embeddings=read.positive("max_position_embeddings"),
        gated_mlp=not phi,
        tied_embeddings=read.flag("tie_word_embeddings", False),
        qkv_bias=attention_bias or architecture == "Qwen2ForCausalLM",
        output_bias=attention_bias and architecture != "Qwen2ForCausalLM",
        mlp_bias=phi or read.flag("mlp_bias", False),
        lm_head_bias=phi,
        norm_bias=phi,
        qk_norm=architecture in ("Qwen3ForCausalLM", _QWEN_EXPERTS),
        parallel_attention_mlp=phi,
        weight_dtype=weight_dtype,
        kv_dtype=kv_dtype,
    )
    return ModelSpec(**fields) if architecture != _QWEN_EXPERTS else _with_experts(read, fields)


def _with_experts(read: _Reader, fields: dict[str, Any]) -> ModelSpec:
    """A model of which every layer's MLP is a mixture of experts."""
    from estimators.experts import ExpertsSpec

    if read.config.get("decoder_sparse_step", 1) != 1 or read.config.get("mlp_only_layers"):
        key = "mlp_only_layers" if read.config.get("mlp_only_layers") else "decoder_sparse_step"
        raise read.error(
            key, "means that some layers have no experts, which is not simulated yet", "choose another model"
        )
    num_experts, each = read.positive("num_experts"), read.positive("num_experts_per_tok")
    if each > num_experts:
        raise read.error("num_experts_per_tok", f"is more than the {num_experts} experts", "correct the file")
    fields["intermediate_size"] = read.positive("moe_intermediate_size")
    return ExpertsSpec(**fields, num_experts=num_experts, experts_per_token=each)


class _Reader:
    """Typed access to a config, with errors that name the file and the key."""

    def __init__(self, config: Mapping[str, Any], source: str) -> None:
        self.config, self.source = config, source

    def error(self, key: str, wrong: str, mend: str) -> EstimatorError:
        return EstimatorError(f"{self.source}: {key}", self.config.get(key), wrong, mend)

    def positive(self, key: str) -> int:
        value = self.config.get(key)
        if key not in self.config:
            raise self.error(key, "is missing", "add the key")
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self.error(key, "is not a positive integer", "correct the file")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self.config.get(key, default)
        if not isinstance(value, bool):
            raise self.error(key, "is not true or false", "correct the file")
        return value

    def fraction(self, key: str, default: float) -> float:
        value = self.config.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
            raise self.error(key, "is not a number above 0 and up to 1", "correct the file")
        return float(value)


def _head_dim(read: _Reader, hidden: int, heads: int) -> int:
    if hidden % heads:
        raise read.error("hidden_size", f"is not a multiple of the {heads} heads", "add the key head_dim")
    return hidden // heads


_SUPPORTED = (
    "InternLMForCausalLM",
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "PhiForCausalLM",
    "Qwen2ForCausalLM",
    "Qwen3ForCausalLM",
    _QWEN_EXPERTS,
)


def _quantisation(read: _Reader) -> tuple[str | None, str | None]:
    """Types of weights and KV cache that the checkpoint fixes, None where it does not."""
    for key in ("quantization_config", "compression_config"):
        if table := read.config.get(key):
            return quantised_dtypes(table, f"{read.source}: {key}")
    return None, None


def _architecture(read: _Reader) -> str:
    names = read.config.get("architectures")
    if not isinstance(names, list) or len(names) != 1 or not isinstance(names[0], str):
        raise read.error("architectures", "is not a list of one name", "add the key, as in the model's own config.json")
    return names[0]


def _refuse_unsupported(read: _Reader, architecture: str) -> None:
    config, mend = read.config, "choose a dense model with full attention"
    for key in _EXPERT_KEYS:
        if config.get(key) and architecture != _QWEN_EXPERTS:
            raise read.error(key, "means a mixture of experts, which is not simulated yet", mend)
    if config.get("kv_lora_rank"):
        raise read.error("kv_lora_rank", "means latent attention (MLA), which is not simulated yet", mend)
    if architecture not in _SUPPORTED:
        raise read.error("architectures", "is not simulated yet", f"choose a model of {', '.join(_SUPPORTED)}")
    window, context = config.get("sliding_window"), config.get("max_position_embeddings")
    # The Qwen families switch the window off with a flag, off by default; Mistral switches it off with null.
    active = bool(window) and (config.get("use_sliding_window", False) if "Qwen" in architecture else True)
    if active and isinstance(window, int) and isinstance(context, int) and window >= context:
        active = False
    if active:
        raise read.error("sliding_window", "means windowed attention, which is not simulated yet", mend)
    if config.get("qk_layernorm"):
        raise read.error("qk_layernorm", "means a norm that is not simulated yet", mend)
