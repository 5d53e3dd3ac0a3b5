"""Cohorts: decodes that step together. One stage has one cohort; with pipeline stages each batch in flight has its own.

The functions of the other modules always work on the cohort at hand, whose numbers are in the replica's record. Each
cohort has a *slot* of the integer pool: those in flight, the one at hand, and the one on the bench. There are first its
numbers (below), then its calendar of completions, its block crossings, its fresh decodes, and its *chunks*: three
integers for each member that is not a decode of the cohort, or no longer: the request, whether the batch yields a token
for it, and how often it had been preempted when the batch was formed, which tells who has been preempted meanwhile.
Where requests are noted, the stack of `fastsim.kernel.notes` comes last.
All functions modify their arguments in place; ``replica`` is one REPLICA record.
"""

from fastsim.kernel.jit import bits_float, float_bits, jit
from fastsim.kernel.notes import settle_gap

#: Places within a slot, and where its calendar begins. END_S and MEMBERS are of a batch in flight only, those after
#: them of `fastsim.kernel.own_slots` only.
STEP, DECODES, DECODE_KV, FRESH, LAST_STEP_END_S, ASKED, CHUNKS, END_S, MEMBERS = range(9)
FULL, CHUNKED, RUNNING_HEAD, RUNNING_TAIL, RUNNING, RUNNING_TOKENS, LONG_OUTPUTS = range(9, 16)
HEADER = 16


@jit()
def slot_place(replica, slot):
    """Where a slot begins in the integer pool."""
    return replica.slots + slot * replica.slot_size


@jit()
def store_cohort(replica, integers):
    """Write the numbers of the cohort at hand into its slot."""
    if replica.notes > 0:
        settle_gap(replica, integers)
    place = slot_place(replica, replica.slot)
    integers[place + STEP] = replica.step
    integers[place + DECODES] = replica.num_decodes
    integers[place + DECODE_KV] = replica.decode_kv
    integers[place + FRESH] = replica.num_fresh
    integers[place + LAST_STEP_END_S] = float_bits(replica.last_step_end_s)
    integers[place + ASKED] = replica.asked


@jit()
def load_cohort(replica, integers, slot):
    """Make the cohort in a slot the one at hand; the one before must have been stored, or be empty."""
    place = slot_place(replica, slot)
    replica.slot = slot
    replica.step = integers[place + STEP]
    replica.num_decodes = integers[place + DECODES]
    replica.decode_kv = integers[place + DECODE_KV]
    replica.num_fresh = integers[place + FRESH]
    replica.last_step_end_s = bits_float(integers[place + LAST_STEP_END_S])
    replica.asked = integers[place + ASKED]
    replica.extremes_known = replica.share_until = 0
    point_at_slot(replica)


@jit()
def point_at_slot(replica):
    """Set where the parts of the cohort at hand begin."""
    replica.calendar = slot_place(replica, replica.slot) + HEADER
    replica.crossings = replica.calendar + replica.calendar_mask + 1
    replica.fresh = replica.crossings + replica.block_size
    replica.chunks = replica.fresh + replica.max_num_seqs
    replica.stack = replica.chunks + 3 * replica.max_num_seqs


@jit()
def switch_cohort(replica, integers, slot):
    """Put the cohort at hand away, and take up that in a slot."""
    store_cohort(replica, integers)
    load_cohort(replica, integers, slot)


@jit()
def take_slot(replica, integers):
    """A free slot, no longer free; it holds an empty cohort."""
    count = integers[replica.free_slots] - 1
    integers[replica.free_slots] = count
    return integers[replica.free_slots + 1 + count]


@jit()
def free_slot(replica, integers, slot):
    """Give a slot back whose cohort is empty."""
    count = integers[replica.free_slots]
    integers[replica.free_slots + 1 + count] = slot
    integers[replica.free_slots] = count + 1


@jit()
def note_in_flight(replica, integers, i, preemptions, yields):
    """Add request i to the chunks of the slot at hand."""
    place = slot_place(replica, replica.slot) + CHUNKS
    chunk = replica.chunks + 3 * integers[place]
    integers[place] += 1
    integers[chunk] = i
    integers[chunk + 1] = yields
    integers[chunk + 2] = preemptions
