"""How often, and for how long, batches had so many requests and tokens, under ``record_metrics``.

``integers[replica.visits]`` begins histograms for all replicas together, of two integers for each number: how many
batches had it, and their seconds; the place is 0 where nothing is recorded. First come batches of decodes alone by
their number; then, of batches with chunks, those by requests, by decodes, by tokens, and by tokens of the chunks. In a
leap the decodes stay the same, so it is one entry. All else that a batch reads of the tables are two sums, of the
attention of decodes and of chunks; where the table of both together is read, its time is that of the chunks.
"""

import numpy as np

from fastsim.kernel.jit import bits_float, float_bits, jit

#: The histograms, in order.
DECODES_ALONE, SEQUENCES, DECODES, TOKENS, CHUNK_TOKENS = range(5)


def visits_size(max_sequences: int, max_tokens: int) -> int:
    """Integers of all histograms."""
    return 6 * (max_sequences + 1) + 4 * (max_tokens + 1)


@jit()
def visit(integers, entry, count, seconds):
    """Add to an entry of a histogram."""
    integers[np.uintp(entry)] += count
    place = np.uintp(entry + 1)
    integers[place] = float_bits(bits_float(integers[place]) + seconds)


@jit()
def visit_batch(replica, integers, decodes, seconds):
    """Count the batch at hand, with so many decodes in it, which takes some seconds (with stages on the first)."""
    if replica.num_chunks == 0:
        visit(integers, replica.visits + 2 * decodes, 1, seconds)
        return
    by_sequences = 2 * (replica.visited_sequences + 1)
    sequences = replica.visits + by_sequences
    visit(integers, sequences + 2 * (decodes + replica.num_chunks), 1, seconds)
    visit(integers, sequences + by_sequences + 2 * decodes, 1, seconds)
    tokens = sequences + 2 * by_sequences
    visit(integers, tokens + 2 * (decodes + replica.chunk_tokens), 1, seconds)
    visit(integers, tokens + 2 * (replica.visited_tokens + 1) + 2 * replica.chunk_tokens, 1, seconds)


@jit()
def visit_leap(replica, integers, decodes, first_iteration, base_s, attention_s):
    """Count iterations of decodes alone, from a first one on: each takes base_s, and all together attention_s [s]."""
    if replica.visits > 0:
        count = replica.iteration - first_iteration
        visit(integers, replica.visits + 2 * decodes, count, count * base_s + attention_s)
        replica.decode_attention_s += attention_s


@jit()
def count_attention(replica, place):
    """Add the attention of the batch at hand to the sums in a REPLICA or STAGE record."""
    place.decode_attention_s += replica.batch_decode_s
    place.prefill_attention_s += replica.batch_prefill_s
