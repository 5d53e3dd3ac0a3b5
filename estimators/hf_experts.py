"""The mixture of experts that a ``config.json`` describes; every family has words of its own for it."""

from __future__ import annotations

from estimators.config_reader import ConfigReader
from estimators.experts import Experts


def mixtral(read: ConfigReader, layers: int) -> Experts:
    """Of Mixtral: in every layer."""
    return Experts(*_routed(read, "num_local_experts"), read.positive("intermediate_size"))


def gpt_oss(read: ConfigReader, layers: int) -> Experts:
    """Of gpt-oss: in every layer, with biases."""
    width = read.positive("intermediate_size")
    return Experts(*_routed(read, "num_local_experts"), width, bias=True, router_bias=True)


def minimax(read: ConfigReader, layers: int) -> Experts:
    """Of MiniMax-M2: in every layer."""
    return Experts(
        *_routed(read, "num_local_experts"),
        read.positive("intermediate_size"),
        read.count("shared_intermediate_size"),
        router_bias=read.flag("use_routing_bias", False),
    )


def qwen_3(read: ConfigReader, layers: int) -> Experts:
    """Of Qwen3: in every ``decoder_sparse_step``-th layer but those of ``mlp_only_layers``."""
    step = read.positive("decoder_sparse_step") if read.has("decoder_sparse_step") else 1
    dense = set(read.indices("mlp_only_layers")) | {i for i in range(layers) if (i + 1) % step}
    return Experts(
        *_routed(read, "num_experts"), read.positive("moe_intermediate_size"), dense_layers=_some(read, dense, layers)
    )


def deepseek(read: ConfigReader, layers: int) -> Experts:
    """Of DeepSeek-V2, V3 and Kimi-K2: from layer ``first_k_dense_replace`` on, with shared experts."""
    step = read.positive("moe_layer_freq") if read.has("moe_layer_freq") else 1
    dense = {i for i in range(layers) if i < read.count("first_k_dense_replace") or i % step}
    width = read.positive("moe_intermediate_size")
    return Experts(
        *_routed(read, "n_routed_experts"),
        width,
        read.count("n_shared_experts") * width,
        _some(read, dense, layers),
        # Balances the load without a loss: a bias for the choice of experts.
        router_bias=read.config.get("topk_method") == "noaux_tc",
    )


def _routed(read: ConfigReader, key: str) -> tuple[int, int]:
    """Number of experts, and how many of them a token is routed to."""
    experts, each = read.positive(key), read.positive("num_experts_per_tok")
    if each > experts:
        raise read.error("num_experts_per_tok", f"is more than the {experts} experts", "correct the file")
    return experts, each


def _some(read: ConfigReader, dense: set[int], layers: int) -> tuple[int, ...]:
    """Dense layers, ascending; not all may be."""
    found = tuple(sorted(layer for layer in dense if layer < layers))
    if len(found) == layers:
        raise read.error("num_hidden_layers", "leaves no layer with experts", "correct the file")
    return found
