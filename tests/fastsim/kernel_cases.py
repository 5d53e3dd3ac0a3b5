"""Generated cases for the kernel, and running one through the kernel and through the reference."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from types import SimpleNamespace

import numpy as np
from hypothesis import strategies as st
from reference.overheads import tables_of_stages
from reference.simulate import ReferenceConfig, ReferenceTables
from reference.tables import JointTable, LogAxis, SkewTable
from reference_tests.feature_cases import featured

from estimators import TableLayout
from estimators.expert_layout import ExpertLayout
from estimators.joint import JointLayout, SkewLayout
from fastsim import kernel
from fastsim.batch_policy import Pool
from fastsim.kernel.prepare import new_state, with_longer_log
from fastsim.kernel.prepare_clients import Clients, as_clients_see
from fastsim.kernel.prepare_series import order_notes
from fastsim.kernel.prepare_stops import Stop, with_stops
from fastsim.kernel.slots import policies as slots_of
from fastsim.kernel.state import BATCH_LOG_FULL, DONE, State
from fastsim.named_blocks import name_blocks
from fastsim.options import ROUTERS
from fastsim.schedulers import SCHEDULERS
from fastsim.stage_tables import padded_tokens

Request = tuple[float, int, int]

#: Batch policies that have no pipeline stages.
ONE_STAGE = ("lightllm",)
#: Those that may swap.
SWAPPING = ("vllm_v1", "vllm_v0", "sarathi")

#: Of the routers that draw; larger than 32 bits on purpose.
SEED = 12_345_678_901


@dataclass(frozen=True)
class Case:
    """One simulation: what arrives, what serves it, how long that takes, and in how many bins it is recorded."""

    requests: list[Request]
    config: ReferenceConfig
    stage_tables: list[ReferenceTables]
    record_bins: int = 0

    @property
    def tables(self) -> ReferenceTables | list[ReferenceTables]:
        """What the reference takes: one for all stages, or one for each."""
        return self.stage_tables if len(self.stage_tables) > 1 else self.stage_tables[0]


def draw_replica(seed: int, counter: int, num_replicas: int) -> int:
    """What the routers that draw should draw: splitmix64 on 63 bits, in whole numbers without a limit."""
    modulus = 2**63
    x = (seed + (counter + 1) * 0x1E3779B97F4A7C15) % modulus
    x = (x ^ x // 2**30) * 0x3F58476D1CE4E5B9 % modulus
    x = (x ^ x // 2**27) * 0x14D049BB133111EB % modulus
    return (x ^ x // 2**31) % num_replicas


def random_tables(
    rng: np.random.Generator, config: ReferenceConfig, rule: str, coarse: bool, skew: bool = False
) -> ReferenceTables:
    """Tables large enough for a configuration, of random times that grow with the work; coarse ones are whole 1/8 s."""
    max_kv = max(1, config.num_usable_blocks * config.block_size)
    if skew or config.enable_prefix_caching:
        # All decodes may be taken as long as the longest, or read blocks that several share.
        max_kv = max(max_kv, config.max_num_seqs * config.max_model_len)
    bits = [int(b) for b in rng.integers(0, 4, 3)]
    most_tokens = scheduler_of(config).most_tokens(pool_of(config))
    max_history = max_kv if rule == "equivalent_chunk" else config.max_model_len
    axes = [
        LogAxis("kv", max_kv, bits[0]),
        LogAxis("history", max_history, bits[1]),
        LogAxis("chunk", most_tokens, bits[2]),
    ]
    rows, kv, history, chunk = config.max_num_seqs + 1, *(axis.num_points for axis in axes)
    decode = np.add.outer(np.arange(rows), np.arange(kv)) * rng.uniform(0, 0.02) + rng.uniform(0, 0.01, (rows, kv))
    decode[0] = 0.0
    parts = [
        rng.uniform(0.01, 0.02, most_tokens + 1).cumsum(),
        rng.uniform(0, 0.01, rows).cumsum(),
        decode,
        np.add.outer(np.arange(history), np.arange(chunk)) * rng.uniform(0, 0.05),
    ]
    values = np.concatenate([part.ravel() for part in parts])
    if coarse:
        values = np.ceil(values * 8) / 8
    sizes = {
        "max_tokens": most_tokens,
        "max_sequences": config.max_num_seqs,
        "max_kv": max_kv,
        "max_history": max_history,
        "max_chunk": most_tokens,
        "kv_bits": bits[0],
        "history_bits": bits[1],
        "chunk_bits": bits[2],
    }
    joint = random_joint_table(rng, config, most_tokens, coarse) if rule == "joint" else None
    return replace(
        ReferenceTables.from_dict({"values": values.tolist(), "prefill_rule": "sum", **sizes}),
        prefill_rule=rule,
        joint=joint,
        skew=random_skew_table(rng, config) if skew else None,
    )


def random_joint_table(rng: np.random.Generator, config: ReferenceConfig, most_tokens: int, coarse: bool) -> JointTable:
    """Random times of chunks and decodes together that grow with the work; coarse ones are whole 1/8 s."""
    lengths = {
        "chunk": most_tokens,
        "history": config.max_model_len,
        "decodes": config.max_num_seqs,
        "context": config.max_model_len,
    }
    axes = [LogAxis(name, most, int(rng.integers(0, 3))) for name, most in lengths.items()]
    grid = np.zeros(())
    for axis in axes:
        grid = np.add.outer(grid, np.arange(axis.num_points) * rng.uniform(0, 0.02))
    grid += rng.uniform(0, 0.01, grid.shape)
    if coarse:
        grid = np.ceil(grid * 8) / 8
    return JointTable(axes, grid.ravel().tolist())


def random_skew_table(rng: np.random.Generator, config: ReferenceConfig) -> SkewTable:
    """Random shares in few bins, some of them negative enough to meet the least time there is."""
    most = (config.max_num_batched_tokens, config.max_num_seqs, 1.0, config.max_model_len, config.max_model_len)
    edges = [sorted(np.round(rng.uniform(0, top, rng.integers(0, 4)), 2).tolist()) for top in most]
    shares = rng.uniform(-2, 2, math.prod(len(axis) + 1 for axis in edges))
    return SkewTable(edges, shares.tolist())


def with_experts(
    rng: np.random.Generator, config: ReferenceConfig, tables: ReferenceTables, coarse: bool
) -> ReferenceTables:
    """Tables with a part of experts, whose times grow with the tokens of all engines; coarse ones are whole 1/8 s."""
    expert = rng.uniform(0, rng.choice([0.0, 0.02]), config.data_parallel * tables.max_tokens + 1).cumsum()
    if coarse:
        expert = np.ceil(expert * 8) / 8
    return replace(tables, expert=expert.tolist())


def flat_values(tables: ReferenceTables) -> list[float]:
    """All values as the kernel takes them."""
    values = list(tables.values)
    if tables.joint is not None:
        values += tables.joint.values
    if tables.skew is not None:
        values += [edge for edges in tables.skew.edges for edge in edges]
        values += tables.skew.shares
    if tables.expert is not None:
        values += tables.expert
    return values


def scaled_tables(tables: ReferenceTables, factor: float) -> ReferenceTables:
    """The same tables with all times multiplied, and what unequal decodes add to them once more."""
    joint, skew, expert = tables.joint, tables.skew, tables.expert
    if expert is not None:
        expert = [value * factor for value in expert]
    if joint is not None:
        joint = replace(joint, values=[value * factor for value in joint.values])
    if skew is not None:
        skew = replace(skew, shares=[share * factor for share in skew.shares])
    return replace(tables, values=[value * factor for value in tables.values], joint=joint, skew=skew, expert=expert)


def least_limits(
    policy: str, max_num_seqs: int, block_size: int, longest: int, longest_uncut: int, watermark: float
) -> tuple[int, int]:
    """The smallest token budget and number of blocks with which a policy runs every request of up to longest tokens."""
    blocks = -(-longest // block_size)
    # An engine that does not cut prompts must take the longest in one iteration.
    if policy == "vllm_v1":
        return max(max_num_seqs, longest_uncut), blocks
    if policy == "trtllm":
        return max(max_num_seqs, longest_uncut, block_size), blocks
    if policy == "sglang":
        return 1, longest // block_size + 1
    # The paper's policies need a block more than a longest request has, and what the watermark takes from all.
    return 1 if policy == "sarathi" else longest, int((blocks + 2) / (1 - watermark)) + 1


@st.composite
def cases(
    draw: st.DrawFn,
    max_requests: int = 40,
    policies: tuple[str, ...] = tuple(SCHEDULERS),
    stages: tuple[int, ...] = (1, 1, 1, 2, 3, 4),
    orders: tuple[str, ...] = ("fcfs", "fcfs", "priority", "sjf"),
    factors: tuple[float, ...] = (1.0, 1.0, 0.5, 2.0),
    features: tuple[str, ...] = (),
    rules: tuple[str, ...] = ("sum", "equivalent_chunk", "joint"),
) -> Case:
    """Loads from idle to overload, from ample to tiny KV, prompts longer than the budget, equal arrivals, D = 1.

    With features, those of feature_cases, also some of what those stand for.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    policy = draw(st.sampled_from(policies))
    num_stages = 1 if policy in ONE_STAGE else draw(st.sampled_from(stages))
    max_num_seqs = draw(st.integers(num_stages, 12))
    block_size = 1 if policy == "lightllm" else draw(st.sampled_from([1, 2, 3, 4, 16]))
    longest = draw(st.sampled_from([4, 12, 40, 100]))
    threshold = draw(st.sampled_from([0, 0, 0, 1, 2, 5, 20]))
    watermark = draw(st.sampled_from([0.0, 0.0, 0.01, 0.2]))
    chunked_prefill = draw(st.sampled_from([True, True, True, False]))
    least_tokens, least_blocks = least_limits(
        policy, max_num_seqs, block_size, longest, 0 if chunked_prefill else longest, watermark
    )
    config = ReferenceConfig(
        batch_policy=policy,
        num_usable_blocks=least_blocks + draw(st.sampled_from([0, 0, 0, 1, 2, 5, 10, 1000])),
        block_size=block_size,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=least_tokens + draw(st.sampled_from([0, 1, 3, 10, 50, 200])),
        max_model_len=longest,
        long_prefill_token_threshold=threshold,
        full_sequence_gate=draw(st.booleans()),
        chunked_prefill=chunked_prefill,
        watermark_blocks_fraction=watermark,
        max_waiting_iterations=draw(st.sampled_from([0, 1, 3, 10])),
        max_prefill_tokens=draw(st.sampled_from([1, 5, 20, 100, 1000])),
        chunked_prefill_size=draw(st.sampled_from([0, 0, block_size, block_size + 1, 3 * block_size + 1, 60])),
        schedule_conservativeness=draw(st.sampled_from([0.01, 0.1, 0.3, 1.0, 1.0, 2.0])),
        num_stages=num_stages,
        send_latency_s=(draw(st.sampled_from([0.0, 0.003])),) * (num_stages - 1) + (0.0,),
        send_s_per_token=(*rng.choice([0.0, 0.001], num_stages - 1).tolist(), 0.0),
        capacity_scheduler_policy=draw(st.sampled_from(["guaranteed_no_evict", "max_utilization"])),
        replicas=draw(st.sampled_from([1, 1, 2, 3])),
        router=draw(st.sampled_from(sorted(ROUTERS))),
        queue_order=draw(st.sampled_from(orders)),
        preemption_mode=draw(st.sampled_from(["recompute", "swap"])) if policy in SWAPPING else "recompute",
        swap_s_per_block=draw(st.sampled_from([0.0, 0.004])),
    )
    n = draw(st.integers(1, max_requests)) if draw(st.booleans()) else max_requests
    draws = {"random": range(0, 2 * n, 2), "power_of_two": range(2 * n)}.get(config.router, ())
    config = replace(config, router_choices=tuple(draw_replica(SEED, i, config.replicas) for i in draws))
    sessions = rng.integers(-1, 4, n) if config.router == "session_affinity" else np.full(n, -1)
    config = replace(config, sessions=tuple(sessions.tolist()))
    if config.queue_order != "fcfs":
        # Few classes, or many predictions.
        keys = rng.integers(0, {"priority": draw(st.integers(1, 3)), "sjf": 30}[config.queue_order], n)
        config = replace(config, order_keys=tuple(keys.tolist()))
    mean_gap = draw(st.sampled_from([0.0, 0.0, 0.01, 0.1, 1.0, 30.0]))
    coarse = draw(st.booleans())
    arrivals = rng.exponential(mean_gap, n).cumsum() if mean_gap else np.zeros(n)
    if coarse:
        arrivals = np.round(arrivals * 4) / 4
    # Half of the cases lean towards long requests, which run short of blocks.
    total = rng.integers(2, longest + 1, (draw(st.sampled_from([1, 2])), n)).max(axis=0)
    if draw(st.booleans()):
        share = rng.uniform(0, 1, n) ** draw(st.sampled_from([0.3, 1, 3, 100]))
    else:
        # Long prompts with short answers among short prompts with long answers: under a chunk threshold, decodes stand
        # behind prefills that use up the budget.
        share = rng.choice([0.05, 0.95], n)
    output = np.clip(np.round(total * share), 1, total - 1)
    requests = [(float(a), int(t - o), int(o)) for a, t, o in zip(arrivals, total, output.astype(int), strict=True)]
    config, requests = draw(featured(config, requests, features, coarse))
    rule = draw(st.sampled_from(rules))
    tables = random_tables(rng, config, rule, coarse, skew=rule == "joint" and draw(st.booleans()))
    if config.data_parallel > 1 and draw(st.booleans()):
        tables = with_experts(rng, config, tables, coarse)
    # Stages differ, but for some that share their tables.
    scaled = {factor: scaled_tables(tables, factor) for factor in set(factors)}
    each = [scaled[draw(st.sampled_from(factors))] for _ in range(num_stages)]
    return Case(requests, config, each, draw(st.sampled_from([0, 0, 2, 8, 64])))


def scheduler_of(config: ReferenceConfig):
    """The batch policy's own dataclass for a configuration of the reference."""
    names = {
        "chunk_size": config.max_num_batched_tokens,
        "scheduler_reserve_full_isl": config.full_sequence_gate,
        "enable_chunked_prefill": config.chunked_prefill,
        "preemption_mode": config.preemption_mode,
    }
    choice = SCHEDULERS[config.batch_policy]
    return choice(**{spec.name: names.get(spec.name, getattr(config, spec.name, None)) for spec in fields(choice)})


def pool_of(config: ReferenceConfig) -> Pool:
    """The memory of a configuration of the reference."""
    return Pool(config.num_usable_blocks, config.block_size, config.max_model_len)


def prepare_kernel(case: Case, record_batches: bool = False):
    """The kernel's state before a case, and its tables."""
    config, tables = case.config, case.stage_tables[0]
    stage_tables = tables_of_stages(case.tables, config)
    arrival_s, prompt, output = (np.array(column) for column in zip(*case.requests, strict=True))
    n = len(arrival_s)
    workload = SimpleNamespace(
        arrival_s=arrival_s,
        prompt_tokens=prompt,
        output_tokens=output,
        request_class=np.zeros(n, np.int32),
        session=np.array(config.sessions),
        think_s=np.array(config.think_s or (math.nan,) * n),
        block_tokens=config.block_tokens,
        block_ids=np.array([one for ids in config.block_ids for one in ids], np.int64),
        block_offsets=np.cumsum([0, *(len(ids) for ids in config.block_ids or [()] * n)]),
    )
    layout = TableLayout(
        tables.max_tokens,
        tables.max_sequences,
        tables.max_kv,
        tables.max_history,
        tables.max_chunk,
        tables.kv_bits,
        tables.history_bits,
        tables.chunk_bits,
    )
    # Equal tables stand once.
    distinct = list({id(stage): stage for stage in stage_tables}.values())
    values = np.concatenate([flat_values(stage) for stage in distinct])
    joint, skew = tables.joint, tables.skew
    if joint is not None:
        joint = JointLayout(*(axis.maximum for axis in joint.axes), *(axis.bits for axis in joint.axes))
    if skew is not None:
        skew = SkewLayout(*(len(edges) + 1 for edges in skew.edges))
    expert = None
    if tables.expert is not None:
        expert = ExpertLayout(len(tables.expert) - 1, config.data_parallel)
    size = layout.size + sum(part.size for part in (joint, skew, expert) if part is not None)
    assert len(values) == size * len(distinct)
    bases = [size * [id(one) for one in distinct].index(id(stage)) for stage in stage_tables]
    state = new_state(
        workload,
        layout,
        tables.prefill_rule,
        limits=scheduler_of(config).limits(pool_of(config)) | engine_limits_of(config, tables.expert is not None),
        num_replicas=config.replicas,
        num_blocks=config.num_usable_blocks,
        block_size=config.block_size,
        seed=SEED,
        router_reads_replicas=ROUTERS[config.router].reads_replicas,
        hit_weight=config.hit_weight if config.router == "prefix_aware" else None,
        batch_log_rows=4 if record_batches else 0,
        record_bins=case.record_bins,
        queue_order=config.queue_order,
        order_keys=np.array(config.order_keys) if config.order_keys else None,
        swap_s_per_block=config.swap_s_per_block,
        stage_bases=bases,
        send_latency_s=config.send_latency_s,
        send_s_per_token=config.send_s_per_token,
        named_blocks=name_blocks(workload, config.block_size) if config.enable_prefix_caching else None,
        clients=clients_of(config),
        joint=joint,
        skew=skew,
        engines=config.data_parallel,
        expert=expert,
        padded_tokens=(0,) if expert is None else padded_tokens(config.capture_sizes, layout.max_tokens),
    )
    return state, values


def engine_limits_of(config: ReferenceConfig, in_lockstep: bool) -> dict[str, float]:
    """What `fastsim.engine_presets.engine_limits` says for a configuration of the reference."""
    ahead = config.is_asynchronous
    limits: dict[str, float] = {
        "async_scheduling": ahead,
        "caching": config.enable_prefix_caching,
        "uncached_first": config.uncached_blocks_first,
    }
    for name in ("launch_s", "launch_s_per_request", "process_s", "process_s_per_request"):
        limits[name] = getattr(config, name) if ahead or in_lockstep else 0.0
    return limits


def clients_of(config: ReferenceConfig) -> Clients:
    """The clients of a configuration of the reference, and their delays."""
    return Clients(
        config.concurrency if config.client == "closed" else 0,
        config.client_think_s,
        config.ingress_s,
        config.ingress_s_per_token,
        config.egress_s,
    )


def run_kernel(case: Case, record_batches: bool = False):
    """The kernel's state after running a case."""
    state, values = prepare_kernel(case, record_batches)
    slots = slots_of(SCHEDULERS[case.config.batch_policy].kernel, ROUTERS[case.config.router].kernel)
    while (status := kernel.run(state, values, slots)) == BATCH_LOG_FULL:
        state = with_longer_log(state)
    assert status == DONE
    return state


def run_with_stops(case: Case, limits: Sequence[tuple[str, float, float]]) -> tuple[int, State]:
    """The status and the kernel's state after running a case that ends once a limit is certain to break."""
    state, values = prepare_kernel(case)
    state = with_stops(state, [Stop(*limit) for limit in limits])
    slots = slots_of(SCHEDULERS[case.config.batch_policy].kernel, ROUTERS[case.config.router].kernel)
    return int(kernel.run(state, values, slots)), state


def client_requests(case: Case, state: State) -> np.ndarray:
    """The requests after a run, in the order of the case, with the times of their clients."""
    clients = clients_of(case.config)
    order_notes(state, clients)
    sent_s = SimpleNamespace(arrival_s=np.array([arrival_s for arrival_s, _, _ in case.requests]))
    return as_clients_see(state.requests, state.pending, sent_s, clients)


def bucket_of(gap_s: float) -> int:
    """Bucket of the histogram of time between tokens, from its definition: exponent and 7 bits of the fraction."""
    if gap_s < 2.0**-20:
        return 0
    fraction, exponent = math.frexp(gap_s)  # gap = fraction * 2**exponent, fraction in [0.5, 1)
    return min((exponent - 1 + 20) * 128 + int((fraction - 0.5) * 256), 50 * 128 - 1)
