"""Attention of the decodes at hand, and what it costs that their contexts are unequal.

With a skew part the tables say t = t(mean) + alpha * (t(longest) - t(mean)), see estimators.SkewLayout. Then the
replica's record also carries the extremes of the decodes' origins: entering decodes widen them, and when one of the two
leaves they are looked for again, but only when somebody needs them.
"""

import numpy as np

from fastsim.kernel.jit import jit
from fastsim.kernel.state import DECODE, NONE
from fastsim.kernel.tables import along_row, decode_time, joint_time, locate

#: Larger than any origin.
NEVER = 1 << 62


@jit()
def note_origin(replica, origin):
    """Widen the extremes to a decode that enters."""
    replica.share_until = 0
    if replica.num_decodes == 0:
        replica.smallest_origin = replica.largest_origin = origin
        replica.extremes_known = 1
    elif replica.extremes_known:
        replica.smallest_origin = min(replica.smallest_origin, origin)
        replica.largest_origin = max(replica.largest_origin, origin)


@jit()
def forget_origin(replica, origin):
    """Note that a decode leaves."""
    replica.share_until = 0
    if origin == replica.smallest_origin or origin == replica.largest_origin:
        replica.extremes_known = 0


@jit()
def find_extremes(requests, replica):
    """Make the extremes of the decodes at hand known; there is one at least."""
    if replica.extremes_known:
        return
    smallest, largest = replica.step, -NEVER
    i = replica.running_head
    while i != NONE:
        request = requests[i]
        if request.phase == DECODE and request.cohort == replica.slot:
            smallest = min(smallest, request.origin)
            largest = max(largest, request.origin)
        i = request.next
    replica.smallest_origin, replica.largest_origin = smallest, largest
    replica.extremes_known = 1


@jit(forceinline=True)
def row_time(tables, replica, requests, decodes, row):
    """`decodes_time` where it is known at which row of the tables so many decodes are read [s]."""
    if replica.has_skew:
        return decodes_time(tables, replica, requests, decodes)
    index, weight = locate(replica.decode_kv, replica.kv_bits)
    return along_row(tables, row, index, weight)


@jit(forceinline=True)
def decodes_time(tables, replica, requests, decodes):
    """Attention time of the decodes at hand, as many as are in the batch: all or none [s]."""
    seconds = decode_time(tables, replica, decodes, replica.decode_kv)
    if replica.has_skew and decodes > 1:
        find_extremes(requests, replica)
        if replica.smallest_origin != replica.largest_origin:
            longest = replica.step - replica.smallest_origin
            most_s = decode_time(tables, replica, decodes, decodes * longest)
            return skewed(seconds, most_s, share_of_decodes(tables, replica, longest))
    return seconds


@jit(forceinline=True)
def share_of_decodes(tables, replica, longest):
    """`skew_share` without a chunk: while the same decodes step together only the bin of the longest may change."""
    if longest > replica.share_until:
        replica.share = skew_share(tables, replica, 0, 0)
        edge = (
            replica.table_base
            + replica.skew_table
            + replica.skew_chunks
            + replica.skew_decodes
            + replica.skew_rates
            - 3
        )
        k = bin_of(tables, edge, replica.skew_contexts, longest)
        replica.share_until = np.int64(tables[edge + k]) if k < replica.skew_contexts - 1 else NEVER
    return replica.share


@jit()
def joint_decodes_time(tables, replica, requests, decodes):
    """Attention time of the decodes at hand together with the one chunk that stands for all chunks [s]."""
    chunk, history = replica.one_chunk, replica.chunk_history
    mean = (2 * replica.decode_kv + decodes) // (2 * decodes)
    seconds = joint_time(tables, replica, chunk, history, decodes, mean)
    if replica.has_skew and decodes > 1:
        find_extremes(requests, replica)
        if replica.smallest_origin != replica.largest_origin:
            most_s = joint_time(tables, replica, chunk, history, decodes, replica.step - replica.smallest_origin)
            return skewed(seconds, most_s, skew_share(tables, replica, chunk, history))
    return seconds


@jit()
def skewed(mean_s, most_s, share):
    """Time of unequal decodes, from those of decodes of mean and of largest length; never below half the former."""
    return max(0.5 * mean_s, mean_s + share * (most_s - mean_s))


@jit()
def skew_share(tables, replica, chunk, history):
    """How far the time of the decodes at hand lies on the way from that of their mean length to that of the longest."""
    decodes = replica.num_decodes
    longest, shortest = replica.step - replica.smallest_origin, replica.step - replica.largest_origin
    rate = (replica.decode_kv - decodes * shortest) / (decodes * (longest - shortest))
    edge = replica.table_base + replica.skew_table
    place = bin_of(tables, edge, replica.skew_chunks, chunk)
    edge += replica.skew_chunks - 1
    place = place * replica.skew_decodes + bin_of(tables, edge, replica.skew_decodes, decodes)
    edge += replica.skew_decodes - 1
    place = place * replica.skew_rates + bin_of(tables, edge, replica.skew_rates, rate)
    edge += replica.skew_rates - 1
    place = place * replica.skew_contexts + bin_of(tables, edge, replica.skew_contexts, longest)
    edge += replica.skew_contexts - 1
    place = place * replica.skew_histories + bin_of(tables, edge, replica.skew_histories, history)
    edge += replica.skew_histories - 1
    return tables[edge + place]


@jit()
def bin_of(tables, edge, bins, x):
    """The first of some bins whose upper edge, from tables[edge] on, is not below x; the last has none."""
    k = 0
    while k < bins - 1 and tables[edge + k] < x:
        k += 1
    return k
