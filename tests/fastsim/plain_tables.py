"""Iteration tables whose times can be told without a computer."""

from typing import Any

import numpy as np

from estimators import IterationTables, TableLayout
from fastsim import SimulationConfig
from fastsim.batch_policy import Pool


def plain_tables(
    config: SimulationConfig,
    iteration_s: float,
    token_s: float = 0.0,
    provenance: dict[str, Any] | None = None,
    prefill_rule: str = "sum",
    **axes: int,
) -> IterationTables:
    """Every iteration takes iteration_s, and token_s for each of its tokens, whatever their contexts are.

    Args:
        config: must give its num_kv_blocks.
        iteration_s: time per iteration [s].
        token_s: time per token of an iteration [s].
        provenance: as in IterationTables.
        prefill_rule: as in IterationTables.
        axes: fields of TableLayout that differ from what config just needs.
    """
    limits = config.batch_policy
    assert config.num_kv_blocks is not None
    pool = Pool(config.num_kv_blocks - limits.null_blocks, config.block_size, config.max_model_len)
    most_tokens = limits.most_tokens(pool)
    sizes = {
        "max_tokens": most_tokens,
        "max_sequences": limits.max_num_seqs,
        "max_kv": min(pool.num_blocks * pool.block_size, limits.max_num_seqs * config.max_model_len),
        "max_history": config.max_model_len,
        "max_chunk": min(most_tokens, config.max_model_len),
    }
    layout = TableLayout(**(sizes | {"kv_bits": 0, "history_bits": 0, "chunk_bits": 0} | axes))
    values = np.zeros(layout.size)
    values[: layout.sequence_offset] = iteration_s + token_s * np.arange(layout.max_tokens + 1)
    return IterationTables(values, layout, prefill_rule, provenance or {})


def plain_config(max_num_seqs: int, max_num_batched_tokens: int, **fields: Any) -> SimulationConfig:
    """A configuration with KV blocks for everybody, unless fields say otherwise."""
    options = {"max_num_seqs": max_num_seqs, "max_num_batched_tokens": max_num_batched_tokens}
    given = {"max_model_len": 1024, "num_kv_blocks": 1 + 64 * max_num_seqs} | fields
    return SimulationConfig(scheduler_options=options, **given)
