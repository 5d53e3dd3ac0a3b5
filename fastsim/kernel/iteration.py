"""One replica's iterations: forming a batch, starting one, finishing it, and leaping where nothing happens."""

import numpy as np

from fastsim.kernel.batch_time import batch_time
from fastsim.kernel.bench import unbench
from fastsim.kernel.blocks import blocks_suffice, blocks_to_decode, held_blocks
from fastsim.kernel.completion import complete, complete_due, settle
from fastsim.kernel.histogram import bucket
from fastsim.kernel.jit import jit
from fastsim.kernel.notes import begin_steps, note_gap, push_gap
from fastsim.kernel.pieces import take_blocks
from fastsim.kernel.radix_cache import keep_prefill
from fastsim.kernel.running import join_decodes
from fastsim.kernel.series import pass_iteration
from fastsim.kernel.skew import row_time
from fastsim.kernel.stages import describe_batch
from fastsim.kernel.state import NONE
from fastsim.kernel.tables import base_time, count_outside, decode_row
from fastsim.kernel.visits import count_attention, visit_batch, visit_leap


@jit(forceinline=True)
def form_batch(requests, replica, integers, schedule):
    """Ask the batch policy if anything has changed since the last batch, else give the same decodes their blocks."""
    replica.preempted_now = 0
    if replica.num_benched > 0:
        unbench(requests, replica, integers)
    needed = blocks_to_decode(replica, integers)
    if replica.batch_may_change or not blocks_suffice(replica, needed) or replica.step >= replica.ask_step:
        replica.decodes_run = 1
        schedule(requests, replica, integers)
        replica.preempted_unlogged += replica.preempted_now
    else:
        take_blocks(replica, integers, needed)


@jit(forceinline=True)
def start(requests, replica, integers, tables):
    """Start the iteration that the batch policy has formed: its duration is known from here on."""
    decodes = replica.num_decodes * replica.decodes_run
    replica.iteration_s = batch_time(tables, replica, requests, integers, decodes)
    if replica.swapped_blocks > 0:
        replica.iteration_s += replica.swap_s_per_block * replica.swapped_blocks
        replica.copies_s += replica.swap_s_per_block * replica.swapped_blocks
        replica.swapped_blocks = 0
    replica.in_flight = 1
    note_peaks(replica, decodes)


@jit(forceinline=True)
def note_peaks(replica, decodes):
    """Note the largest batches."""
    replica.peak_batch_tokens = max(replica.peak_batch_tokens, decodes + replica.chunk_tokens)
    replica.peak_sequences = max(replica.peak_sequences, decodes + replica.num_chunks)


@jit()
def log_batch(replica, r, cluster, batches):
    """Write the iteration just started into the batch log."""
    row = batches[cluster.num_batches]
    row.replica = r
    row.start_s = replica.clock_s
    row.end_s = replica.clock_s + replica.iteration_s
    describe_batch(replica, row)
    replica.preempted_unlogged = 0
    cluster.num_batches += 1


@jit(forceinline=True)
def finish(requests, replica, integers):
    """Finish the iteration in flight: every decode in it has one more token, complete prefills have their next one."""
    seconds = replica.iteration_s
    replica.in_flight = 0
    if replica.visits > 0:
        visit_batch(replica, integers, replica.num_decodes * replica.decodes_run, seconds)
        count_attention(replica, replica)
    if replica.num_prefills == 0 and replica.num_fresh == 0 and replica.last_step_end_s == replica.clock_s:
        finish_step(requests, replica, integers, seconds)
        return
    count(replica, integers, seconds)
    replica.running_seconds += replica.num_chunks * seconds
    replica.prefill_tokens += replica.chunk_tokens
    replica.attention_pairs += replica.chunk_pairs
    if replica.decodes_run:
        count_decodes(replica, seconds)
        count_gaps(requests, replica, integers, seconds)
        replica.clock_s += seconds
        advance_decodes(requests, replica, integers)
    else:
        replica.clock_s += seconds
    finish_chunks(requests, replica, integers)
    if replica.num_done > 0:
        settle(requests, replica, integers)


@jit(forceinline=True)
def finish_step(requests, replica, integers, seconds):
    """Finish an iteration of decodes alone whose last tokens all came at the clock: what `finish` does, but shorter."""
    count(replica, integers, seconds)
    count_decodes(replica, seconds)
    count_gap(replica, integers, seconds, replica.num_decodes)
    replica.gap_s = max(replica.gap_s, seconds)
    replica.clock_s += seconds
    advance_decodes(requests, replica, integers)
    if replica.num_done > 0:
        settle(requests, replica, integers)


@jit()
def advance_decodes(requests, replica, integers):
    """Give every decode its token at the clock, and complete those for which it is the last."""
    step = replica.step
    replica.decode_kv += replica.num_decodes
    replica.step = step + 1
    replica.last_step_end_s = replica.clock_s
    if integers[np.uintp(replica.calendar + (step & replica.calendar_mask))] != NONE:
        replica.batch_may_change = 1
        complete_due(requests, replica, integers, step)


@jit()
def finish_chunks(requests, replica, integers):
    """Count every chunk as computed, and keep those prefills listed that are not complete."""
    kept = replica.prefills
    for prefill in range(replica.prefills, replica.prefills + 2 * replica.num_prefills, 2):
        i = integers[np.uintp(prefill)]
        request = requests[np.uintp(i)]
        chunk = integers[np.uintp(prefill + 1)]
        request.computed += chunk
        if replica.radix and chunk > 0:
            keep_prefill(requests, replica, integers, i)
        if request.computed == request.prompt_tokens + request.generated:
            finish_prefill(requests, replica, integers, i)
        else:
            integers[np.uintp(kept)] = i
            kept += 2
    replica.num_prefills = (kept - replica.prefills) >> 1
    replica.num_chunks = 0
    replica.chunk_tokens = 0


@jit()
def count(replica, integers, seconds):
    """Add an iteration to the replica's sums, before anything of it is finished."""
    if replica.clock_s + seconds >= replica.next_edge_s:
        pass_iteration(replica, integers, seconds)
    used = replica.num_blocks - replica.free_blocks
    replica.iteration += 1
    count_outside(replica, replica.num_decodes * replica.decodes_run)
    replica.peak_blocks = max(replica.peak_blocks, used)
    replica.busy_s += seconds
    replica.block_seconds += used * seconds


@jit()
def count_decodes(replica, seconds):
    """Add the decodes of an iteration to the replica's sums."""
    replica.running_seconds += replica.num_decodes * seconds
    replica.decode_tokens += replica.num_decodes
    replica.peak_decodes = max(replica.peak_decodes, replica.num_decodes)
    replica.attention_pairs += replica.decode_kv


@jit()
def count_gaps(requests, replica, integers, seconds):
    """Count the times between tokens of a decode step that starts at the replica's clock.

    A gap is the step's duration where the last token came at its start, and else the difference of the clocks.
    """
    for k in range(replica.num_fresh):
        i = integers[np.uintp(replica.fresh + k)]
        count_fresh_gap(replica, integers, i, since(replica, requests[np.uintp(i)].last_token_s, seconds))
    others = replica.num_decodes - replica.num_fresh
    if others > 0:
        count_shared_gap(replica, integers, since(replica, replica.last_step_end_s, seconds), others)
    replica.num_fresh = 0


@jit()
def since(replica, last_token_s, seconds):
    """Time from a decode's last token to the end of the step that starts at the replica's clock [s]."""
    if last_token_s == replica.clock_s:
        return seconds
    return replica.clock_s + seconds - last_token_s


@jit()
def count_gap(replica, integers, gap_s, decodes):
    """Count one time between tokens, of some decodes."""
    integers[np.uintp(bucket(gap_s))] += decodes
    replica.tbt_sum_s += decodes * gap_s


@jit()
def count_own_gap(replica, integers, i, gap_s):
    """Count a time between tokens of request i alone."""
    count_gap(replica, integers, gap_s, 1)
    if replica.notes > 0:
        note_gap(replica, integers, i, gap_s)


@jit()
def count_fresh_gap(replica, integers, i, gap_s):
    """Count the time between tokens of a fresh decode in its first decode step, which is none of the others'."""
    count_own_gap(replica, integers, i, gap_s)
    if replica.notes > 0:
        begin_steps(replica, integers, i, replica.step + 1)


@jit()
def count_shared_gap(replica, integers, gap_s, decodes):
    """Count the time between tokens of the decodes of the cohort at hand that are not fresh, before its step ends."""
    count_gap(replica, integers, gap_s, decodes)
    if replica.num_fresh == 0:
        replica.gap_s = max(replica.gap_s, gap_s)
    elif replica.notes > 0:
        push_gap(replica, integers, replica.step, gap_s)


@jit(forceinline=True)
def finish_prefill(requests, replica, integers, i):
    """Request i has caught up with all tokens it knows and has its next one: it decodes from here on, or completes."""
    request = requests[np.uintp(i)]
    if request.generated == 0:
        request.first_token_s = replica.clock_s
    else:
        count_own_gap(replica, integers, i, replica.clock_s - request.last_token_s)
    held = held_blocks(replica, request)
    request.generated += 1
    if request.generated == request.output_tokens:
        complete(requests, replica, integers, i, held)
        if replica.radix:
            settle(requests, replica, integers)
    else:
        join_decodes(requests, replica, integers, i)


@jit(forceinline=True)
def leap(requests, replica, integers, tables, until_s):
    """Run iterations of decodes alone until one completes, blocks run short, or the clock reaches until_s.

    The blocks of the first iteration must have been taken. Per iteration: one interpolated table read, additions, and
    one histogram entry; what an iteration leaves unchanged is read once. A correction for unequal decodes is read each
    time, as the longest may pass into another bin.
    """
    decodes = replica.num_decodes
    base = base_time(tables, replica, decodes, decodes)
    row = decode_row(replica, decodes)
    first_iteration = replica.iteration
    attention_s = 0.0
    while True:
        decode_s = row_time(tables, replica, requests, decodes, row)
        seconds = base + decode_s
        if replica.clock_s + seconds > until_s or replica.num_fresh > 0 or replica.last_step_end_s != replica.clock_s:
            replica.iteration_s = seconds
            replica.in_flight = 1
            break
        finish_step(requests, replica, integers, seconds)
        attention_s += decode_s
        if replica.batch_may_change or replica.clock_s >= until_s:
            break
        needed = blocks_to_decode(replica, integers)
        if not blocks_suffice(replica, needed) or replica.step >= replica.ask_step:
            break
        take_blocks(replica, integers, needed)
    visit_leap(replica, integers, decodes, first_iteration, base, attention_s)
    replica.batch_decode_s, replica.batch_prefill_s = decode_s, 0.0
