"""The state of a run under parity: record tables, linked into lists by index.

Every field's unit is on its line. A request is in one list at a time: waiting, running, or the members of a
micro-batch; so is a micro-batch: free, in a stage's queue, or (faster_transformer) between two iterations.
"""

from typing import NamedTuple

import numpy as np
from numba import from_dtype, types

#: Nobody: the end of a list.
NONE = -1

#: What ``run`` returns: no event is left; an event beyond the time limit was handled; the log must grow; a batch has
#: no time in the tables; decodes found too few free tokens; batches form for ever and nobody completes.
DONE, CUT_OFF, LOG_FULL, BEYOND_TABLE, NO_FREE_TOKENS, NO_PROGRESS = range(6)

#: Batch policies.
POLICIES = {"vllm_v0": 0, "sarathi": 1, "orca": 2, "faster_transformer": 3, "lightllm": 4}
VLLM, SARATHI, ORCA, FASTER_TRANSFORMER, LIGHTLLM = range(5)

#: Routers; "random" takes what is written in the requests.
ROUTERS = {"round_robin": 0, "random": 1, "lor": 2}
ROUND_ROBIN, RANDOM, LOR = range(3)

#: Events that the loop makes itself; arrivals are read off the sorted requests.
GLOBAL_SCHEDULE, REPLICA_SCHEDULE, STAGE_ARRIVAL, STAGE_SCHEDULE, STAGE_END, BATCH_END = range(6)

#: Lists of a replica, counted from its first; then one queue per stage, then the members of each of its micro-batches.
WAITING, RUNNING, ASIDE, GROUPS, FREE, QUEUES = range(6)

#: Rows of the token tables, see `fastsim.vidur.times`.
HEAD, KV_SAVE, ALL_REDUCE, NORM, MLP, ADD, SEND = range(7)

REQUEST = np.dtype(
    [
        ("arrival_s", np.float64),
        ("scheduled_s", np.float64),  # first time in a batch; 0: see `scheduled`
        ("first_token_s", np.float64),  # 0: never
        ("completed_s", np.float64),  # 0: never
        ("execution_s", np.float64),  # sum of its stage runs
        ("model_execution_s", np.float64),  # the same without CPU overhead
        ("preempted_s", np.float64),  # sum of the gaps between its stage runs
        ("last_stage_end_s", np.float64),  # 0: never
        ("last_token_s", np.float64),  # 0: never
        ("prefill", np.int64),  # prompt, a restart changes it [tokens]
        ("decode", np.int64),  # output; the sum of both stays [tokens]
        ("processed", np.int64),  # the first output counts as soon as the prefill ends [tokens]
        ("tokens", np.int64),  # in the micro-batch that it is in [tokens]
        ("blocks", np.int64),  # held [blocks]
        ("next", np.int64),
        ("previous", np.int64),
        ("restarts", np.int64),
        ("replica", np.int64),
        ("scheduled", np.int64),  # 1 once it was in a batch
    ],
    align=True,
)

BATCH = np.dtype(
    [
        ("next", np.int64),
        ("previous", np.int64),
        ("members", np.int64),  # its list of requests
        ("number", np.int64),  # in order of formation, over all replicas
        ("num_tokens", np.int64),
        ("num_decodes", np.int64),
        ("decode_kv", np.int64),  # sum over decodes [tokens]
        ("num_chunks", np.int64),
        ("prefill_kv", np.int64),  # sum over chunks of their history, each rounded up to the granularity [tokens]
        ("chunk_squares", np.int64),  # sum over chunks [tokens squared]
        ("attention_pairs", np.int64),  # (query, key) pairs, causal [pairs]
        ("formed_s", np.float64),
        ("layer_ms", np.float64),  # one layer [ms]
        ("cpu_s", np.float64),  # host, at every stage [s]
        ("model_s", np.float64),  # the stage run in progress, without the host [s]
        ("total_s", np.float64),  # the stage run in progress [s]
    ],
    align=True,
)

REPLICA = np.dtype(
    [
        ("lists", np.int64),  # its first list
        ("batches", np.int64),  # its first micro-batch
        ("num_in_flight", np.int64),
        # Limits of the batch policy
        ("max_holders", np.int64),  # [requests]
        ("max_micro_batch", np.int64),  # [requests]
        ("max_tokens", np.int64),  # of a batch [tokens]
        ("watermark_blocks", np.int64),  # left free by an admission [blocks]
        ("blocks_for_life", np.int64),  # of each request of the policies that reserve [blocks]
        ("max_waiting_iterations", np.int64),
        ("waiting_iterations", np.int64),  # decode batches since the last attempt to admit
        # KV blocks
        ("num_blocks", np.int64),
        ("free_blocks", np.int64),
        ("block_size", np.int64),  # [tokens]
        ("kv_granularity", np.int64),  # what tokens in KV are rounded up to in the tables [tokens]
        ("holders", np.int64),  # requests with blocks
        # Sums over ended batches, named as in the state of our own loop
        ("iteration", np.int64),
        ("completed_iteration", np.int64),  # the last at whose end a request completed
        ("completed", np.int64),
        ("preemptions", np.int64),
        ("prefill_tokens", np.int64),
        ("decode_tokens", np.int64),
        ("attention_pairs", np.float64),
        ("busy_s", np.float64),  # all stages together
        ("active_s", np.float64),  # time with a micro-batch in flight
        ("active_from_s", np.float64),  # since when there is one
        ("tbt_sum_s", np.float64),  # sum of all gaps between tokens [s]
        ("block_seconds", np.float64),  # used blocks x time of all stages [blocks s]
        ("running_seconds", np.float64),  # requests in the batch x time of all stages [requests s]
        ("peak_blocks", np.int64),
        ("peak_batch_tokens", np.int64),
    ],
    align=True,
)

STAGE = np.dtype([("busy", np.int64), ("busy_s", np.float64)], align=True)
LIST = np.dtype([("head", np.int64), ("tail", np.int64), ("length", np.int64)], align=True)

EVENT = np.dtype(
    [
        ("time_s", np.float64),
        ("number", np.int64),  # order of creation, which breaks ties
        ("kind", np.int64),
        ("replica", np.int64),
        ("stage", np.int64),
        ("batch", np.int64),
    ],
    align=True,
)

CLUSTER = np.dtype(
    [
        ("policy", np.int64),  # one of POLICIES
        ("router", np.int64),  # one of ROUTERS
        ("num_stages", np.int64),
        ("layers", np.float64),  # of one stage
        ("prefill_factor", np.float64),  # of the attention of several chunks
        ("time_limit_s", np.float64),
        ("max_iterations", np.int64),  # without a completion
        ("now_s", np.float64),
        ("next_request", np.int64),  # the first that has not arrived yet
        ("num_routed", np.int64),
        ("num_pending", np.int64),  # events in the heap
        ("num_events", np.int64),  # made so far, arrivals included
        ("num_batches", np.int64),  # formed so far
        ("record_batches", np.int64),
        ("num_stage_runs", np.int64),  # rows of the log in use
        ("failed_batch", np.int64),  # the batch without a time
        ("failed_stage", np.int64),
    ],
    align=True,
)

STAGE_RUN = np.dtype(
    [
        ("batch", np.int64),
        ("replica", np.int64),
        ("stage", np.int64),
        ("formed_s", np.float64),
        ("start_s", np.float64),
        ("end_s", np.float64),
        ("total_s", np.float64),
        ("model_s", np.float64),
        ("num_sequences", np.int64),
        ("num_tokens", np.int64),
        ("num_chunks", np.int64),
        ("num_decodes", np.int64),
        ("decode_kv", np.int64),  # key of the decode table [tokens]
        ("prefill_kv", np.int64),  # key of the prefill table [tokens]
        ("prefill_chunk", np.int64),  # root of its other key [tokens]
        ("used_blocks", np.int64),
    ],
    align=True,
)


class Work(NamedTuple):
    """What batch policies change.

    Attributes:
        requests: REQUEST records [num_requests], sorted by arrival.
        batches: BATCH records [replicas * num_stages]; as many micro-batches are in flight at most.
        lists: LIST records [replicas * (QUEUES + 2 * num_stages)].
        scratch: int64 [2 * num_requests + 2], for lightllm.
    """

    requests: np.ndarray
    batches: np.ndarray
    lists: np.ndarray
    scratch: np.ndarray


class State(NamedTuple):
    """Everything that a run changes.

    Attributes:
        work: see `Work`.
        replicas: REPLICA records [replicas].
        stages: STAGE records [replicas * num_stages].
        events: EVENT records [capacity], a heap.
        cluster: one CLUSTER record [1].
        tbt: int64 [NUM_BUCKETS], the histogram of time between tokens.
        log: STAGE_RUN records [capacity]; empty unless it is kept.
    """

    work: Work
    replicas: np.ndarray
    stages: np.ndarray
    events: np.ndarray
    cluster: np.ndarray
    tbt: np.ndarray
    log: np.ndarray


class Tables(NamedTuple):
    """Milliseconds by key; NaN, or beyond the end, where Vidur has no entry.

    Attributes:
        token_ms: float64 [7, tokens], rows HEAD to SEND.
        decode_ms: float64 [decodes, kv / granularity].
        prefill_ms: float64 [kv / granularity, chunk].
        cpu_s: float64 [requests], in seconds.
    """

    token_ms: np.ndarray
    decode_ms: np.ndarray
    prefill_ms: np.ndarray
    cpu_s: np.ndarray


def _array(dtype):
    return types.Array(from_dtype(dtype), 1, "C")


_TABLE = types.Array(types.float64, 2, "C")
_INTEGERS = types.Array(types.int64, 1, "C")
_WORK = types.NamedTuple((_array(REQUEST), _array(BATCH), _array(LIST), _INTEGERS), Work)
#: (state, tables) -> status
RUN = types.int64(
    types.NamedTuple(
        (_WORK, _array(REPLICA), _array(STAGE), _array(EVENT), _array(CLUSTER), _INTEGERS, _array(STAGE_RUN)), State
    ),
    types.NamedTuple((_TABLE, _TABLE, _TABLE, types.Array(types.float64, 1, "C")), Tables),
)
