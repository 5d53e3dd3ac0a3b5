"""The matrix products of a layer, from the figures of a model: their widths on one of the GPUs that share it."""

from __future__ import annotations

from typing import Any


def layer_products(
    hidden: Any, head_dim: Any, q_heads: Any, kv_heads: Any, up: Any, inner: Any
) -> dict[str, tuple[Any, Any]]:
    """Width of the result and of the sum, ``(n, k)``, of the four products of a dense layer.

    All are numbers, or all are expressions of a data frame.

    Args:
        hidden: numbers of a token between layers.
        head_dim: of a head.
        q_heads: query heads on this GPU.
        kv_heads: key and value heads on this GPU.
        up: columns of the product into the MLP on this GPU, gate included.
        inner: numbers of a token inside the MLP on this GPU.

    Returns:
        By ``"qkv"``, ``"output"``, ``"up"`` and ``"down"``.
    """
    return {
        "qkv": ((q_heads + 2 * kv_heads) * head_dim, hidden),
        "output": (hidden, q_heads * head_dim),
        "up": (up, hidden),
        "down": (hidden, inner),
    }
