"""Composes Vidur's per-operator tables into what its event loop reads; sums that depend on one key are taken here."""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from estimators.vidur_tables import CPU_OPERATORS
from fastsim.errors import ConfigError
from fastsim.kernel.vidur import state as states

if TYPE_CHECKING:
    from estimators import ModelSpec
    from estimators.vidur_tables import OperatorTables
    from fastsim.config import SimulationConfig
    from fastsim.vidur.options import VidurParity

Floats = npt.NDArray[np.float64]


def needed_operators(config: "SimulationConfig", model: "ModelSpec") -> tuple[str, ...]:
    """Operators by tokens that a configuration reads, in Vidur's order."""
    names = ["attn_pre_proj", "attn_post_proj", "attn_rope", "attn_kv_cache_save"]
    names += ["all_reduce"] * (config.tensor_parallel > 1) + ["input_layernorm", "mlp_up_proj", "mlp_down_proj"]
    names += ["mlp_act"] + ["post_attention_layernorm"] * (not model.parallel_attention_mlp) + ["add"]
    return (*names, *["send_recv"] * (config.pipeline_parallel > 1))


def compose(
    tables: "OperatorTables",
    config: "SimulationConfig",
    model: "ModelSpec",
    options: "VidurParity",
    num_requests: int,
) -> states.Tables:
    """The kernel's tables; the order of the additions is Vidur's.

    Args:
        tables: milliseconds by operator.
        config: what serves.
        model: its model.
        options: its parity options.
        num_requests: of the run; no batch has more.

    Raises:
        ConfigError: the tables lack an operator or have another granularity.
    """
    if tables.kv_granularity != options.kv_cache_prediction_granularity:
        raise ConfigError(
            "parity.kv_cache_prediction_granularity",
            options.kv_cache_prediction_granularity,
            f"is not that of the tables, {tables.kv_granularity}",
            "give the same",
        )
    names = needed_operators(config, model)
    for name in names:
        if name not in tables.token_ms:
            raise ConfigError("tables", None, f"lack the operator {name}", "take tables made for this model and tp")
    size = max(len(tables.token_ms[name]) for name in names)
    ms = {name: _padded(tables.token_ms[name], size) for name in names}
    zero = np.zeros(size)
    all_reduce = zero
    if config.tensor_parallel > 1:
        skew = options.nccl_cpu_skew_overhead_per_device_ms * config.tensor_parallel**1.25
        all_reduce = ms["all_reduce"] + options.nccl_cpu_launch_overhead_ms + skew
    rows = {
        states.HEAD: ms["attn_pre_proj"] + ms["attn_post_proj"] + ms["attn_rope"],
        states.KV_SAVE: ms["attn_kv_cache_save"],
        states.ALL_REDUCE: all_reduce,
        states.NORM: ms["input_layernorm"],
        states.MLP: ms["mlp_up_proj"]
        + ms["mlp_down_proj"]
        + ms["mlp_act"]
        + all_reduce
        + ms.get("post_attention_layernorm", zero),
        states.ADD: ms["add"],
        states.SEND: ms.get("send_recv", zero),
    }
    decode = tables.decode_ms.copy()
    decode[2:] *= decode_factor(model, options)
    return states.Tables(
        token_ms=np.stack([rows[row] for row in range(len(rows))]),
        decode_ms=decode,
        prefill_ms=tables.prefill_ms.copy(),
        cpu_s=_cpu_s(tables) if tables.cpu_ms else np.zeros(num_requests + 1),
    )


def decode_factor(model: "ModelSpec", options: "VidurParity") -> float:
    """What the attention of several decodes is multiplied with."""
    return 1 + options.attention_decode_batching_overhead_fraction * (model.num_kv_heads < model.num_q_heads)


def prefill_factor(model: "ModelSpec", options: "VidurParity") -> float:
    """What the attention of several chunks is multiplied with."""
    return 1 + options.attention_prefill_batching_overhead_fraction * (model.num_kv_heads < model.num_q_heads)


def missing_entry(
    tables: "OperatorTables", config: "SimulationConfig", model: "ModelSpec", state: states.State
) -> ConfigError:
    """The error about a batch that has no time: the first operator without an entry, and the key it was asked for."""
    cluster = state.cluster[0]
    batch, granularity = state.work.batches[cluster["failed_batch"]], tables.kv_granularity
    exact, decodes, chunks = int(batch["num_tokens"]), int(batch["num_decodes"]), int(batch["num_chunks"])
    context = -(-(int(batch["decode_kv"]) // max(decodes, 1)) // granularity) * granularity
    chunk = round(float(np.sqrt(float(batch["chunk_squares"]))))
    history, members = int(batch["prefill_kv"]), int(state.work.lists[batch["members"]]["length"])
    asked: list[tuple[str, Floats, tuple[int, ...], tuple[int, ...]]] = []
    for name in needed_operators(config, model):
        tokens = exact if name == "attn_kv_cache_save" else -(-exact // 8) * 8
        asked.append((name, tables.token_ms[name], (tokens,), (tokens,)))
    if decodes:
        asked.append(("attn_decode", tables.decode_ms, (decodes, context // granularity), (decodes, context)))
    if chunks:
        asked.append(("attn_prefill", tables.prefill_ms, (history // granularity, chunk), (history, chunk**2)))
    asked += [(name, table, (members,), (members,)) for name, table in tables.cpu_ms.items()]
    for name, table, place, key in asked:
        if any(index >= length for index, length in zip(place, table.shape, strict=True)) or np.isnan(table[place]):
            shown = key[0] if len(key) == 1 else key
            return ConfigError(
                "tables",
                None,
                f"have no entry {shown} of {name}, which a batch of {members} requests and {exact} tokens asks for "
                "(Vidur dies of this)",
                "give larger tables (parity.prediction_max_*), or lower the limits of the scheduler",
            )
    raise AssertionError("every operator has a time")  # the kernel found one that has none


def _cpu_s(tables: "OperatorTables") -> Floats:
    """Seconds of the host by requests of a batch."""
    size = max(len(table) for table in tables.cpu_ms.values())
    total = np.zeros(size)
    for name in CPU_OPERATORS:
        total = total + _padded(tables.cpu_ms[name], size)
    return total * 1e-3


def _padded(values: Any, size: int) -> Floats:
    return np.concatenate([values, np.full(size - len(values), np.nan)])
