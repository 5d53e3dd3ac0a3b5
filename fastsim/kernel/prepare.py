"""Making the state of a run: the Python side of the kernel, which checks nothing because its caller has."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from fastsim.kernel.cohorts import CHUNKED, HEADER, RUNNING_HEAD, RUNNING_TAIL
from fastsim.kernel.flights import flight_size
from fastsim.kernel.histogram import NUM_BUCKETS
from fastsim.kernel.prepare_cache import cache_parts, empty_cache, name_requests
from fastsim.kernel.prepare_clients import (
    Clients,
    in_order_of_arrival,
    new_pending,
    num_integers,
    place_clients,
    previous_in_session,
)
from fastsim.kernel.prepare_series import (
    first_sent_s,
    num_recorded_integers,
    num_tracks,
    place_recorded,
    place_tracks,
    stack_size,
)
from fastsim.kernel.series import track_size
from fastsim.kernel.slots import table_functions
from fastsim.kernel.state import (
    BATCH,
    CLUSTER,
    NONE,
    PENDING,
    PREFILL_RULES,
    QUEUE_ORDERS,
    REPLICA,
    REQUEST,
    STAGE,
    State,
    records,
)

_ONE_CLIENT = Clients()
#: Axes of the tables of which it is counted how often batches read beyond what was measured.
PROFILED_AXES = ("tokens", "sequences", "decodes", "history", "chunk")


class Bounds(NamedTuple):
    """How many requests there are at most, and how long the longest output and the longest request are [tokens]."""

    requests: int
    output_tokens: int
    tokens: int


def bounds_of(workload: Any) -> Bounds:
    """Those of a workload."""
    prompt, output = workload.prompt_tokens, workload.output_tokens
    return Bounds(len(workload.arrival_s), int(output.max()), int((prompt + output).max()))


def new_state(
    workload: Any,
    layout: Any,
    prefill_rule: str,
    *,
    limits: Mapping[str, float],
    num_replicas: int,
    num_blocks: int,
    block_size: int,
    router_reads_replicas: bool,
    hit_weight: float | None = None,
    seed: int = 0,
    batch_log_rows: int = 0,
    queue_order: str = "fcfs",
    order_keys: np.ndarray | None = None,
    swap_s_per_block: float = 0.0,
    stage_bases: Sequence[int] = (0,),
    send_latency_s: Sequence[float] = (0.0,),
    send_s_per_token: Sequence[float] = (0.0,),
    named_blocks: Any = None,
    clients: Clients = _ONE_CLIENT,
    joint: Any = None,
    skew: Any = None,
    engines: int = 1,
    expert: Any = None,
    padded_tokens: Sequence[int] | np.ndarray = (0,),
    profiled: Mapping[str, int] = MappingProxyType({}),
    record_bins: int = 0,
    bounds: Bounds | None = None,
) -> State:
    """The state before the first arrival.

    Args:
        workload: traces.Workload, or anything with its columns, sorted by arrival.
        layout: estimators.TableLayout of the tables, the same for every replica and stage.
        prefill_rule: one of PREFILL_RULES.
        limits: fields of REPLICA that the batch policy and the engine set, with their values.
        num_replicas: number of replicas.
        num_blocks: usable KV blocks of each engine of a replica.
        block_size: tokens per block.
        router_reads_replicas: whether replicas must be brought to each arrival's time before it is routed.
        hit_weight: of a router that looks up what replicas have cached; None for one that does not.
        seed: of the routers that draw.
        batch_log_rows: capacity of the batch log, 0 to keep none.
        queue_order: one of QUEUE_ORDERS.
        order_keys: key of each request in that order, int64 [num_requests]; None for 0.
        swap_s_per_block: time of copying a block between GPU and host, on each stage [s].
        stage_bases: where the tables of each stage begin, [num_stages].
        send_latency_s: what each stage adds to a batch to send it on, 0 for the last, [num_stages] [s].
        send_s_per_token: the same per token of the batch.
        named_blocks: fastsim.named_blocks.NamedBlocks of the requests, for a prefix cache; None if none has a name.
        clients: who sends the requests, and what lies between them and the replicas.
        joint: estimators.JointLayout of the tables, where their rule is ``"joint"``.
        skew: estimators.SkewLayout of the tables, where they have that part.
        engines: data-parallel engines of a replica.
        expert: estimators.ExpertLayout of the tables, where they have that part: the engines are in lockstep.
        padded_tokens: of engines in lockstep: by number of tokens what all of them are padded to, from 0 on [tokens].
        profiled: largest measured value of an axis of PROFILED_AXES, where there is one.
        record_bins: most bins of time by which sums are kept (`fastsim.kernel.series`), an even number; 0 keeps none,
            nor what `fastsim.kernel.visits` and `fastsim.kernel.notes` keep.
        bounds: of all requests, where the workload is only the first of a stream (`fastsim.kernel.segment`).
    """
    dynamic = clients.send_later(workload)
    if dynamic:
        requests = records(REQUEST, len(workload.arrival_s))
        pending = new_pending(workload, order_keys, clients)
    else:
        requests = new_requests(*in_order_of_arrival(workload, order_keys, clients))
        pending = records(PENDING, 0)
    replicas = records(REPLICA, num_replicas * engines)
    num_stages = len(stage_bases)
    replicas["ask_step"] = np.iinfo(np.int64).max
    for name, value in limits.items():
        replicas[name] = value
    replicas["max_micro_batch"] = replicas["max_num_seqs"]
    if not replicas["stays_running"][0]:
        replicas["max_micro_batch"] //= num_stages
    replicas["radix"] &= replicas["caching"]
    replicas["num_blocks"] = replicas["free_blocks"] = num_blocks
    replicas["block_size"] = block_size
    replicas["block_shift"] = block_size.bit_length() - 1 if block_size.bit_count() == 1 else -1
    replicas["queue_order"] = QUEUE_ORDERS[queue_order]
    replicas["swap_s_per_block"] = swap_s_per_block
    replicas["tells_completed"] = dynamic
    for end in ("completed_head", "waiting_head", "waiting_tail", "running_head", "running_tail"):
        replicas[end] = NONE
    point_at_tables(replicas, layout, prefill_rule)
    if joint is not None:
        point_at_joint_tables(replicas, layout, joint, skew)
    replicas["in_lockstep"] = expert is not None
    replicas["expert_table"] = layout.size + sum(part.size for part in (joint, skew) if part is not None)
    stages = new_stages(replicas, stage_bases, send_latency_s, send_s_per_token)
    replicas["most_edges"] = record_bins
    most_requests, longest_output, longest = bounds_of(workload) if bounds is None else bounds
    num_recorded = num_recorded_integers(replicas, layout, len(requests))
    num_more = num_recorded + len(padded_tokens) + num_integers(pending)
    integers = new_integers(replicas, longest_output, longest, named_blocks, num_more)
    place_recorded(replicas, layout, len(integers) - num_more)
    first_padded = len(integers) - num_more + num_recorded
    integers[first_padded : first_padded + len(padded_tokens)] = padded_tokens
    if named_blocks is not None:
        name_requests(pending if dynamic else requests, named_blocks)
    place_tracks(replicas, stages, integers, first_sent_s(workload, pending))
    for axis in PROFILED_AXES:
        replicas[f"profiled_{axis}"] = profiled.get(axis, np.iinfo(np.int64).max)
    replicas["last_step_end_s"] = -1.0
    replicas["decodes_run"] = 1
    cluster = records(CLUSTER, 1)
    cluster["seed"] = seed % (1 << 63)
    cluster["router_reads_replicas"] = router_reads_replicas
    if hit_weight is not None:
        cluster["router_reads_prefix"], cluster["hit_weight"] = replicas["caching"][0], hit_weight
    cluster["record_batches"] = batch_log_rows > 0
    # However many requests are outstanding, their product is an integer.
    cluster["max_stall"] = min(num_stages * longest * (longest + 1), (1 << 62) // most_requests)
    cluster["more_to_come"] = bounds is not None
    cluster["engines"], cluster["unit"] = engines, 1 if expert is None else engines
    cluster["padded"], cluster["largest_capture"] = first_padded, len(padded_tokens) - 1
    if dynamic:
        place_clients(cluster, integers, len(integers) - num_integers(pending), pending, clients)
    batches = records(BATCH, max(batch_log_rows, num_stages, engines))
    fleet = replicas
    if engines > 1:
        fleet = records(REPLICA, num_replicas)
        fleet[:] = replicas[::engines]
        fleet["num_blocks"] *= engines
    return State(requests, replicas, cluster, integers, batches, stages, pending, fleet)


def new_stages(
    replicas: np.ndarray, bases: Sequence[int], send_latency_s: Sequence[float], send_s_per_token: Sequence[float]
) -> np.ndarray:
    """The stages of all replicas, with their places written into the replicas' records."""
    replicas["num_stages"] = len(bases)
    replicas["first_stage"] = len(bases) * np.arange(len(replicas))
    replicas["table_base"] = bases[0]
    stages = records(STAGE, len(bases) * len(replicas))
    for name, values in (
        ("table_base", bases),
        ("send_latency_s", send_latency_s),
        ("send_s_per_token", send_s_per_token),
    ):
        stages[name] = np.tile(values, len(replicas))
    return stages


def new_integers(
    replicas: np.ndarray, longest_output: int, longest: int, named_blocks: Any, num_more: int = 0
) -> np.ndarray:
    """The pool of integers, with the places of the replicas' parts written into their records.

    After the histogram of time between tokens come for each replica the listed prefills with their chunks, a scratch
    list, LightLLM's list, the ring of batches in flight, the free slots (their number first), the slots to try of
    `fastsim.kernel.own_slots`, the parts of the prefix cache (`fastsim.kernel.prepare_cache`), the tracks of
    `fastsim.kernel.series`, and the slots of `fastsim.kernel.cohorts`: one for the bench, and one, or with several
    stages one more than there are stages. Then, once for all replicas, come the ids of named blocks and num_more
    integers for the clients.
    """
    max_num_seqs, num_stages = int(replicas["max_num_seqs"][0]), int(replicas["num_stages"][0])
    # A decode is entered at most its output tokens ahead, so a ring of that length holds each step once.
    ring = 1 << longest_output.bit_length()
    slot_size = HEADER + ring + int(replicas["block_size"][0]) + (1 + 3) * max_num_seqs
    slot_size += stack_size(replicas, ring)
    num_slots = num_stages + 2 if num_stages > 1 else 2
    parts = {
        "prefills": 2 * max_num_seqs,
        "scratch": 2 * max_num_seqs,
        "by_left": 2 * max_num_seqs,
        "flights": 2 * int(flight_size(max_num_seqs)) if replicas["async_scheduling"][0] else num_stages,
        "free_slots": 1 + num_slots,
        "slots_to_try": num_stages,
        **cache_parts(replicas, longest, named_blocks),
        "track": num_tracks(replicas) * track_size(int(replicas["most_edges"][0])),
        "slots": num_slots * slot_size,
    }
    size = sum(parts.values())
    begin = NUM_BUCKETS + size * np.arange(len(replicas))
    ids = named_blocks.ids if replicas["caching"][0] and named_blocks is not None else np.zeros(0, np.int64)
    integers = np.zeros(NUM_BUCKETS + size * len(replicas) + len(ids) + num_more, np.int64)
    first_id = len(integers) - num_more - len(ids)
    replicas["ids"] = first_id
    integers[first_id : first_id + len(ids)] = ids
    for name, length in parts.items():
        replicas[name] = begin
        begin = begin + length
    replicas["slot_size"] = slot_size
    replicas["calendar_mask"] = ring - 1
    replicas["bench_slot"] = 1
    replicas["has_names"] = (len(ids) > 0) | replicas["radix"]
    replicas["blocks_per_id"] = 1 if named_blocks is None else named_blocks.blocks_per_id
    replicas["asked"] = -1
    for end in ("spare_piece", "spare_use", "queue_front", "queue_back"):
        replicas[end] = NONE
    for replica in replicas:
        empty_cache(replica, integers)
        for slot in range(num_slots):
            place = replica["slots"] + slot * slot_size
            integers[[place + CHUNKED, place + RUNNING_HEAD, place + RUNNING_TAIL]] = NONE
            calendar = place + HEADER
            integers[calendar : calendar + ring] = NONE
        # Slot 0 is at hand, and slot 1 on the bench.
        integers[replica["free_slots"]] = num_slots - 2
        integers[replica["free_slots"] + 1 : replica["free_slots"] + num_slots - 1] = np.arange(2, num_slots)
    return integers


def new_requests(workload: Any, order_keys: np.ndarray | None = None, rows: np.ndarray | None = None) -> np.ndarray:
    """The request table before the first arrival.

    Args:
        workload: columns in order of arrival.
        order_keys: as in `new_state`, in that order.
        rows: which row of the workload each is; None for its own number.
    """
    requests = records(REQUEST, len(workload.arrival_s))
    fill_requests, *_ = table_functions()
    fill_requests(
        requests,
        workload.arrival_s,
        workload.prompt_tokens,
        workload.output_tokens,
        workload.request_class,
        workload.session,
    )
    if order_keys is not None:
        requests["order_key"] = order_keys
    if rows is not None:
        requests["row"] = rows
    if workload.session.max() >= 0:
        requests["session_previous"] = previous_in_session(workload.session)
    return requests


def point_at_tables(replicas: np.ndarray, layout: Any, prefill_rule: str) -> None:
    """Write the layout of the tables into the replicas' records, in place."""
    replicas["token_table"] = layout.token_offset
    replicas["sequence_table"] = layout.sequence_offset
    replicas["decode_table"] = layout.decode_offset
    replicas["decode_stride"] = layout.kv_points
    replicas["kv_bits"] = layout.kv_bits
    replicas["prefill_table"] = layout.prefill_offset
    replicas["prefill_stride"] = layout.chunk_points
    replicas["history_bits"] = layout.history_bits
    replicas["chunk_bits"] = layout.chunk_bits
    replicas["prefill_rule"] = PREFILL_RULES[prefill_rule]


def point_at_joint_tables(replicas: np.ndarray, layout: Any, joint: Any, skew: Any) -> None:
    """Write the layout of the tables of chunks and decodes together, and of the skew, into the records, in place."""
    _, histories, decodes, contexts = joint.shape
    replicas["joint_table"] = layout.size
    replicas["joint_decode_stride"] = contexts
    replicas["joint_history_stride"] = decodes * contexts
    replicas["joint_chunk_stride"] = histories * decodes * contexts
    for axis in ("chunk", "history", "decode", "context"):
        replicas[f"joint_{axis}_bits"] = getattr(joint, f"{axis}_bits")
    if skew is not None:
        replicas["has_skew"] = 1
        replicas["skew_table"] = layout.size + joint.size
        for axis in ("chunks", "decodes", "rates", "contexts", "histories"):
            replicas[f"skew_{axis}"] = getattr(skew, axis)


def with_longer_log(state: State, window: tuple[float, float] | None = None) -> State:
    """The same state with room in its batch log, which is full.

    Args:
        state: of a run.
        window: rows outside of it are dropped [s]; None keeps all.
    """
    used = state.batches[: int(state.cluster["num_batches"][0])]
    if window is not None:
        used = used[(used["end_s"] > window[0]) & (used["start_s"] < window[1])]
    # All kept may still be less than half: the rows of one batch, one for each stage, did not fit behind them.
    longer = window is None or 2 * len(used) > len(state.batches)
    batches = records(BATCH, (1 + longer) * len(state.batches))
    batches[: len(used)] = used
    state.cluster["num_batches"] = len(used)
    return state._replace(batches=batches)


def copy_state(state: State) -> State:
    """A state that shares nothing with another: for another thread, or to go back to."""
    copies = State(*(table.copy() for table in state))
    return copies._replace(fleet=copies.replicas) if state.fleet is state.replicas else copies
