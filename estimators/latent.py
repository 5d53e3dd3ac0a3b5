"""Multi-head latent attention (MLA): keys and values of all heads come of one short vector for each token."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LatentAttention:
    """The widths of an MLA layer (DeepSeek-V2, https://arxiv.org/abs/2405.04434, section 2.1).

    The cache holds ``kv_lora_rank + qk_rope_head_dim`` numbers for each token and layer, whole on every GPU of a
    tensor-parallel engine.

    Attributes:
        q_lora_rank: width that queries are squeezed through, None where they are projected at once.
        kv_lora_rank: width of the latent vector of keys and values.
        qk_nope_head_dim: part of a head's query and key that is not rotated.
        qk_rope_head_dim: part that is; the key's is one for all heads.
        v_head_dim: width of a head's values.
    """

    q_lora_rank: int | None
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int

    @property
    def cached_width(self) -> int:
        """Numbers in the cache for each token and layer."""
        return self.kv_lora_rank + self.qk_rope_head_dim

    @property
    def qk_head_dim(self) -> int:
        """Width of a head's query."""
        return self.qk_nope_head_dim + self.qk_rope_head_dim
