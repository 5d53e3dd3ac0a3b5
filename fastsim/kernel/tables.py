"""Reading the iteration tables: one flat array of seconds, the layout of which each replica's record repeats.

The composition is documented in estimators.IterationTables: ((token + sequence) + decode) + prefill.
"""

import math

import numpy as np

from fastsim.kernel.jit import bit_length, jit
from fastsim.kernel.state import RULE_EQUIVALENT_CHUNK, RULE_SUM


@jit()
def locate(x, bits):
    """Place of the integer x >= 0 on a log axis of 2**bits steps per octave: index below, weight of the next."""
    shift = max(0, bit_length(x) - 1 - bits)
    return (shift << bits) + (x >> shift), (x & ((1 << shift) - 1)) / float(1 << shift)


@jit()
def along_row(tables, row, index, weight):
    """Linear interpolation between two points of the row that starts at tables[row] [s]."""
    low = tables[row + index]
    return low + (tables[row + index + 1] - low) * weight


@jit()
def base_time(tables, replica, num_tokens, num_sequences):
    """Time of an iteration without attention [s]."""
    base = replica.table_base
    return tables[base + replica.token_table + num_tokens] + tables[base + replica.sequence_table + num_sequences]


@jit()
def decode_time(tables, replica, num_decodes, kv):
    """Attention time of num_decodes decodes that read kv tokens in all [s]."""
    if num_decodes == 0:
        return 0.0
    index, weight = locate(kv, replica.kv_bits)
    return along_row(tables, decode_row(replica, num_decodes), index, weight)


@jit()
def decode_row(replica, num_decodes):
    """Where the row of so many decodes begins in the tables."""
    return replica.table_base + replica.decode_table + num_decodes * replica.decode_stride


@jit()
def chunk_time(tables, replica, history, chunk):
    """Attention time of one prefill chunk after history tokens [s]."""
    h, history_weight = locate(history, replica.history_bits)
    c, chunk_weight = locate(chunk, replica.chunk_bits)
    row = replica.table_base + replica.prefill_table + h * replica.prefill_stride
    low = along_row(tables, row, c, chunk_weight)
    return low + (along_row(tables, row + replica.prefill_stride, c, chunk_weight) - low) * history_weight


@jit(forceinline=True)
def prefill_time(tables, replica, requests, integers):
    """Attention time of all chunks of the batch being formed [s]; their tokens are not yet counted as computed.

    Sums up the chunks' tokens and (query, key) pairs, and notes the largest values read.
    """
    total = 0.0
    pairs = 0.0
    histories = 0
    squares = 0
    replica.num_chunks = 0
    replica.chunk_tokens = 0
    for prefill in range(replica.prefills, replica.prefills + 2 * replica.num_prefills, 2):
        chunk = integers[prefill + 1]
        history = np.int64(requests[integers[prefill]].computed)
        if chunk == 0:
            continue
        replica.num_chunks += 1
        replica.chunk_tokens += chunk
        pairs += chunk * (history + 0.5 * (chunk + 1))
        histories += history
        squares += chunk * chunk
        if replica.prefill_rule == RULE_SUM:
            total += read_chunk(tables, replica, history, chunk)
    replica.chunk_pairs = pairs
    if replica.prefill_rule == RULE_EQUIVALENT_CHUNK and squares > 0:
        total = read_chunk(tables, replica, histories, np.int64(np.rint(math.sqrt(float(squares)))))
    return total


@jit()
def read_chunk(tables, replica, history, chunk):
    """`chunk_time`, noting the largest values read."""
    replica.peak_history = max(replica.peak_history, history)
    replica.peak_chunk = max(replica.peak_chunk, chunk)
    return chunk_time(tables, replica, history, chunk)
