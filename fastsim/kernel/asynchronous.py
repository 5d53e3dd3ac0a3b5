"""Asynchronous scheduling of one stage (docs/policies.md, section 10): a batch is formed while the one before it runs.

The engine's clock is the replica's, and ``device_s`` says when the GPU will be free. At most two batches are in flight
(`fastsim.kernel.flights`).

What forms batches must see a request one token ahead of its last token: a decode steps, and takes its blocks, when a
batch is *formed*; it has its token when the batch is *processed*. A request whose last token is in flight is *ending*:
in no further batch, but with its blocks and its place until then. As every running decode is in every batch, the token
before came to each of them when the batch before was processed. All functions modify their arguments in place.
"""

from fastsim.kernel.batch_time import batch_time
from fastsim.kernel.blocks import blocks_suffice, blocks_to_decode, count_crossing
from fastsim.kernel.flights import COMPLETE, DECODES, END_S, LATE, MEMBERS, STEP, complete_list, flight_at
from fastsim.kernel.iteration import form_batch
from fastsim.kernel.jit import bits_float, float_bits, jit
from fastsim.kernel.pieces import take_blocks
from fastsim.kernel.processing import await_oldest, process_decodes, process_oldest
from fastsim.kernel.running import enter_decodes
from fastsim.kernel.series import pass_work
from fastsim.kernel.skew import forget_origin, row_time
from fastsim.kernel.stages import count_batch, describe_batch, is_empty, is_stalled
from fastsim.kernel.state import BATCH_LOG_FULL, DONE, ENDING, NO_PROGRESS, NONE
from fastsim.kernel.tables import base_time, decode_row
from fastsim.kernel.visits import count_attention, visit_batch, visit_leap


@jit()
def advance_ahead(state, tables, schedule, r, until_s):
    """Let a replica that schedules asynchronously go on, see `fastsim.kernel.advance`."""
    requests, replicas, cluster_table, integers, batches, _, _, _ = state
    replica, cluster = replicas[r], cluster_table[0]
    while True:
        if waits_for_oldest(replica):
            if replica.next_end_s > until_s:
                return DONE
            process_oldest(requests, replica, integers)
            replica.try_to_form = 1
        if replica.clock_s >= until_s or replica.outstanding == 0 or replica.completed_head != NONE:
            return DONE
        if replica.iteration > replica.stall_iteration and is_stalled(replica, cluster):
            return NO_PROGRESS
        if cluster.record_batches and cluster.num_batches == batches.size:
            return BATCH_LOG_FULL
        form_batch(requests, replica, integers, schedule)
        if is_empty(replica, integers):
            if replica.in_flight == 0 and replica.preempted_now == 0:
                return NO_PROGRESS
            replica.try_to_form = replica.in_flight == 0
        else:
            launch(state, tables, r)
            oldest_end_s = bits_float(integers[flight_at(replica, 0)])
            replica.try_to_form = replica.in_flight == 1 and oldest_end_s > replica.clock_s
            if replica.in_flight == 2 and is_of_decodes(replica) and not cluster.record_batches:
                leap(requests, replica, integers, tables, until_s)


@jit()
def is_of_decodes(replica):
    """Whether what runs are decodes alone."""
    return replica.num_prefills == 0 and replica.num_decodes > 0


@jit()
def waits_for_oldest(replica):
    """Whether the engine forms no batch before it has processed the oldest in flight."""
    return replica.in_flight == 2 or (replica.in_flight == 1 and not replica.try_to_form)


@jit(forceinline=True)
def launch(state, tables, r):
    """Send the batch just formed to the device."""
    replica = state.replicas[r]
    decodes = replica.num_decodes
    model_s = batch_time(tables, replica, state.requests, state.integers, decodes)
    members = decodes + replica.num_chunks
    start_s = max(replica.clock_s + (replica.launch_s + replica.launch_s_per_request * members), replica.device_s)
    replica.device_s = start_s + model_s
    send_ahead(state, r, start_s, model_s, members)


@jit(forceinline=True)
def send_ahead(state, r, start_s, model_s, most_members):
    """Put the batch just formed in flight until the device is free, and count its tokens as scheduled.

    Args:
        state: of the run.
        r: its replica.
        start_s: when it starts on the device [s].
        model_s: how long it takes there [s].
        most_members: so many requests are processed behind it, its own or those of an engine in lockstep.
    """
    requests, replicas, cluster_table, integers, batches, _, _, _ = state
    replica, cluster = replicas[r], cluster_table[0]
    decodes = replica.num_decodes
    members = decodes + replica.num_chunks
    if replica.device_s >= replica.next_work_edge_s:
        pass_work(replica, integers, start_s, model_s)
    if replica.visits > 0:
        visit_batch(replica, integers, decodes, model_s)
        count_attention(replica, replica)
    replica.busy_s += model_s
    replica.running_seconds += members * model_s
    if cluster.record_batches:
        row = batches[cluster.num_batches]
        row.replica, row.stage, row.start_s, row.end_s = r, 0, start_s, replica.device_s
        describe_batch(replica, row)
        cluster.num_batches += 1
    replica.preempted_unlogged = 0
    count_batch(replica, decodes)
    flight = flight_at(replica, replica.in_flight)
    put_in_flight(replica, integers, flight, most_members, decodes)
    replica.in_flight += 1
    if replica.in_flight == 1:
        await_oldest(replica, integers)
    if decodes > 0:
        step_decodes(requests, replica, integers)
    if replica.num_prefills > 0:
        schedule_chunks(requests, replica, integers, flight)


@jit(forceinline=True)
def put_in_flight(replica, integers, flight, members, decodes):
    """Write the batch that the device will do last into a flight."""
    integers[flight + END_S] = float_bits(replica.device_s)
    integers[flight + MEMBERS] = members
    integers[flight + DECODES] = decodes
    integers[flight + STEP] = replica.step
    integers[flight + COMPLETE] = 0
    integers[flight + LATE] = 0


@jit(forceinline=True)
def leap(requests, replica, integers, tables, until_s):
    """Process and form batches of decodes alone until a request is ending or done, blocks run short, or until_s.

    Two batches are in flight at the beginning and, but for the last one processed, at the end.
    """
    decodes = replica.num_decodes
    base_s = base_time(tables, replica, decodes, decodes)
    row = decode_row(replica, decodes)
    launch_s = replica.launch_s + replica.launch_s_per_request * decodes
    first_iteration = replica.iteration
    attention_s = 0.0
    while replica.next_end_s <= until_s:
        flight = flight_at(replica, 0)
        slot = replica.calendar + (integers[flight + STEP] & replica.calendar_mask)
        if integers[flight + COMPLETE] + integers[flight + LATE] > 0 or integers[slot] != NONE:
            break
        process_decodes(replica, integers, flight)
        replica.try_to_form = 1
        needed = blocks_to_decode(replica, integers)
        if replica.clock_s >= until_s or replica.batch_may_change or replica.step >= replica.ask_step:
            break
        if not blocks_suffice(replica, needed):
            break
        take_blocks(replica, integers, needed)
        decode_s = row_time(tables, replica, requests, decodes, row)
        model_s = base_s + decode_s
        attention_s += decode_s
        start_s = max(replica.clock_s + launch_s, replica.device_s)
        replica.device_s = start_s + model_s
        if replica.device_s >= replica.next_work_edge_s:
            pass_work(replica, integers, start_s, model_s)
        replica.busy_s += model_s
        replica.running_seconds += decodes * model_s
        count_batch(replica, decodes)
        put_in_flight(replica, integers, flight, decodes, decodes)
        replica.in_flight = 2
        replica.try_to_form = 0
        replica.decode_kv += decodes
        replica.step += 1
        if integers[replica.calendar + ((replica.step - 1) & replica.calendar_mask)] != NONE:
            end_decodes(requests, replica, integers)
            break
    visit_leap(replica, integers, decodes, first_iteration, base_s, attention_s)


@jit(forceinline=True)
def step_decodes(requests, replica, integers):
    """Count the token of every decode as scheduled."""
    step = replica.step
    replica.decode_kv += replica.num_decodes
    replica.step = step + 1
    if integers[replica.calendar + (step & replica.calendar_mask)] != NONE:
        end_decodes(requests, replica, integers)


@jit()
def end_decodes(requests, replica, integers):
    """Let the decodes whose last token has just been scheduled be ending."""
    i = integers[replica.calendar + ((replica.step - 1) & replica.calendar_mask)]
    while i != NONE:
        request = requests[i]
        request.phase = ENDING
        replica.num_decodes -= 1
        replica.decode_kv -= replica.step - request.origin
        count_crossing(replica, integers, request.origin, -1)
        if replica.has_skew:
            forget_origin(replica, request.origin)
        # A budget that is short of a whole prompt may now do.
        replica.batch_may_change = replica.batch_may_change or not replica.enable_chunked_prefill
        i = request.due_next


@jit()
def schedule_chunks(requests, replica, integers, flight):
    """Count the chunks of the batch as computed; requests that it completes decode from the next one on."""
    kept = replica.prefills
    for prefill in range(replica.prefills, replica.prefills + 2 * replica.num_prefills, 2):
        i = integers[prefill]
        request = requests[i]
        request.computed += integers[prefill + 1]
        if request.computed < request.prompt_tokens + request.generated:
            integers[kept] = i
            kept += 2
            continue
        place = complete_list(flight) + 2 * integers[flight + COMPLETE]
        integers[place] = i
        integers[place + 1] = request.preemptions
        integers[flight + COMPLETE] += 1
        request.generated += 1
        if request.generated == request.output_tokens:
            request.phase = ENDING
        else:
            enter_decodes(requests, replica, integers, i)
    replica.num_prefills = (kept - replica.prefills) // 2
