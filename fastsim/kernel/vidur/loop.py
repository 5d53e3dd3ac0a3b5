"""Vidur's events: one heap by (time, order of creation); a handler makes its follow-up events in Vidur's order.

Arrivals are made before everything else, so they win every tie: they are read off the sorted requests, unheaped.
"""

from fastsim.kernel.jit import jit
from fastsim.kernel.vidur.evicting import schedule_sarathi, schedule_vllm
from fastsim.kernel.vidur.heap import drop_first, make
from fastsim.kernel.vidur.lightllm import schedule_lightllm
from fastsim.kernel.vidur.lists import append, pop_first
from fastsim.kernel.vidur.members import clear
from fastsim.kernel.vidur.reserving import admit_whole_prompts, next_group, schedule_orca
from fastsim.kernel.vidur.stages import end_batch, end_stage, start_stage
from fastsim.kernel.vidur.state import (
    CUT_OFF,
    DONE,
    FASTER_TRANSFORMER,
    FREE,
    GLOBAL_SCHEDULE,
    LIGHTLLM,
    LOG_FULL,
    LOR,
    NO_FREE_TOKENS,
    NO_PROGRESS,
    NONE,
    ORCA,
    QUEUES,
    REPLICA_SCHEDULE,
    ROUND_ROBIN,
    SARATHI,
    STAGE_ARRIVAL,
    STAGE_END,
    STAGE_SCHEDULE,
    VLLM,
    WAITING,
)


def run(state, tables):
    """Handle events until none is left, or until one beyond the time limit was handled.

    The state is modified in place and holds the whole progress: after LOG_FULL, call again with a longer log.

    Args:
        state: `fastsim.kernel.vidur.state.State`.
        tables: `fastsim.kernel.vidur.state.Tables`.

    Returns:
        DONE, CUT_OFF, LOG_FULL, BEYOND_TABLE, NO_FREE_TOKENS or NO_PROGRESS.
    """
    requests, cluster = state.work.requests, state.cluster[0]
    while cluster.next_request < requests.size or cluster.num_pending > 0:
        if cluster.record_batches and cluster.num_stage_runs == state.log.size:
            return LOG_FULL
        if cluster.next_request < requests.size and (
            cluster.num_pending == 0 or requests[cluster.next_request].arrival_s <= state.events[0].time_s
        ):
            cluster.now_s = requests[cluster.next_request].arrival_s
            cluster.next_request += 1
            make(state.events, cluster, cluster.now_s, GLOBAL_SCHEDULE, 0, 0, 0)
            status = DONE
        else:
            status = handle_first(state, tables)
        if status != DONE:
            return status
        if cluster.now_s > cluster.time_limit_s:
            return CUT_OFF
    return DONE


@jit()
def handle_first(state, tables):
    """Handle the next event of the heap; returns a status."""
    event, cluster = state.events[0], state.cluster[0]
    kind, r, stage, b = event.kind, event.replica, event.stage, event.batch
    cluster.now_s = event.time_s
    drop_first(state.events, cluster)
    if kind == GLOBAL_SCHEDULE:
        route(state)
    elif kind == REPLICA_SCHEDULE:
        return schedule_replica(state, r)
    elif kind == STAGE_ARRIVAL:
        append(state.work.batches, state.work.lists, state.replicas[r].lists + QUEUES + stage, b)
        make(state.events, cluster, cluster.now_s, STAGE_SCHEDULE, r, stage, b)
    elif kind == STAGE_SCHEDULE:
        return start_stage(state, tables, r, stage)
    elif kind == STAGE_END:
        end_stage(state, r, stage, b)
    else:
        end_batch(state, r, b)
    return DONE


@jit()
def route(state):
    """Give every request of the global queue a replica, then let each replica that got one form batches."""
    work, cluster, replicas = state.work, state.cluster[0], state.replicas
    first = cluster.num_routed
    while cluster.num_routed < cluster.next_request:
        i = cluster.num_routed
        r = work.requests[i].replica
        if cluster.router == ROUND_ROBIN:
            r = i % replicas.size
        elif cluster.router == LOR:
            r = shortest_queue(work.lists, replicas)
        work.requests[i].replica = r
        append(work.requests, work.lists, replicas[r].lists + WAITING, i)
        cluster.num_routed += 1
    for r in range(replicas.size):
        for i in range(first, cluster.num_routed):
            if work.requests[i].replica == r:
                make(state.events, cluster, cluster.now_s, REPLICA_SCHEDULE, r, 0, 0)
                break


@jit()
def shortest_queue(lists, replicas):
    """The replica with the fewest waiting requests, the lowest of equals; who runs does not count (oddity 4)."""
    best = 0
    for r in range(1, replicas.size):
        if lists[replicas[r].lists + WAITING].length < lists[replicas[best].lists + WAITING].length:
            best = r
    return best


@jit()
def schedule_replica(state, r):
    """Form micro-batches while there are slots, and announce them; returns a status."""
    work, cluster, replica = state.work, state.cluster[0], state.replicas[r]
    while replica.num_in_flight < cluster.num_stages:
        b, status = form_batch(work, cluster, replica)
        if status != DONE:
            return status
        if b == NONE:
            break
        if replica.iteration - replica.completed_iteration > cluster.max_iterations:
            return NO_PROGRESS
        batch = work.batches[b]
        batch.number = cluster.num_batches
        cluster.num_batches += 1
        if replica.num_in_flight == 0:
            replica.active_from_s = cluster.now_s
        replica.num_in_flight += 1
        replica.peak_blocks = max(replica.peak_blocks, replica.num_blocks - replica.free_blocks)
        replica.peak_batch_tokens = max(replica.peak_batch_tokens, batch.num_tokens)
        make(state.events, cluster, cluster.now_s, STAGE_ARRIVAL, r, 0, b)
    return DONE


@jit()
def form_batch(work, cluster, replica):
    """Ask the batch policy for a micro-batch.

    Returns:
        Its index, NONE if there is nobody to run, and a status.
    """
    policy = cluster.policy
    if policy == FASTER_TRANSFORMER:
        group = next_group(work, replica, cluster.now_s)
        if group != NONE:
            return group, DONE
    b = work.lists[replica.lists + FREE].head
    batch = work.batches[b]
    clear(batch, cluster.now_s)
    if policy == VLLM:
        schedule_vllm(work, replica, batch)
    elif policy == SARATHI:
        schedule_sarathi(work, replica, batch)
    elif policy == ORCA:
        schedule_orca(work, replica, batch)
    elif policy == LIGHTLLM:
        if not schedule_lightllm(work, replica, batch):
            return NONE, NO_FREE_TOKENS
    else:
        admit_whole_prompts(work, replica, batch)
    if work.lists[batch.members].length == 0:
        return NONE, DONE
    pop_first(work.batches, work.lists, replica.lists + FREE)
    return b, DONE
