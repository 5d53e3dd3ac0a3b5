"""Families of models, by the architecture that their ``config.json`` names: what it leaves unsaid.

Each is as its classes in Hugging Face's ``transformers`` have it (``configuration_*.py`` for the defaults,
``modeling_*.py`` for biases and norms).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from estimators import hf_experts
from estimators.config_reader import ConfigReader
from estimators.experts import Experts


@dataclass(frozen=True)
class Family:
    """What the models of an architecture have in common.

    Attributes:
        defaults: what the configuration class fills in where a key is missing.
        kv_heads: the number of key/value heads must be stated, since the class fills in one of its own.
        always: fields of ``ModelSpec`` that all of them share.
        bias: key that says whether all four projections of the attention add biases.
        qkv_bias: key that says so of query, key and value alone.
        mlp_bias: key that says so of the MLP.
        joined_mlp: ``intermediate_size`` counts the outputs of gate and up projection together.
        experts: reads the mixture of experts.
        latent: the attention is latent.
        pattern: every so manieth layer has full attention and the others the window, if there is one and no key says
            otherwise; 0: all have the window.
    """

    defaults: Mapping[str, Any] = field(default_factory=dict)
    kv_heads: bool = False
    always: Mapping[str, bool] = field(default_factory=dict)
    bias: str = "attention_bias"
    qkv_bias: str | None = None
    mlp_bias: str = "mlp_bias"
    joined_mlp: bool = False
    experts: Callable[[ConfigReader, int], Experts] | None = None
    latent: bool = False
    pattern: int = 0


_QWEN_WINDOW = {"sliding_window": 4096, "use_sliding_window": False, "max_window_layers": 28}
_GEMMA = {"tie_word_embeddings": True, "head_dim": 256}
_GEMMA_3 = _GEMMA | {
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "vocab_size": 262208,
    "max_position_embeddings": 131072,
    "sliding_window": 4096,
}
_PHI = ("qkv_bias", "output_bias", "mlp_bias", "lm_head_bias", "norm_bias", "parallel_attention_mlp")
_QWEN_2 = Family(kv_heads=True, defaults=_QWEN_WINDOW, always={"qkv_bias": True, "output_bias": False})
_QWEN_3 = Family(kv_heads=True, defaults=_QWEN_WINDOW, always={"qk_norm": True})
_DEEPSEEK = Family(latent=True, experts=hf_experts.deepseek)

FAMILIES: Mapping[str, Family] = {
    "DeepseekV2ForCausalLM": _DEEPSEEK,
    "DeepseekV3ForCausalLM": _DEEPSEEK,
    "GemmaForCausalLM": Family(kv_heads=True, defaults=_GEMMA),
    "Gemma2ForCausalLM": Family(
        kv_heads=True, defaults=_GEMMA | {"sliding_window": 4096}, always={"sandwich_norms": True}, pattern=2
    ),
    "Gemma3ForCausalLM": Family(defaults=_GEMMA_3, always={"sandwich_norms": True, "qk_norm": True}, pattern=6),
    "GptOssForCausalLM": Family(
        kv_heads=True,
        defaults={"head_dim": 64, "attention_bias": True, "sliding_window": 128},
        always={"attention_sinks": True},
        experts=hf_experts.gpt_oss,
        pattern=2,
    ),
    "InternLMForCausalLM": Family(defaults={"bias": True}, bias="bias"),
    "InternLM2ForCausalLM": Family(defaults={"bias": True}, bias="bias"),
    "InternLM3ForCausalLM": Family(bias="bias", qkv_bias="qkv_bias", mlp_bias="bias"),
    "LlamaForCausalLM": Family(),
    "MiMoForCausalLM": _QWEN_2,
    "MiniMaxM2ForCausalLM": Family(kv_heads=True, experts=hf_experts.minimax),
    "MistralForCausalLM": Family(kv_heads=True, defaults={"sliding_window": 4096}),
    "MixtralForCausalLM": Family(kv_heads=True, experts=hf_experts.mixtral),
    "PhiForCausalLM": Family(
        defaults={"partial_rotary_factor": 0.5}, always={"gated_mlp": False} | dict.fromkeys(_PHI, True)
    ),
    "Phi3ForCausalLM": Family(),
    "QWenLMHeadModel": Family(joined_mlp=True, always={"qkv_bias": True}),
    "Qwen2ForCausalLM": _QWEN_2,
    "Qwen3ForCausalLM": _QWEN_3,
    "Qwen3MoeForCausalLM": replace(_QWEN_3, experts=hf_experts.qwen_3),
}

#: Models that see images, too: what their ``text_config`` is. Only this is simulated, and only this is weighed.
TEXT_MODELS: Mapping[str, str] = {
    "Gemma3ForConditionalGeneration": "Gemma3ForCausalLM",
    "KimiK25ForConditionalGeneration": "DeepseekV3ForCausalLM",
    "Qwen3VLForConditionalGeneration": "Qwen3ForCausalLM",
    "Qwen3VLMoeForConditionalGeneration": "Qwen3MoeForCausalLM",
}
