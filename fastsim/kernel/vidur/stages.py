"""A micro-batch in the pipeline: its stage runs, and what its end does to its members (in place)."""

from fastsim.kernel.histogram import bucket
from fastsim.kernel.jit import jit
from fastsim.kernel.vidur.heap import make
from fastsim.kernel.vidur.lists import append, pop_first, remove, splice
from fastsim.kernel.vidur.members import advance, finished, release
from fastsim.kernel.vidur.reserving import end_group
from fastsim.kernel.vidur.state import (
    BATCH_END,
    BEYOND_TABLE,
    DONE,
    FASTER_TRANSFORMER,
    FREE,
    NONE,
    QUEUES,
    REPLICA_SCHEDULE,
    RUNNING,
    STAGE_ARRIVAL,
    STAGE_END,
    STAGE_SCHEDULE,
)
from fastsim.kernel.vidur.times import mean_kv, root_chunk, time_stage


@jit()
def start_stage(state, tables, r, stage):
    """Start the next micro-batch of an idle stage; returns a status."""
    work, cluster, replica = state.work, state.cluster[0], state.replicas[r]
    server = state.stages[r * cluster.num_stages + stage]
    queue = replica.lists + QUEUES + stage
    if server.busy or work.lists[queue].length == 0:
        return DONE
    b = pop_first(work.batches, work.lists, queue)
    batch = work.batches[b]
    server.busy = 1
    if not time_stage(work, cluster, replica, batch, tables, stage):
        cluster.failed_batch, cluster.failed_stage = b, stage
        return BEYOND_TABLE
    i = work.lists[batch.members].head
    while i != NONE:
        request = work.requests[i]
        if request.last_stage_end_s != 0.0:
            request.preempted_s += cluster.now_s - request.last_stage_end_s
        i = request.next
    if cluster.record_batches:
        log_stage(state, r, stage, b)
    make(state.events, cluster, cluster.now_s + batch.total_s, STAGE_END, r, stage, b)
    return DONE


@jit()
def log_stage(state, r, stage, b):
    """Write the stage run just started into the log."""
    cluster, replica, batch = state.cluster[0], state.replicas[r], state.work.batches[b]
    row = state.log[cluster.num_stage_runs]
    row.batch = batch.number
    row.replica = r
    row.stage = stage
    row.formed_s = batch.formed_s
    row.start_s = cluster.now_s
    row.end_s = cluster.now_s + batch.total_s
    row.total_s = batch.total_s
    row.model_s = batch.model_s
    row.num_sequences = state.work.lists[batch.members].length
    row.num_tokens = batch.num_tokens
    row.num_chunks = batch.num_chunks
    row.num_decodes = batch.num_decodes
    row.decode_kv = mean_kv(batch, replica.kv_granularity)
    row.prefill_kv = batch.prefill_kv
    row.prefill_chunk = root_chunk(batch)
    row.used_blocks = replica.num_blocks - replica.free_blocks
    cluster.num_stage_runs += 1


@jit()
def end_stage(state, r, stage, b):
    """End a stage run: the stage takes its next one first, then the micro-batch goes on."""
    work, cluster, replica = state.work, state.cluster[0], state.replicas[r]
    batch = work.batches[b]
    state.stages[r * cluster.num_stages + stage].busy = 0
    i = work.lists[batch.members].head
    while i != NONE:
        request = work.requests[i]
        request.execution_s += batch.total_s
        request.model_execution_s += batch.model_s
        request.last_stage_end_s = cluster.now_s
        i = request.next
    replica.busy_s += batch.total_s
    state.stages[r * cluster.num_stages + stage].busy_s += batch.total_s
    replica.running_seconds += work.lists[batch.members].length * batch.total_s
    replica.block_seconds += (replica.num_blocks - replica.free_blocks) * batch.total_s
    make(state.events, cluster, cluster.now_s, STAGE_SCHEDULE, r, stage, b)
    if stage == cluster.num_stages - 1:
        make(state.events, cluster, cluster.now_s, BATCH_END, r, stage, b)
    else:
        make(state.events, cluster, cluster.now_s, STAGE_ARRIVAL, r, stage + 1, b)


@jit()
def end_batch(state, r, b):
    """Advance the members of a micro-batch that left the last stage, and form the next one."""
    work, cluster, replica = state.work, state.cluster[0], state.replicas[r]
    batch = work.batches[b]
    replica.iteration += 1
    replica.decode_tokens += batch.num_decodes
    replica.prefill_tokens += batch.num_tokens - batch.num_decodes
    replica.attention_pairs += batch.attention_pairs
    groups = cluster.policy == FASTER_TRANSFORMER
    i = work.lists[batch.members].head
    while i != NONE:
        request = work.requests[i]
        after = request.next
        if advance(request, cluster.now_s):
            count_token(replica, request, state.tbt, cluster.now_s)
        if not groups and finished(request):
            release(replica, request)
            remove(work.requests, work.lists, batch.members, i)
        i = after
    replica.num_in_flight -= 1
    if replica.num_in_flight == 0:
        replica.active_s += cluster.now_s - replica.active_from_s
    if not groups:
        splice(work.requests, work.lists, batch.members, replica.lists + RUNNING)
    if not groups or end_group(work, replica, b):
        append(work.batches, work.lists, replica.lists + FREE, b)
    make(state.events, cluster, cluster.now_s, REPLICA_SCHEDULE, r, 0, 0)


@jit()
def count_token(replica, request, tbt, now_s):
    """Note an output token of a request: the gap since its last one, and whether it was the last."""
    if request.last_token_s > 0.0:
        gap_s = now_s - request.last_token_s
        tbt[bucket(gap_s)] += 1
        replica.tbt_sum_s += gap_s
    request.last_token_s = now_s
    if finished(request):
        replica.completed += 1
        replica.completed_iteration = replica.iteration
