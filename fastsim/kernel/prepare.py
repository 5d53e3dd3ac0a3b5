"""Making the state of a run: the Python side of the kernel, which checks nothing because its caller has."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastsim.kernel.histogram import NUM_BUCKETS
from fastsim.kernel.slots import table_functions
from fastsim.kernel.state import BATCH, CLUSTER, NONE, PREFILL_RULES, REPLICA, REQUEST, State, records


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
    seed: int = 0,
    batch_log_rows: int = 0,
) -> State:
    """The state before the first arrival.

    Args:
        workload: traces.Workload, or anything with its columns, sorted by arrival.
        layout: estimators.TableLayout of the tables, the same for every replica.
        prefill_rule: one of PREFILL_RULES.
        limits: fields of REPLICA that the batch policy reads, with their values.
        num_replicas: number of replicas.
        num_blocks: usable KV blocks of each replica.
        block_size: tokens per block.
        seed: of the routers that draw.
        router_reads_replicas: whether replicas must be brought to each arrival's time before it is routed.
        batch_log_rows: capacity of the batch log, 0 to keep none.
    """
    requests = new_requests(workload)
    replicas = records(REPLICA, num_replicas)
    replicas["ask_step"] = np.iinfo(np.int64).max
    for name, value in limits.items():
        replicas[name] = value
    replicas["num_blocks"] = replicas["free_blocks"] = num_blocks
    replicas["block_size"] = block_size
    for end in ("waiting_head", "waiting_tail", "running_head", "running_tail"):
        replicas[end] = NONE
    point_at_tables(replicas, layout, prefill_rule)
    integers = new_integers(replicas, int(workload.output_tokens.max()))
    replicas["last_step_end_s"] = -1.0
    replicas["decodes_run"] = 1
    cluster = records(CLUSTER, 1)
    cluster["seed"] = seed % (1 << 63)
    cluster["router_reads_replicas"] = router_reads_replicas
    cluster["record_batches"] = batch_log_rows > 0
    # P + 2 O iterations a request are enough where nobody is overtaken, but sglang sends the retracted to the end.
    tokens = int(workload.prompt_tokens.sum() + workload.output_tokens.sum())
    cluster["max_iterations"] = min(tokens * tokens, 1 << 62)
    return State(requests, replicas, cluster, integers, records(BATCH, batch_log_rows))


def new_integers(replicas: np.ndarray, longest_output: int) -> np.ndarray:
    """The pool of integers, with the places of the replicas' parts written into their records."""
    max_num_seqs = int(replicas["max_num_seqs"][0])
    # A decode is entered at most its output tokens ahead, so a ring of that length holds each step once.
    ring = 1 << longest_output.bit_length()
    parts = {
        "calendar": ring,
        "crossings": int(replicas["block_size"][0]),
        "prefills": 2 * max_num_seqs,
        "fresh": max_num_seqs,
        "by_left": 2 * max_num_seqs,
    }
    size = sum(parts.values())
    begin = NUM_BUCKETS + size * np.arange(len(replicas))
    integers = np.zeros(NUM_BUCKETS + size * len(replicas), np.int64)
    for first in begin:
        integers[first : first + ring] = NONE
    replicas["calendar_mask"] = ring - 1
    for name, length in parts.items():
        replicas[name] = begin
        begin = begin + length
    return integers


def new_requests(workload: Any) -> np.ndarray:
    """The request table before the first arrival."""
    requests = records(REQUEST, len(workload.arrival_s))
    fill_requests, _ = table_functions()
    fill_requests(
        requests,
        workload.arrival_s,
        workload.prompt_tokens,
        workload.output_tokens,
        workload.request_class,
        workload.session,
    )
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


def with_longer_log(state: State) -> State:
    """The same state with twice the room in its batch log."""
    batches = records(BATCH, 2 * len(state.batches))
    batches[: len(state.batches)] = state.batches
    return state._replace(batches=batches)
