"""Pipeline stages: up to one batch in flight for each, and each stage serves them first in, first out.

When a batch is formed all is known about its way through the stages, so what remains to be told are the times at which
batches leave the last one. They leave in the order in which they were formed; the ring ``integers[replica.flights]``
holds the slots of their cohorts (`fastsim.kernel.cohorts`).
"""

from fastsim.kernel.batch_time import batch_time
from fastsim.kernel.bench import unbench
from fastsim.kernel.blocks import blocks_suffice, blocks_to_decode
from fastsim.kernel.cohorts import (
    END_S,
    MEMBERS,
    load_cohort,
    note_in_flight,
    slot_place,
    store_cohort,
    switch_cohort,
    take_slot,
)
from fastsim.kernel.jit import float_bits, jit
from fastsim.kernel.pieces import take_blocks
from fastsim.kernel.series import pass_clock, pass_stage
from fastsim.kernel.state import BATCH_LOG_FULL, DONE, NO_PROGRESS, NONE
from fastsim.kernel.tables import count_outside
from fastsim.kernel.visits import count_attention, visit_batch


@jit()
def pass_time(replica, integers, until_s):
    """Let the clock run while batches are in flight."""
    if until_s >= replica.next_edge_s:
        pass_clock(replica, integers, until_s, 1)
    seconds = until_s - replica.clock_s
    replica.active_s += seconds
    replica.block_seconds += (replica.num_blocks - replica.free_blocks) * seconds
    replica.running_seconds += replica.num_in_flight * seconds
    replica.clock_s = until_s


@jit()
def arrive_at_stages(replica, integers, arrival_s):
    """Bring the clock to an arrival; a batch may be formed then, unless the engine waits for the oldest in flight."""
    if replica.in_flight > 0:
        pass_time(replica, integers, arrival_s)
    if replica.in_flight == 0 or not replica.stays_running:
        replica.try_to_form = 1


@jit()
def is_stalled(replica, cluster):
    """Whether so many iterations have passed since a request completed that none ever will; notes when to ask again."""
    replica.stall_iteration = replica.progress_iteration + replica.outstanding * cluster.max_stall
    return replica.iteration > replica.stall_iteration


@jit()
def is_empty(replica, integers):
    """Whether the batch just formed has nobody in it."""
    if replica.num_decodes * replica.decodes_run > 0:
        return False
    for prefill in range(replica.prefills, replica.prefills + 2 * replica.num_prefills, 2):
        if integers[prefill + 1] > 0:
            return False
    return True


@jit(forceinline=True)
def form_all(state, tables, schedule, r):
    """Form batches while a stage has none and the policy finds one; returns DONE, BATCH_LOG_FULL or NO_PROGRESS."""
    requests, replicas, cluster_table, integers, batches, _, _, _ = state
    replica, cluster = replicas[r], cluster_table[0]
    while replica.in_flight < replica.num_stages and replica.outstanding > 0:
        if replica.iteration > replica.stall_iteration and is_stalled(replica, cluster):
            return NO_PROGRESS
        if cluster.record_batches and cluster.num_batches + replica.num_stages > batches.size:
            return BATCH_LOG_FULL
        if replica.num_decodes + replica.num_prefills + replica.num_benched == 0 and replica.waiting_head == NONE:
            break
        form_micro_batch(requests, replica, integers, schedule)
        if is_empty(replica, integers):
            # Whoever asked for blocks may have been its own victim, and left others idle behind it.
            if replica.preempted_now > 0 and replica.in_flight == 0:
                continue
            break
        launch(state, tables, r)
    replica.try_to_form = 0
    if replica.in_flight == 0 and replica.outstanding > 0:
        return NO_PROGRESS
    return DONE


@jit(forceinline=True)
def form_micro_batch(requests, replica, integers, schedule):
    """Ask the batch policy, unless nothing has changed since the cohort at hand was last refused anything more."""
    if replica.num_benched > 0 and replica.num_decodes + replica.num_benched <= replica.max_micro_batch:
        unbench(requests, replica, integers)
    replica.preempted_now = 0
    replica.decodes_run = 1
    needed = blocks_to_decode(replica, integers)
    if (
        replica.asked == replica.completed + replica.preemptions + replica.changes
        and replica.num_benched == 0
        and replica.num_prefills == 0
        and replica.num_decodes <= replica.max_micro_batch
        and blocks_suffice(replica, needed)
    ):
        take_blocks(replica, integers, needed)
    else:
        schedule(requests, replica, integers)
        replica.preempted_unlogged += replica.preempted_now
        may_change = replica.batch_may_change
        replica.asked = -1 if may_change else replica.completed + replica.preemptions + replica.changes


@jit(forceinline=True)
def launch(state, tables, r):
    """Send the batch just formed through the stages; another cohort is then at hand."""
    end_s = run_batch(state, tables, r)
    replica = state.replicas[r]
    put_in_flight(state.requests, replica, state.integers, replica.num_decodes * replica.decodes_run, end_s)


@jit(forceinline=True)
def run_batch(state, tables, r):
    """Log and count the batch just formed; returns when the last stage is done with it [s]."""
    _, replicas, cluster_table, _, batches, _, _, _ = state
    replica, cluster = replicas[r], cluster_table[0]
    decodes = replica.num_decodes * replica.decodes_run
    first_row = cluster.num_batches
    end_s = run_through(state, tables, r, decodes)
    for row in range(first_row, cluster.num_batches):
        describe_batch(replica, batches[row])
    replica.preempted_unlogged = 0
    replica.swapped_blocks = 0
    count_batch(replica, decodes)
    return end_s


@jit()
def describe_batch(replica, row):
    """Write what is in the batch just formed, and how it was formed, into a row of the batch log."""
    decodes = replica.num_decodes * replica.decodes_run
    row.num_tokens = decodes + replica.chunk_tokens
    row.num_sequences = decodes + replica.num_chunks
    row.num_decodes = decodes
    row.decode_kv = replica.decode_kv * replica.decodes_run
    row.used_blocks = replica.num_blocks - replica.free_blocks
    row.preempted = replica.preempted_unlogged


@jit(forceinline=True)
def run_through(state, tables, r, decodes):
    """When each stage runs a batch; returns when the last is done with it [s]."""
    requests, replicas, cluster_table, integers, batches, stages, _, _ = state
    replica = replicas[r]
    begin_s = replica.clock_s
    model_s = 0.0
    num_tokens = decodes
    for s in range(replica.num_stages):
        stage = stages[replica.first_stage + s]
        if s == 0 or stage.table_base != replica.table_base:
            replica.table_base = stage.table_base
            replica.share_until = 0
            model_s = batch_time(tables, replica, requests, integers, decodes)
            num_tokens = decodes + replica.chunk_tokens
        duration_s = model_s
        if s < replica.num_stages - 1:
            duration_s += stage.send_latency_s + stage.send_s_per_token * num_tokens
        if replica.swapped_blocks > 0:
            duration_s += replica.swap_s_per_block * replica.swapped_blocks
            stage.copies_s += replica.swap_s_per_block * replica.swapped_blocks
        if replica.visits > 0:
            count_attention(replica, stage)
            if s == 0:
                visit_batch(replica, integers, decodes, duration_s)
        start_s = max(begin_s, stage.free_s)
        begin_s = start_s + duration_s
        if begin_s >= stage.next_edge_s:
            pass_stage(replica, stage, integers, (start_s, begin_s), decodes, 1 if s == 0 else 0)
        stage.free_s = begin_s
        stage.busy_s += duration_s
        replica.busy_s += duration_s
        if cluster_table[0].record_batches:
            row = batches[cluster_table[0].num_batches]
            row.replica, row.stage, row.start_s, row.end_s = r, s, start_s, begin_s
            cluster_table[0].num_batches += 1
    return begin_s


@jit()
def count_batch(replica, decodes):
    """Add the batch just formed to the replica's sums."""
    replica.iteration += 1
    count_outside(replica, decodes)
    replica.prefill_tokens += replica.chunk_tokens
    replica.decode_tokens += decodes
    replica.attention_pairs += replica.chunk_pairs
    if decodes > 0:
        replica.attention_pairs += replica.decode_kv
    replica.peak_blocks = max(replica.peak_blocks, replica.num_blocks - replica.free_blocks)
    replica.peak_decodes = max(replica.peak_decodes, decodes)
    replica.peak_batch_tokens = max(replica.peak_batch_tokens, decodes + replica.chunk_tokens)
    replica.peak_sequences = max(replica.peak_sequences, decodes + replica.num_chunks)


@jit(forceinline=True)
def put_in_flight(requests, replica, integers, decodes, end_s):
    """Put the batch just formed at the end of the ring; another cohort is then at hand.

    That is an empty one, or, where the decodes are not in the batch, again theirs.
    """
    mine = replica.slot
    if decodes == 0:
        switch_cohort(replica, integers, take_slot(replica, integers))
    note_chunks(requests, replica, integers)
    enter_ring(replica, integers, decodes + replica.num_chunks, end_s)
    if decodes == 0:
        switch_cohort(replica, integers, mine)
    else:
        store_cohort(replica, integers)
        load_cohort(replica, integers, take_slot(replica, integers))
        replica.asked = -1


@jit(forceinline=True)
def enter_ring(replica, integers, members, end_s):
    """Put the batch in the slot at hand, with so many members, at the end of the ring."""
    place = slot_place(replica, replica.slot)
    integers[place + END_S] = float_bits(end_s)
    integers[place + MEMBERS] = members
    integers[replica.flights + (replica.oldest + replica.in_flight) % replica.num_stages] = replica.slot
    replica.in_flight += 1
    replica.num_in_flight += members
    if replica.in_flight == 1:
        replica.next_end_s = end_s


@jit(forceinline=True)
def note_chunks(requests, replica, integers):
    """Count the chunks of the batch as computed and note them in the slot at hand.

    Prefills stay listed where they have no tokens in the batch, or may have the next ones in the batch formed next.
    """
    kept = replica.prefills
    for prefill in range(replica.prefills, replica.prefills + 2 * replica.num_prefills, 2):
        i, chunk = integers[prefill], integers[prefill + 1]
        request = requests[i]
        request.computed += chunk
        is_last = request.computed == request.prompt_tokens + request.generated
        if chunk > 0:
            note_in_flight(replica, integers, i, request.preemptions, 1 if is_last else 0)
        if chunk == 0 or (replica.stays_running and not is_last):
            integers[kept] = i
            integers[kept + 1] = 0
            kept += 2
    replica.num_prefills = (kept - replica.prefills) // 2
