"""Reading the iteration tables: one flat array of seconds, the layout of which each replica's record repeats.

The composition is documented in estimators.IterationTables: ((token + sequence) + decode) + prefill.

Places in arrays that every iteration or request reads are unsigned, here and elsewhere: for a signed one the machine
code asks whether it counts from the end.
"""

import numpy as np

from fastsim.kernel.jit import bit_length, bits_float, jit


@jit()
def locate(x, bits):
    """Place of the integer x >= 0 on a log axis of 2**bits steps per octave: index below, weight of the next."""
    shift = max(0, bit_length(x) - 1 - bits)
    # The float 2**-shift by its exponent: a product with it is the quotient to the last bit, and takes less time.
    return (shift << bits) + (x >> shift), (x & ((1 << shift) - 1)) * bits_float((1023 - shift) << 52)


@jit()
def along_row(tables, row, index, weight):
    """Linear interpolation between two points of the row that starts at tables[row] [s]."""
    low = tables[np.uintp(row + index)]
    return low + (tables[np.uintp(row + index + 1)] - low) * weight


@jit()
def base_time(tables, replica, num_tokens, num_sequences):
    """Time of an iteration without attention [s]."""
    base = replica.table_base
    token_s = tables[np.uintp(base + replica.token_table + num_tokens)]
    return token_s + tables[np.uintp(base + replica.sequence_table + num_sequences)]


@jit(forceinline=True)
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
    if history_weight == 0.0:  # of most prompts: all that come in one chunk
        return low
    return low + (along_row(tables, row + replica.prefill_stride, c, chunk_weight) - low) * history_weight


@jit()
def joint_time(tables, replica, chunk, history, decodes, context):
    """Attention time of one prefill chunk after history tokens and decodes that read context tokens each [s]."""
    place = replica.table_base + replica.joint_table
    c, chunk_weight = locate(chunk, replica.joint_chunk_bits)
    place += c * replica.joint_chunk_stride
    low = joint_plane(tables, replica, place, history, decodes, context)
    high = joint_plane(tables, replica, place + replica.joint_chunk_stride, history, decodes, context)
    return low + (high - low) * chunk_weight


@jit()
def joint_plane(tables, replica, place, history, decodes, context):
    """`joint_time` at one point of the chunk axis, whose part of the tables begins at place [s]."""
    h, history_weight = locate(history, replica.joint_history_bits)
    n, decode_weight = locate(decodes, replica.joint_decode_bits)
    x, weight = locate(context, replica.joint_context_bits)
    stride = replica.joint_decode_stride
    row = place + h * replica.joint_history_stride + n * stride
    low = along_row(tables, row, x, weight)
    low += (along_row(tables, row + stride, x, weight) - low) * decode_weight
    row += replica.joint_history_stride
    high = along_row(tables, row, x, weight)
    high += (along_row(tables, row + stride, x, weight) - high) * decode_weight
    return low + (high - low) * history_weight


@jit()
def note_chunk(replica, history, chunk):
    """Note the largest values read."""
    replica.peak_history = max(replica.peak_history, history)
    replica.peak_chunk = max(replica.peak_chunk, chunk)
    if history > replica.profiled_history or chunk > replica.profiled_chunk:
        replica.outside = 1


@jit()
def count_outside(replica, decodes):
    """Count the batch just formed, of so many decodes and its chunks, if it reads tables beyond what was measured."""
    tokens, sequences = decodes + replica.chunk_tokens, decodes + replica.num_chunks
    beyond = tokens > replica.profiled_tokens or sequences > replica.profiled_sequences
    if beyond or decodes > replica.profiled_decodes or replica.outside:
        replica.outside_batches += 1
        replica.outside = 0
