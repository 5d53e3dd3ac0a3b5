"""The entry of the reference simulator."""

import heapq
import math
from collections.abc import Sequence
from typing import TypeVar

from reference.asynchronous import AsynchronousEngine
from reference.clients import CLIENTS
from reference.config import ReferenceConfig
from reference.data_parallel import DataParallelReplica, LockstepEngine, LockstepReplica
from reference.engine import Engine
from reference.faster_transformer import FasterTransformer
from reference.lightllm import LightLlm
from reference.orca import Orca
from reference.overheads import tables_of_stages
from reference.prefix_cache import named_blocks
from reference.requests import Request
from reference.results import BatchRecord, ReferenceResult, ReplicaResult, RequestResult
from reference.routing import (
    LeastKv,
    LeastOutstanding,
    LeastOutstandingTokens,
    PowerOfTwo,
    PrefixAware,
    Random,
    RoundRobin,
    Router,
    SessionAffinity,
)
from reference.sarathi import Sarathi
from reference.sglang import SgLang
from reference.stops import Limit, check_stops
from reference.synchronous import SynchronousEngine
from reference.tables import ReferenceTables
from reference.trtllm import TrtLlm
from reference.vidur_policy import VidurPolicy
from reference.vllm_v0 import VllmV0
from reference.vllm_v1 import VllmV1

__all__ = [
    "BATCH_POLICIES",
    "ROUTERS",
    "BatchRecord",
    "ReferenceConfig",
    "ReferenceResult",
    "ReferenceTables",
    "ReplicaResult",
    "RequestResult",
    "simulate",
]

Value = TypeVar("Value")

BATCH_POLICIES: dict[str, type[VidurPolicy] | type[VllmV1] | type[SgLang]] = {
    "vllm_v1": VllmV1,
    "vllm_v0": VllmV0,
    "sarathi": Sarathi,
    "orca": Orca,
    "faster_transformer": FasterTransformer,
    "lightllm": LightLlm,
    "trtllm": TrtLlm,
    "sglang": SgLang,
}
ROUTERS: dict[str, type[Router]] = {
    "round_robin": RoundRobin,
    "power_of_two": PowerOfTwo,
    "random": Random,
    "least_outstanding": LeastOutstanding,
    "least_outstanding_tokens": LeastOutstandingTokens,
    "least_kv": LeastKv,
    "prefix_aware": PrefixAware,
    "session_affinity": SessionAffinity,
}


def simulate(
    requests: Sequence[tuple[float, int, int]],
    tables: ReferenceTables | Sequence[ReferenceTables],
    config: ReferenceConfig,
    limits: Sequence[Limit] = (),
) -> ReferenceResult:
    """Simulate a workload token by token.

    Args:
        requests: (arrival in seconds, prompt tokens, output tokens) of each request, in any order.
        tables: Seconds of one iteration on a stage: one for all stages, or one for each.
        config: The replicas, their batch policy and the router.
        limits: End the run once one of them is certain to break.

    Returns:
        Times of every request in the order of `requests`, and what each replica did.

    Raises:
        ValueError: A request is malformed or can never fit, or an iteration lies beyond the tables, or parity is set,
            which `reference.vidur.simulate_vidur` is for.
        StoppedError: A limit is certain to break.
        AssertionError: A bug: more iterations than can be needed, or none possible, or KV blocks left over.
    """
    if config.parity is not None:
        raise ValueError(f"parity is {config.parity!r}, simulate_vidur() runs that")
    keys = _column("order_keys", config.order_keys, 0, len(requests))
    sessions = _column("sessions", config.sessions, -1, len(requests))
    block_ids = _column("block_ids", config.block_ids, (), len(requests))
    _column("think_s", config.think_s, math.nan, len(requests))
    records = [
        Request(
            request_id,
            float(arrival_s),
            int(prompt_tokens),
            int(output_tokens),
            key,
            session,
            sent_s=float(arrival_s),
            named_blocks=named_blocks(ids, config.block_tokens, config.block_size),
        )
        for request_id, ((arrival_s, prompt_tokens, output_tokens), key, session, ids) in enumerate(
            zip(requests, keys, sessions, block_ids, strict=True)
        )
    ]
    policy = BATCH_POLICIES[config.batch_policy](config)
    for request in records:
        _check(request, config)
        policy.check(request)
    replicas = [_replica(number, tables, config) for number in range(config.replicas)]
    _run(records, replicas, config, limits)
    engines = [engine for replica in replicas for engine in replica.engines]
    for engine in engines:
        if engine.kv_blocks > 0 or engine.free_blocks != config.num_usable_blocks:
            raise AssertionError(f"replica {engine.replica} never freed {engine.kv_blocks} KV blocks")
    return ReferenceResult([_request_result(request, config) for request in records], [e.result for e in engines])


def _replica(
    number: int, tables: ReferenceTables | Sequence[ReferenceTables], config: ReferenceConfig
) -> DataParallelReplica:
    """The engines of a replica."""
    stages = tables_of_stages(tables, config)
    if stages[0].expert is None:
        return DataParallelReplica([_engine(number, tables, config) for _ in range(config.data_parallel)])
    policies = [BATCH_POLICIES[config.batch_policy](config) for _ in range(config.data_parallel)]
    engines = [LockstepEngine(number, policy, stages[0], config) for policy in policies]
    return LockstepReplica(engines, stages[0], config)


def _engine(replica: int, tables: ReferenceTables | Sequence[ReferenceTables], config: ReferenceConfig) -> Engine:
    """An engine that has nothing to do yet."""
    policy = BATCH_POLICIES[config.batch_policy](config)
    stages = tables_of_stages(tables, config)
    if config.is_asynchronous:
        return AsynchronousEngine(replica, policy, stages[0], config)
    return SynchronousEngine(replica, policy, stages, config)


def _run(
    records: Sequence[Request],
    replicas: Sequence[DataParallelReplica],
    config: ReferenceConfig,
    limits: Sequence[Limit],
) -> None:
    """Go from one time to the next at which something happens, until nothing is left.

    At one time, over all replicas: what ends; then what arrives, in order, also what is sent because of those ends;
    then what can be started.
    """
    router = ROUTERS[config.router](config)
    client = CLIENTS[config.client](config, records)
    travelling: list[tuple[float, int, Request]] = []
    num_arrived = 0

    def send(requests: Sequence[Request]) -> None:
        for request in requests:
            request.arrival_s = (request.sent_s + config.ingress_s) + config.ingress_s_per_token * request.prompt_tokens
            heapq.heappush(travelling, (request.arrival_s, request.request_id, request))

    send(client.begin())
    while (
        clock_s := min([replica.next_s for replica in replicas] + [at_s for at_s, _, _ in travelling[:1]])
    ) < math.inf:
        completed = [request for replica in replicas for request in replica.finish(clock_s)]
        for request in sorted(completed, key=lambda request: request.position):
            send(client.completed(request))
        while travelling and travelling[0][0] <= clock_s:
            _, _, request = heapq.heappop(travelling)
            request.position = num_arrived
            num_arrived += 1
            replicas[router.choose(replicas, request)].assign(request)
        for replica in replicas:
            replica.start(clock_s)
        check_stops(records, limits, clock_s)


def _column(field: str, values: tuple[Value, ...], default: Value, num_requests: int) -> tuple[Value, ...]:
    """One value for each request.

    Raises:
        ValueError: There are others than none or one for each.
    """
    if len(values) not in (0, num_requests):
        raise ValueError(f"{field} has {len(values)} entries and there are {num_requests} requests")
    return values or (default,) * num_requests


def _check(request: Request, config: ReferenceConfig) -> None:
    """Refuse a request that is malformed or that would wait for ever.

    Raises:
        ValueError: As said.
    """
    name = f"request {request.request_id}"
    if not 0.0 <= request.arrival_s < math.inf:
        raise ValueError(f"{name} arrives at {request.arrival_s} s, it must be a finite time that is not negative")
    if request.prompt_tokens < 1 or request.output_tokens < 1:
        raise ValueError(f"{name} needs at least 1 prompt token and 1 output token")
    if request.prompt_tokens + request.output_tokens > config.max_model_len:
        raise ValueError(f"{name} is longer than max_model_len ({config.max_model_len})")
    if request.stored_tokens > config.num_usable_blocks * config.block_size:
        raise ValueError(f"{name} needs more KV than {config.num_usable_blocks} blocks of {config.block_size} tokens")


def _request_result(request: Request, config: ReferenceConfig) -> RequestResult:
    """Times of a completed request, as its client sees them."""
    if not request.finished or request.replica is None or request.scheduled_s is None:
        raise AssertionError(f"request {request.request_id} was left unfinished")
    token_times = [time_s + config.egress_s for time_s in request.token_times_s]
    return RequestResult(
        replica=request.replica,
        arrival_s=request.sent_s,
        scheduled_s=request.scheduled_s,
        first_token_s=token_times[0],
        completed_s=token_times[-1],
        preemptions=request.preemptions,
        cached_tokens=request.cached_tokens,
        token_times=token_times,
        preempted_s=request.preempted_s,
        preempted_prefill_s=request.preempted_prefill_s,
        worst_tbt_s=max(request.token_gaps_s, default=0.0),
    )
