"""The time of a batch from Vidur's per-operator tables; the order of the additions is Vidur's. Milliseconds inside."""

import math

import numpy as np

from fastsim.kernel.jit import jit
from fastsim.kernel.vidur.members import round_up
from fastsim.kernel.vidur.state import ADD, ALL_REDUCE, HEAD, KV_SAVE, MLP, NORM, SEND


@jit()
def read(table, row, column):
    """An entry of a table, or NaN beyond its end."""
    if row >= table.shape[0] or column >= table.shape[1]:
        return math.nan
    return table[row, column]


@jit()
def mean_kv(batch, granularity):
    """Key of the decodes: their mean context, cut to an integer, rounded up [tokens]."""
    return round_up(np.int64(batch.decode_kv / batch.num_decodes), granularity) if batch.num_decodes > 0 else 0


@jit()
def root_chunk(batch):
    """Key of the chunks: root of the sum of their squares, rounded half to even [tokens]."""
    return np.int64(np.rint(math.sqrt(batch.chunk_squares)))


@jit()
def layer_ms(batch, tables, granularity, prefill_factor):
    """One layer of a stage [ms]; NaN where a table has no entry."""
    tokens = round_up(batch.num_tokens, 8)
    decode_ms = 0.0
    if batch.num_decodes > 0:
        decode_ms = read(tables.decode_ms, batch.num_decodes, mean_kv(batch, granularity) // granularity)
    prefill_ms = 0.0
    if batch.num_chunks > 0:
        prefill_ms = read(tables.prefill_ms, batch.prefill_kv // granularity, root_chunk(batch))
        if batch.num_chunks > 1:
            prefill_ms *= prefill_factor
    attention = read(tables.token_ms, HEAD, tokens) + read(tables.token_ms, KV_SAVE, batch.num_tokens)
    attention = attention + decode_ms + prefill_ms
    attention = attention + read(tables.token_ms, ALL_REDUCE, tokens) + read(tables.token_ms, NORM, tokens)
    return attention + read(tables.token_ms, MLP, tokens) + read(tables.token_ms, ADD, tokens)


@jit()
def time_stage(work, cluster, replica, batch, tables, stage):
    """Write the time of a stage run into its batch; returns whether the tables have one [s]."""
    if stage == 0:
        batch.layer_ms = layer_ms(batch, tables, replica.kv_granularity, cluster.prefill_factor)
        num_members = work.lists[batch.members].length
        batch.cpu_s = tables.cpu_s[num_members] if num_members < tables.cpu_s.size else math.nan
    send_ms = 0.0
    if stage < cluster.num_stages - 1:
        send_ms = read(tables.token_ms, SEND, round_up(batch.num_tokens, 8))
    batch.model_s = (batch.layer_ms * cluster.layers + send_ms) * 1e-3
    batch.total_s = batch.model_s + batch.cpu_s
    return not math.isnan(batch.total_s)
