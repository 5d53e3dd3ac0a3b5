"""How long the batch being formed takes in the model; its chunks are not yet counted as computed."""

import math

import numpy as np

from fastsim.kernel.jit import jit
from fastsim.kernel.skew import decodes_time, joint_decodes_time
from fastsim.kernel.state import RULE_EQUIVALENT_CHUNK, RULE_JOINT, RULE_SUM
from fastsim.kernel.tables import base_time, chunk_time, note_chunk


@jit(forceinline=True)
def batch_time(tables, replica, requests, integers, decodes, padded=0):
    """Time of the batch being formed, with so many decodes in it, without copies of swapped KV [s].

    Sums up the chunks' number, tokens and (query, key) pairs, and notes the largest values read. The table of tokens is
    read at the batch's own number or, if that is more, at padded.
    """
    prefill_s = sum_chunks(tables, replica, requests, integers)
    decode_s = 0.0
    if replica.prefill_rule != RULE_JOINT or replica.num_chunks == 0:
        decode_s = decodes_time(tables, replica, requests, decodes)
    elif decodes == 0:
        prefill_s = chunk_time(tables, replica, replica.chunk_history, replica.one_chunk)
    else:
        prefill_s = joint_decodes_time(tables, replica, requests, decodes)
    num_tokens = max(decodes + replica.chunk_tokens, padded)
    base_s = base_time(tables, replica, num_tokens, decodes + replica.num_chunks)
    replica.batch_decode_s, replica.batch_prefill_s = decode_s, prefill_s
    return base_s + decode_s + prefill_s


@jit(forceinline=True)
def sum_chunks(tables, replica, requests, integers):
    """Sum up the chunks of the batch; returns their attention time, or 0 where that depends on the decodes [s]."""
    total = 0.0
    pairs = 0.0
    histories = 0
    squares = 0
    products = 0
    replica.num_chunks = 0
    replica.chunk_tokens = 0
    for prefill in range(replica.prefills, replica.prefills + 2 * replica.num_prefills, 2):
        chunk = integers[np.uintp(prefill + 1)]
        history = np.int64(requests[np.uintp(integers[np.uintp(prefill)])].computed)
        if chunk == 0:
            continue
        replica.num_chunks += 1
        replica.chunk_tokens += chunk
        pairs += chunk * (history + 0.5 * (chunk + 1))
        histories += history
        squares += chunk * chunk
        products += chunk * history
        if replica.prefill_rule == RULE_SUM:
            total += read_chunk(tables, replica, history, chunk)
    replica.chunk_pairs = pairs
    if replica.prefill_rule == RULE_EQUIVALENT_CHUNK and squares > 0:
        total = read_chunk(tables, replica, histories, np.int64(np.rint(math.sqrt(float(squares)))))
    if replica.prefill_rule == RULE_JOINT and replica.num_chunks > 0:
        replica.one_chunk = replica.chunk_tokens
        replica.chunk_history = products // replica.chunk_tokens
        note_chunk(replica, replica.chunk_history, replica.one_chunk)
    return total


@jit()
def read_chunk(tables, replica, history, chunk):
    """`chunk_time`, noting the largest values read."""
    note_chunk(replica, history, chunk)
    return chunk_time(tables, replica, history, chunk)
