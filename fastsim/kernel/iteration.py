"""One replica's iterations: starting one, finishing it, and leaping over those in which nothing happens."""

from fastsim.kernel.blocks import blocks_to_decode
from fastsim.kernel.histogram import bucket
from fastsim.kernel.jit import jit
from fastsim.kernel.running import complete, complete_due, join_decodes
from fastsim.kernel.state import NONE
from fastsim.kernel.tables import along_row, base_time, decode_time, locate, prefill_time


@jit()
def start(requests, replica, integers, tables):
    """Start the iteration that the batch policy has formed: its duration is known from here on."""
    prefill_s = prefill_time(tables, replica, requests, integers)
    num_tokens = replica.num_decodes + replica.chunk_tokens
    num_sequences = replica.num_decodes + replica.num_prefills
    decode_s = decode_time(tables, replica, replica.num_decodes, replica.decode_kv)
    replica.iteration_s = base_time(tables, replica, num_tokens, num_sequences) + decode_s + prefill_s
    replica.in_flight = 1
    replica.peak_batch_tokens = max(replica.peak_batch_tokens, num_tokens)
    replica.peak_sequences = max(replica.peak_sequences, num_sequences)


@jit()
def finish(requests, replica, integers):
    """Finish the iteration in flight: every decode has one more token, complete chunks have their next one."""
    seconds = replica.iteration_s
    iteration = replica.iteration
    count(replica, integers, seconds)
    replica.clock_s += seconds
    replica.decode_kv += replica.num_decodes
    replica.iteration = iteration + 1
    replica.in_flight = 0
    if integers[replica.calendar + (iteration & replica.calendar_mask)] != NONE:
        replica.batch_may_change = 1
        complete_due(requests, replica, integers, iteration)
    finish_chunks(requests, replica, integers)


@jit()
def finish_chunks(requests, replica, integers):
    """Count every chunk as computed, and keep those prefills listed that are not complete."""
    kept = replica.prefills
    for prefill in range(replica.prefills, replica.prefills + 2 * replica.num_prefills, 2):
        i = integers[prefill]
        request = requests[i]
        request.computed += integers[prefill + 1]
        if request.computed == request.prompt_tokens + request.generated:
            finish_prefill(requests, replica, integers, i)
        else:
            integers[kept] = i
            kept += 2
    replica.num_prefills = (kept - replica.prefills) // 2
    replica.chunk_tokens = 0


@jit()
def count(replica, integers, seconds):
    """Add the iteration in flight to the replica's sums, before anything of it is finished."""
    replica.peak_blocks = max(replica.peak_blocks, replica.num_blocks - replica.free_blocks)
    replica.peak_decode_kv = max(replica.peak_decode_kv, replica.decode_kv)
    replica.busy_s += seconds
    replica.block_seconds += (replica.num_blocks - replica.free_blocks) * seconds
    replica.running_seconds += (replica.num_decodes + replica.num_prefills) * seconds
    replica.prefill_tokens += replica.chunk_tokens
    if replica.num_decodes > 0:
        replica.decode_tokens += replica.num_decodes
        replica.attention_pairs += replica.decode_kv
        replica.tbt_sum_s += replica.num_decodes * seconds
        integers[bucket(seconds)] += replica.num_decodes


@jit()
def finish_prefill(requests, replica, integers, i):
    """Request i has caught up with all tokens it knows and has its next one: it decodes from here on, or completes."""
    request = requests[i]
    if request.generated == 0:
        request.first_token_s = replica.clock_s
    else:
        gap_s = replica.clock_s - request.last_token_s
        integers[bucket(gap_s)] += 1
        replica.tbt_sum_s += gap_s
    request.generated += 1
    if request.generated == request.output_tokens:
        complete(requests, replica, i, request.computed)
    else:
        join_decodes(requests, replica, integers, i)


@jit()
def leap(requests, replica, integers, tables, until_s):
    """Run iterations of decodes alone until one completes, blocks run short, or the clock reaches until_s.

    The blocks of the first iteration must have been taken. Per iteration: one interpolated table read, additions, and
    one histogram entry; what an iteration leaves unchanged is read once.
    """
    decodes = replica.num_decodes
    base = base_time(tables, replica, decodes, decodes)
    row = replica.decode_table + decodes * replica.decode_stride
    while True:
        index, weight = locate(replica.decode_kv, replica.kv_bits)
        replica.iteration_s = base + along_row(tables, row, index, weight)
        if replica.clock_s + replica.iteration_s > until_s:
            replica.in_flight = 1
            return
        finish(requests, replica, integers)
        if replica.batch_may_change or replica.clock_s >= until_s:
            return
        needed = blocks_to_decode(replica, integers)
        if needed > replica.free_blocks:
            replica.batch_may_change = 1
            return
        replica.free_blocks -= needed
