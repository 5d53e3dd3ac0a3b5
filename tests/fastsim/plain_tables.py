"""Iteration tables whose times can be told without a computer."""

from typing import Any

import numpy as np

from estimators import IterationTables, TableLayout
from fastsim import SimulationConfig


def plain_tables(
    config: SimulationConfig, iteration_s: float, token_s: float = 0.0, provenance: dict[str, Any] | None = None
) -> IterationTables:
    """Every iteration takes iteration_s, and token_s for each of its tokens, whatever their contexts are.

    Args:
        config: must give its num_kv_blocks; the tables are just large enough for it.
        iteration_s: time per iteration [s].
        token_s: time per token of an iteration [s].
        provenance: as in IterationTables.
    """
    limits = config.batch_policy
    assert config.num_kv_blocks is not None
    axes = {
        "max_kv": min(config.num_kv_blocks * config.block_size, limits.max_num_seqs * config.max_model_len),
        "max_history": config.max_model_len,
        "max_chunk": min(limits.max_num_batched_tokens, config.max_model_len),
        "kv_bits": 0,
        "history_bits": 0,
        "chunk_bits": 0,
    }
    layout = TableLayout(limits.max_num_batched_tokens, limits.max_num_seqs, **axes)
    return IterationTables.from_arrays(
        token_s=iteration_s + token_s * np.arange(layout.max_tokens + 1),
        sequence_s=np.zeros(layout.max_sequences + 1),
        decode_s=np.zeros((layout.max_sequences + 1, layout.kv_points)),
        prefill_s=np.zeros((layout.history_points, layout.chunk_points)),
        provenance=provenance,
        **axes,
    )


def plain_config(max_num_seqs: int, max_num_batched_tokens: int, **fields: Any) -> SimulationConfig:
    """A configuration with KV blocks for everybody, unless fields say otherwise."""
    options = {"max_num_seqs": max_num_seqs, "max_num_batched_tokens": max_num_batched_tokens}
    given = {"max_model_len": 1024, "num_kv_blocks": 1 + 64 * max_num_seqs} | fields
    return SimulationConfig(scheduler_options=options, **given)
