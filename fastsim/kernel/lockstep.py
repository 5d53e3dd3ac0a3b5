"""Engines in lockstep (docs/policies.md, section 13): those of a replica whose experts are spread over all of them.

They form their batches at the same times and run them in *rounds*, of which each takes as long as the slowest engine
and the experts of all together. An engine without a batch takes part with a dummy. The first engine's record keeps the
clock: ``clock_s``, ``in_flight``, ``next_end_s``, ``try_to_form`` and ``device_s`` are those of all, and every engine
has as many rounds in flight. Nothing leaps here: a round is as many table reads as there are engines, and one more.
"""

import numpy as np

from fastsim.kernel.asynchronous import put_in_flight, send_ahead, waits_for_oldest
from fastsim.kernel.batch_time import batch_time
from fastsim.kernel.data_parallel import outstanding_in
from fastsim.kernel.flights import END_S, flight_at
from fastsim.kernel.iteration import finish, form_batch, log_batch, note_peaks
from fastsim.kernel.jit import bits_float, jit
from fastsim.kernel.processing import await_oldest, process_oldest
from fastsim.kernel.stages import is_empty, is_stalled
from fastsim.kernel.state import BATCH_LOG_FULL, DONE, NO_PROGRESS, NONE
from fastsim.kernel.tables import base_time


@jit()
def advance_rounds(state, tables, schedule, r, until_s):
    """Let the engines in lockstep that begin with record r go on, see `fastsim.kernel.advance`."""
    requests, replicas, cluster_table, integers, batches, _, _, _ = state
    leader, cluster = replicas[r], cluster_table[0]
    while True:
        if waits_for_oldest(leader):
            if leader.next_end_s > until_s:
                return DONE
            process_round(requests, replicas, cluster, integers, r)
        if leader.clock_s >= until_s or outstanding_in(replicas, r, cluster.unit) == 0:
            return DONE
        if has_completed(replicas, r, cluster.unit):
            return DONE
        if cluster.record_batches and cluster.num_batches + cluster.unit > batches.size:
            return BATCH_LOG_FULL
        if not form_round(state, schedule, r):
            return NO_PROGRESS
        if num_in_round(replicas, r, cluster.unit) > 0:
            launch_round(state, tables, r)
        elif leader.in_flight == 0:
            return NO_PROGRESS
        else:
            leader.try_to_form = 0


@jit()
def has_completed(replicas, r, unit):
    """Whether clients wait to hear of a completed request."""
    found = False
    for engine in range(r, r + unit):
        found = found or replicas[engine].completed_head != NONE
    return found


@jit()
def num_in_round(replicas, r, unit):
    """Engines that have a batch in the round just formed."""
    total = 0
    for engine in range(r, r + unit):
        total += replicas[engine].in_round
    return total


@jit()
def form_round(state, schedule, r):
    """Let every engine form a batch at the clock; returns whether all make progress.

    As for an engine alone, an attempt that gave no batch with nothing in flight, but preempted somebody, is made again.
    """
    requests, replicas, cluster_table, integers, _, _, _, _ = state
    for e in range(r, r + cluster_table[0].unit):
        engine = replicas[e]
        engine.in_round = 0
        while engine.outstanding > 0:
            if engine.iteration > engine.stall_iteration and is_stalled(engine, cluster_table[0]):
                return False
            form_batch(requests, engine, integers, schedule)
            if not is_empty(engine, integers):
                engine.in_round = 1
                break
            if engine.in_flight > 0 or engine.preempted_now == 0:
                break
    return True


@jit()
def launch_round(state, tables, r):
    """Send the round just formed to the devices."""
    replicas, integers, cluster = state.replicas, state.integers, state.cluster[0]
    leader = replicas[r]
    seconds, members = round_time(state, tables, r)
    launch_s = leader.launch_s + leader.launch_s_per_request * members
    if leader.async_scheduling:
        start_s = max(leader.clock_s + launch_s, leader.device_s)
        for e in range(r, r + cluster.unit):
            replicas[e].device_s = start_s + seconds
            if replicas[e].in_round:
                send_ahead(state, e, start_s, seconds, members)
            else:
                send_dummy(replicas[e], integers, members)
        oldest_end_s = bits_float(integers[flight_at(leader, 0) + END_S])
        leader.try_to_form = leader.in_flight == 1 and oldest_end_s > leader.clock_s
        return
    seconds += launch_s + (leader.process_s + leader.process_s_per_request * members)
    for e in range(r, r + cluster.unit):
        replicas[e].in_flight = 1
        replicas[e].iteration_s = seconds
        if replicas[e].in_round:
            note_peaks(replicas[e], replicas[e].num_decodes)
            if cluster.record_batches:
                log_batch(replicas[e], e, cluster, state.batches)
    leader.next_end_s = leader.clock_s + seconds
    leader.try_to_form = 0


@jit()
def send_dummy(engine, integers, members):
    """Let an engine without a batch take part in a round whose largest batch has so many members."""
    put_in_flight(engine, integers, flight_at(engine, engine.in_flight), members, 0)
    engine.in_flight += 1
    if engine.in_flight == 1:
        await_oldest(engine, integers)


@jit()
def round_time(state, tables, r):
    """Time of the round being formed, and the requests of its largest batch.

    If no engine has more tokens than the largest CUDA graph, all are padded to what the largest of them is padded to.
    """
    requests, replicas, cluster_table, integers, _, _, _, _ = state
    cluster = cluster_table[0]
    most, total = 0, 0
    for e in range(r, r + cluster.unit):
        num_tokens = tokens_in_round(replicas[e], integers)
        most = max(most, num_tokens)
        total += num_tokens
    padded = 1
    if most <= cluster.largest_capture:
        padded = integers[cluster.padded + most]
        total = padded * cluster.unit
    members = 0
    seconds = 0.0
    for e in range(r, r + cluster.unit):
        engine = replicas[e]
        if not engine.in_round:
            seconds = max(seconds, base_time(tables, engine, padded, 1))
            continue
        own_s = batch_time(tables, engine, requests, integers, engine.num_decodes, padded)
        if engine.swapped_blocks > 0:
            own_s += engine.swap_s_per_block * engine.swapped_blocks
            engine.copies_s += engine.swap_s_per_block * engine.swapped_blocks
            engine.swapped_blocks = 0
        seconds = max(seconds, own_s)
        members = max(members, engine.num_decodes + engine.num_chunks)
    return seconds + tables[replicas[r].expert_table + total], members


@jit()
def tokens_in_round(engine, integers):
    """Tokens of an engine's batch, 1 of a dummy."""
    if not engine.in_round:
        return np.int64(1)
    total = np.int64(engine.num_decodes)
    for prefill in range(engine.prefills, engine.prefills + 2 * engine.num_prefills, 2):
        total += integers[prefill + 1]
    return total


@jit()
def process_round(requests, replicas, cluster, integers, r):
    """Let the oldest round have been processed: its requests have their tokens."""
    for e in range(r, r + cluster.unit):
        engine = replicas[e]
        if engine.async_scheduling:
            process_oldest(requests, engine, integers)
        elif engine.in_round:
            finish(requests, engine, integers)
        else:
            engine.in_flight = 0
            engine.clock_s += engine.iteration_s
    replicas[r].try_to_form = outstanding_in(replicas, r, cluster.unit) > 0
