"""The state of a simulation: a few record tables, one per kind of thing, and one pool of integers.

Every field's unit is on its line. Requests are linked into lists by index: a request is in its replica's waiting queue
or in its running list (``next``/``previous``), and while it decodes also in the calendar of completions (``due_*``).
"""

from typing import NamedTuple

import numpy as np

#: No request: the end of a linked list.
NONE = -1

#: Request phases. A request whose KV was swapped out keeps what it has computed; if it was a decode it is SWAPPED. One
#: whose last token is in flight under asynchronous scheduling is ENDING.
ARRIVING, WAITING, PREFILL, DECODE, COMPLETED, SWAPPED, ENDING = range(7)

#: Queue orders (docs/policies.md, section 6): by arrival with preempted requests in front, by class, by length.
FCFS, PRIORITY, SJF = range(3)
QUEUE_ORDERS = {"fcfs": FCFS, "priority": PRIORITY, "sjf": SJF}

#: Longest rest of an output that sglang reckons with [tokens].
SGLANG_CLIP = 4096

#: When a request gets its KV blocks: as its tokens are written; those of all its known tokens when it is admitted, and
#: then as written; a fixed number when it is admitted.
AS_WRITTEN, WHOLE_PROMPT, FOR_LIFE = range(3)

#: What ``run`` returns.
DONE, BATCH_LOG_FULL, NO_PROGRESS, NO_SUCH_REPLICA, STOPPED, NEEDS_REQUESTS = range(6)

#: How the chunks of one batch add up to prefill attention time, see estimators.IterationTables.
RULE_SUM, RULE_EQUIVALENT_CHUNK, RULE_JOINT = range(3)
PREFILL_RULES = {"sum": RULE_SUM, "equivalent_chunk": RULE_EQUIVALENT_CHUNK, "joint": RULE_JOINT}

REQUEST = np.dtype(
    [
        ("arrival_s", np.float64),
        ("scheduled_s", np.float64),  # first time in a batch; NaN before
        ("first_token_s", np.float64),  # NaN before
        ("completed_s", np.float64),  # NaN before
        ("last_token_s", np.float64),  # of all but a decode that runs in every iteration: when its last token came [s]
        ("origin", np.int64),  # of a decode: context = decode step of its replica - origin [tokens]
        ("session", np.int64),  # conversation; NONE outside one
        ("first_id", np.int64),  # where its block ids begin in the pool, see `fastsim.kernel.prefix_cache`
        ("prompt_tokens", np.int32),
        ("output_tokens", np.int32),
        ("computed", np.int32),  # of all but a decode: tokens whose KV is written, or with stages in flight [tokens]
        ("generated", np.int32),  # of all but a decode: output tokens so far [tokens]
        ("next", np.int32),  # running list; waiting queue, or the left child in the heap that it is in other orders
        ("previous", np.int32),  # running list; the right child in that heap
        ("due_next", np.int32),  # calendar of completions
        ("due_previous", np.int32),  # of a completed one: the next in the list `completed_head`
        ("preemptions", np.int32),
        ("cached_tokens", np.int32),  # prompt tokens found in the prefix cache [tokens]
        ("replica", np.int32),
        ("order_key", np.int32),  # queue order is (order_key, index)
        ("row", np.int32),  # its place in the workload
        ("session_previous", np.int32),  # the request before it in its session, or NONE
        ("num_named", np.int32),  # blocks that have an id [blocks]
        ("num_listed", np.int32),  # its first blocks that are in the prefix cache while it uses them [blocks]
        ("last_use", np.int32),  # where that ends: the last use of a piece or a node of the tree, in the pool, or NONE
        ("request_class", np.int8),  # a smaller one is more important
        ("phase", np.int8),
        ("cohort", np.int8),  # of a decode, with stages: the cohort that it steps with
        ("token_in_flight", np.int8),  # 1 while a request that was preempted in flight waits for its token
    ],
    align=True,
)

REPLICA = np.dtype(
    [
        # What routers and the event loop read of every replica, within one cache line
        ("clock_s", np.float64),  # end of the last finished iteration, or the arrival that ended an idle time
        ("iteration_s", np.float64),  # one stage: duration of the iteration in flight
        (
            "next_end_s",
            np.float64,
        ),  # end of the oldest batch in flight; ahead: when it will be processed
        ("in_flight", np.int64),  # batches in flight: at most one for each stage, or two ahead
        ("num_blocks", np.int64),  # usable [blocks]
        ("free_blocks", np.int64),  # [blocks]
        ("outstanding", np.int64),  # waiting + running [requests]
        ("outstanding_tokens", np.int64),  # their prompts and outputs, whole until they complete [tokens]
        # Clock
        ("iteration", np.int64),  # number of the iteration in flight, or of the next one
        ("step", np.int64),  # number of the decode step in flight, or of the next one: iterations in which decodes run
        ("batch_may_change", np.int64),  # 1 if the batch policy must be asked before the next iteration
        ("ask_step", np.int64),  # decode step before which it must be asked in any case
        ("attempt_step", np.int64),  # decode step before which it last tried to admit
        ("progress_iteration", np.int64),  # iteration that last completed a request
        ("stall_iteration", np.int64),  # up to which nobody asks whether that was too long ago
        # Limits of the batch policy
        ("max_num_seqs", np.int64),  # [requests]
        ("max_micro_batch", np.int64),  # of one iteration [requests]
        ("max_num_batched_tokens", np.int64),  # [tokens]
        ("long_prefill_token_threshold", np.int64),  # longest chunk, 0 for no limit [tokens]
        ("scheduler_reserve_full_isl", np.int64),  # 1: admit only what fits whole
        ("enable_chunked_prefill", np.int64),  # 1: a prompt may be cut
        ("watermark_blocks", np.int64),  # left free by an admission [blocks]
        ("max_waiting_iterations", np.int64),  # decode steps between two attempts to admit [steps]
        ("chunked_prefill_size", np.int64),  # most prefill tokens of a batch, beyond which a prompt is cut [tokens]
        ("guaranteed_no_evict", np.int64),  # 1: trtllm admits only what can run to its end
        ("queue_order", np.int64),  # one of FCFS, PRIORITY, SJF
        ("stays_running", np.int64),  # 1: who is in flight may be preempted, or have the next chunk in another batch
        ("owns_slots", np.int64),  # 1: each micro-batch has its own requests, see `fastsim.kernel.own_slots`
        # Engine (docs/policies.md, section 10); the times are 0 where the tables have them
        ("async_scheduling", np.int64),  # 1: a batch is formed while the one before it runs
        ("launch_s", np.float64),  # CPU time before a batch, and per request of it [s]
        ("launch_s_per_request", np.float64),
        ("process_s", np.float64),  # CPU time behind a batch, and per request of it [s]
        ("process_s_per_request", np.float64),
        ("device_s", np.float64),  # with async_scheduling: when the device is done with all batches formed so far
        # Prefix cache, see `fastsim.kernel.prefix_cache`
        ("caching", np.int64),  # 1: blocks can be found again
        ("uncached_first", np.int64),  # 1: blocks that nobody can find are freed to the front of the queue
        ("blocks_per_id", np.int64),
        ("ids", np.int64),  # where the ids of all requests begin in the integer pool
        ("index", np.int64),  # where the index begins
        ("index_mask", np.int64),
        ("found", np.int64),  # where the pieces found by the latest lookup begin
        ("num_found", np.int64),
        ("spare_piece", np.int64),  # a place given back, or NONE
        ("next_piece", np.int64),  # the first place never used
        ("spare_use", np.int64),
        ("next_use", np.int64),
        ("queue_front", np.int64),  # of the blocks that nobody uses
        ("queue_back", np.int64),
        ("has_names", np.int64),  # 1 if blocks have names, or in a tree: then who frees first counts
        ("num_done", np.int64),  # completed requests that have not freed their blocks yet
        ("num_live", np.int64),  # cached pieces in that queue
        ("retry_head", np.int64),  # 1 if the head of the waiting queue may fit once less of it is found
        # The same as a radix tree, see `fastsim.kernel.radix_tree`
        ("radix", np.int64),  # 1: what can be found again is in the tree
        ("evictable", np.int64),  # of the free blocks those that can be found again [blocks]
        ("children", np.int64),  # where the table of children begins in the integer pool
        ("children_mask", np.int64),
        ("root", np.int64),
        ("spare_node", np.int64),  # a place given back
        ("next_node", np.int64),  # the first place never used
        ("oldest_leaf", np.int64),  # of those that nobody locks
        ("newest_leaf", np.int64),
        ("access", np.int64),  # the latest access number
        # KV blocks
        ("block_size", np.int64),  # [tokens]
        ("block_shift", np.int64),  # its binary logarithm, or -1 where it is no power of two
        ("memory_rule", np.int64),  # one of AS_WRITTEN, WHOLE_PROMPT, FOR_LIFE
        ("reserved_blocks", np.int64),  # of each request, FOR_LIFE [blocks]
        ("spare_blocks", np.int64),  # free blocks that a decode asks for beside those it takes [blocks]
        ("swaps", np.int64),  # 1: the KV of a preempted request is kept in host memory
        ("swapped_blocks", np.int64),  # copied since the last batch was formed [blocks]
        ("swap_s_per_block", np.float64),  # time of a copy on each stage [s]
        # Requests here
        ("num_running", np.int64),  # [requests]
        ("num_decodes", np.int64),  # [requests]
        ("num_fresh", np.int64),  # decodes whose last token is not that of the last decode step [requests]
        ("last_step_end_s", np.float64),  # end of the last decode step
        ("num_prefills", np.int64),  # running requests with a part of their prefill not in a batch yet [requests]
        ("decode_kv", np.int64),  # sum of the decodes' contexts [tokens]
        ("sums_running", np.int64),  # 1: the next three are kept
        ("running_tokens", np.int64),  # sum of running requests' prompts and outputs, whole [tokens]
        ("running_blocks", np.int64),  # that they will hold in the end, with guaranteed_no_evict [blocks]
        ("num_long_outputs", np.int64),  # running requests with an output beyond SGLANG_CLIP [requests]
        ("hit_tokens", np.int64),  # prompt tokens of the request being routed that the prefix cache holds [tokens]
        ("num_benched", np.int64),  # decodes in the cohort on the bench [requests]
        ("tells_completed", np.int64),  # 1: completed requests are listed, until clients have read it
        ("completed_head", np.int64),  # of that list
        ("waiting_head", np.int64),
        ("waiting_tail", np.int64),
        ("running_head", np.int64),
        ("running_tail", np.int64),
        # The batch being formed or in flight: the decodes and a chunk of each prefill
        ("decodes_run", np.int64),  # 1 if the decodes are in it, 0 if they stall
        ("num_chunks", np.int64),  # prefills with tokens in it [requests]
        ("chunk_tokens", np.int64),  # sum over chunks [tokens]
        ("chunk_pairs", np.float64),  # (query, key) pairs of the chunks, causal [pairs]
        ("preempted_now", np.int64),  # requests preempted while forming it
        ("preempted_unlogged", np.int64),  # the same, and while forming none since the batch before
        # SGLang's new-token ratio: the part of the outputs still to come that is set aside in memory
        ("ratio", np.float64),  # before the decode step ratio_step; later ones lower it
        ("ratio_step", np.int64),  # counted over all slots
        ("ratio_start", np.float64),
        ("ratio_floor", np.float64),
        ("ratio_decay", np.float64),  # taken off by each decode step
        ("decode_batches", np.int64),  # with stages: batches formed of decodes, of all slots
        ("has_chunked", np.int64),  # 1 while a request is chunked, in whichever slot
        ("idled", np.int64),  # 1 if the replica had no request at a time since the batch policy was last asked
        ("full_mark", np.int64),  # 1 + completed when nobody more could be admitted; another value: no longer so
        # Pipeline stages, see `fastsim.kernel.stages`
        ("num_stages", np.int64),
        ("first_stage", np.int64),  # its first STAGE record
        ("try_to_form", np.int64),  # 1 if something happened at the clock that may let a batch be formed
        ("changes", np.int64),  # events, other than completions and preemptions, that may change a batch
        ("asked", np.int64),  # of the cohort: the count of such events when it was last asked for nothing, or -1
        ("oldest", np.int64),  # place of the oldest batch in flight in the ring of them
        ("num_in_flight", np.int64),  # requests in flight [requests]
        ("num_ended", np.int64),  # slots whose batches have ended since one was last formed, with own_slots
        ("slot", np.int64),  # where the cohort at hand is kept
        ("bench_slot", np.int64),  # where the one on the bench is kept
        # Where this replica's parts of the integer pool begin, see `fastsim.kernel.prepare`
        ("calendar", np.int64),
        ("calendar_mask", np.int64),
        ("crossings", np.int64),
        ("fresh", np.int64),
        ("chunks", np.int64),
        ("prefills", np.int64),
        ("scratch", np.int64),
        ("by_left", np.int64),
        ("num_by_left", np.int64),  # entries of that list [requests]
        ("origins_by_left", np.int64),  # sum of their origins [tokens]
        ("flights", np.int64),
        ("free_slots", np.int64),
        ("slots_to_try", np.int64),
        ("slots", np.int64),
        ("slot_size", np.int64),
        # Where its parts of the tables begin, see estimators.TableLayout
        ("table_base", np.int64),  # of the stage at hand, added to the others
        ("token_table", np.int64),
        ("sequence_table", np.int64),
        ("decode_table", np.int64),
        ("decode_stride", np.int64),
        ("kv_bits", np.int64),
        ("prefill_table", np.int64),
        ("prefill_stride", np.int64),
        ("history_bits", np.int64),
        ("chunk_bits", np.int64),
        ("prefill_rule", np.int64),  # one of PREFILL_RULES
        # The same of chunks and decodes together, see estimators.JointLayout, where the rule is RULE_JOINT
        ("joint_table", np.int64),
        ("joint_chunk_stride", np.int64),
        ("joint_history_stride", np.int64),
        ("joint_decode_stride", np.int64),
        ("joint_chunk_bits", np.int64),
        ("joint_history_bits", np.int64),
        ("joint_decode_bits", np.int64),
        ("joint_context_bits", np.int64),
        ("one_chunk", np.int64),  # the chunk that stands for all of the batch [tokens]
        ("chunk_history", np.int64),  # and its history [tokens]
        # The same of the correction for decodes of unequal length, see estimators.SkewLayout
        ("has_skew", np.int64),  # 1: there is one, and the extremes below are kept
        ("skew_table", np.int64),
        ("skew_chunks", np.int64),  # bins
        ("skew_decodes", np.int64),
        ("skew_rates", np.int64),
        ("skew_contexts", np.int64),
        ("skew_histories", np.int64),
        ("extremes_known", np.int64),  # 0 if the next two may be wrong
        ("smallest_origin", np.int64),  # of the decodes at hand: that of the longest [tokens]
        ("largest_origin", np.int64),  # and of the shortest
        ("share", np.float64),  # of the same decodes, in batches without chunks, how far they are from their mean
        ("share_until", np.int64),  # up to which length of the longest that holds; 0: not known [tokens]
        # Engines in lockstep, see `fastsim.kernel.lockstep`
        ("expert_table", np.int64),  # the same of the experts of all engines, see estimators.ExpertLayout
        ("in_lockstep", np.int64),  # 1: it is one of them
        ("in_round", np.int64),  # 1: it has a batch in the round being formed, or, synchronous, in flight
        # Sums over time, see `fastsim.kernel.series`; the edges are infinite where nothing is recorded
        ("next_edge_s", np.float64),  # next edge of the track by the clock
        ("track", np.int64),  # where that begins in the integer pool
        ("next_work_edge_s", np.float64),  # scheduling ahead: the same of the track by the device's time
        ("work_track", np.int64),
        ("most_edges", np.int64),  # that a track can hold
        # What else is recorded, see `fastsim.kernel.visits` and `fastsim.kernel.notes`
        ("visits", np.int64),  # where the histograms begin in the integer pool; 0: nothing is recorded
        ("visited_sequences", np.int64),  # how far they go [requests]
        ("visited_tokens", np.int64),  # [tokens]
        ("notes", np.int64),  # where the notes of requests begin; 0: nothing is recorded
        ("stack", np.int64),  # where the gaps of the cohort at hand begin
        ("gap_s", np.float64),  # the largest since somebody came or went [s]
        ("batch_decode_s", np.float64),  # attention of the batch formed last
        ("batch_prefill_s", np.float64),
        ("decode_attention_s", np.float64),  # one stage: sums of it, and of copies of swapped KV
        ("prefill_attention_s", np.float64),
        ("copies_s", np.float64),
        ("known_s", np.float64),  # with stops, in the fleet: up to when what happens here is known [s]
        # Reserved: disaggregation
        ("role", np.int64),
        ("link", np.int64),
        # Sums over finished iterations
        ("busy_s", np.float64),  # over all stages
        ("active_s", np.float64),  # time with an iteration in flight
        ("tbt_sum_s", np.float64),  # sum of all gaps between tokens [s]
        ("block_seconds", np.float64),  # used blocks x time [blocks s]
        ("running_seconds", np.float64),  # requests in the batch x time [requests s]
        ("prefill_tokens", np.int64),
        ("decode_tokens", np.int64),
        ("attention_pairs", np.float64),  # (query, key) pairs, causal [pairs]
        ("completed", np.int64),
        ("preemptions", np.int64),
        # Largest values that were measured, and batches that read tables beyond; outside is 1 while such is formed
        ("profiled_tokens", np.int64),
        ("profiled_sequences", np.int64),
        ("profiled_decodes", np.int64),
        ("profiled_history", np.int64),
        ("profiled_chunk", np.int64),
        ("outside", np.int64),
        ("outside_batches", np.int64),
        # Largest values seen
        ("peak_blocks", np.int64),
        ("peak_batch_tokens", np.int64),
        ("peak_sequences", np.int64),
        ("peak_decodes", np.int64),
        ("peak_history", np.int64),
        ("peak_chunk", np.int64),
    ],
    align=True,
)

STAGE = np.dtype(
    [
        ("table_base", np.int64),  # where its tables begin
        ("send_latency_s", np.float64),  # to the next stage; 0 for the last
        ("send_s_per_token", np.float64),
        ("free_s", np.float64),  # when it is done with all batches formed so far
        ("busy_s", np.float64),
        ("next_edge_s", np.float64),  # with several: next edge of its track, see `fastsim.kernel.series`
        ("track", np.int64),
        ("decode_attention_s", np.float64),  # with several: sums of attention, and of copies of swapped KV [s]
        ("prefill_attention_s", np.float64),
        ("copies_s", np.float64),
    ],
    align=True,
)

CLUSTER = np.dtype(
    [
        ("next_request", np.int64),  # the first that has not arrived yet
        ("num_routed", np.int64),  # requests that have a replica
        ("turn", np.int64),  # round-robin router: replica of the next request
        ("seed", np.int64),  # of the routers that draw
        ("router_reads_replicas", np.int64),  # 1: bring every replica to the arrival's time before routing
        ("router_reads_prefix", np.int64),  # 1: look up in every replica's prefix cache what is about to be routed
        ("hit_weight", np.float64),  # of the prefix-aware router: what such a token counts against one of load
        ("num_batches", np.int64),  # rows of the batch log in use
        ("record_batches", np.int64),
        ("max_stall", np.int64),  # iterations per outstanding request after which one must have completed
        # A stream, of which the table holds some requests at a time, see `fastsim.kernel.segment`
        ("more_to_come", np.int64),  # 1: those of the table are not the last
        ("first_request", np.int64),  # number of the first of the table among all
        # Data-parallel engines, see `fastsim.kernel.data_parallel`
        ("engines", np.int64),  # of a replica: REPLICA records side by side
        ("unit", np.int64),  # records that advance together: the engines of a replica if they are in lockstep, else 1
        ("padded", np.int64),  # in the integer pool: by tokens of the largest batch of a round what it is padded to
        ("largest_capture", np.int64),  # most tokens that are padded; 0: none are [tokens]
        # Limits that end the run early, see `fastsim.kernel.stops`
        ("stops", np.int64),  # in the integer pool
        ("num_stops", np.int64),
        # Clients that send because requests complete, see `fastsim.kernel.clients`
        ("dynamic", np.int64),  # 1: there are such
        ("closed", np.int64),  # 1: whoever has got a request whole sends the next of the workload
        ("next_row", np.int64),  # which that is
        ("client_think_s", np.float64),  # after how long it is sent [s]
        ("ingress_s", np.float64),  # from a client to the replicas [s]
        ("ingress_s_per_token", np.float64),  # the same per prompt token [s]
        ("egress_s", np.float64),  # from a replica to a client [s]
        ("fixed", np.int64),  # in the integer pool: rows whose time of sending was known from the start
        ("next_fixed", np.int64),  # of these the first that has not arrived yet
        ("num_fixed", np.int64),
        ("travelling", np.int64),  # in the integer pool: heap of rows sent since
        ("num_travelling", np.int64),
        ("latest", np.int64),  # in the integer pool: the latest request of each conversation, or NONE
    ],
    align=True,
)

PENDING = np.dtype(
    [
        ("sent_s", np.float64),  # when its client sends it; written then, where others must complete first
        ("arrival_s", np.float64),  # at the replicas; the same
        ("think_s", np.float64),  # of the open client: from the completion of the one before to sending [s]
        ("session", np.int64),
        ("first_id", np.int64),
        ("prompt_tokens", np.int32),
        ("output_tokens", np.int32),
        ("order_key", np.int32),
        ("num_named", np.int32),
        ("successor", np.int32),  # of the open client: row that is sent when this one has completed, or NONE
        ("conversation", np.int32),  # number of its session among those of the run, or NONE
        ("request_class", np.int8),
    ],
    align=True,
)

BATCH = np.dtype(
    [
        ("replica", np.int32),
        ("stage", np.int32),
        ("start_s", np.float64),
        ("end_s", np.float64),
        ("num_tokens", np.int32),
        ("num_sequences", np.int32),
        ("num_decodes", np.int32),
        ("used_blocks", np.int32),
        ("decode_kv", np.int64),  # [tokens]
        ("preempted", np.int32),  # requests preempted while it was formed
    ],
    align=True,
)


class State(NamedTuple):
    """Everything that a run reads and changes.

    Attributes:
        requests: REQUEST records [num_requests], sorted by arrival.
        replicas: REPLICA records [num_replicas * engines], those of a replica's data-parallel engines side by side.
        cluster: one CLUSTER record [1].
        integers: int64 pool [any]: the histogram of time between tokens, then the parts of each replica, which
            `fastsim.kernel.prepare` lists.
        batches: BATCH records [capacity], the batch log; empty unless it is kept.
        stages: STAGE records [replicas.size * num_stages], those of a replica side by side.
        pending: PENDING records [num_requests], by row of the workload; none unless clients send because requests
            complete. The records of ``requests`` are then written when they arrive.
        fleet: REPLICA records [num_replicas], what routers see: ``replicas`` themselves if each has one engine, else
            sums over engines, written before they are read.
    """

    requests: np.ndarray
    replicas: np.ndarray
    cluster: np.ndarray
    integers: np.ndarray
    batches: np.ndarray
    stages: np.ndarray
    pending: np.ndarray
    fleet: np.ndarray


def records(dtype: np.dtype, size: int) -> np.ndarray:
    """Zeroed records that also allow attribute access when the kernels run as plain Python."""
    return np.zeros(size, dtype).view(np.recarray)
