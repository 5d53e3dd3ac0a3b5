"""The entry of the reference simulator."""

import math
from collections.abc import Sequence

from reference.config import ReferenceConfig
from reference.engine import SynchronousEngine
from reference.faster_transformer import FasterTransformer
from reference.lightllm import LightLlm
from reference.orca import Orca
from reference.requests import Request
from reference.results import BatchRecord, ReferenceResult, ReplicaResult, RequestResult
from reference.routing import (
    LeastKv,
    LeastOutstanding,
    LeastOutstandingTokens,
    PowerOfTwo,
    Random,
    RoundRobin,
    Router,
    SessionAffinity,
)
from reference.sarathi import Sarathi
from reference.sglang import SgLang
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
    "session_affinity": SessionAffinity,
}


def simulate(
    requests: Sequence[tuple[float, int, int]],
    tables: ReferenceTables | Sequence[ReferenceTables],
    config: ReferenceConfig,
) -> ReferenceResult:
    """Simulate a workload token by token.

    Args:
        requests: (arrival in seconds, prompt tokens, output tokens) of each request, in any order.
        tables: Seconds of one iteration on a stage: one for all stages, or one for each.
        config: The replicas, their batch policy and the router.

    Returns:
        Times of every request in the order of `requests`, and what each replica did.

    Raises:
        ValueError: A request is malformed or can never fit, or an iteration lies beyond the tables, or parity is set,
            which `reference.vidur.simulate_vidur` is for.
        AssertionError: A bug: more iterations than can be needed, or none possible, or KV blocks left over.
    """
    if config.parity is not None:
        raise ValueError(f"parity is {config.parity!r}, simulate_vidur() runs that")
    keys = _column("order_keys", config.order_keys, 0, len(requests))
    sessions = _column("sessions", config.sessions, -1, len(requests))
    records = [
        Request(request_id, float(arrival_s), int(prompt_tokens), int(output_tokens), key, session)
        for request_id, ((arrival_s, prompt_tokens, output_tokens), key, session) in enumerate(
            zip(requests, keys, sessions, strict=True)
        )
    ]
    policies = [BATCH_POLICIES[config.batch_policy](config) for _ in range(config.replicas)]
    for request in records:
        _check(request, config)
        policies[0].check(request)
    engines = [SynchronousEngine(replica, policy, tables, config) for replica, policy in enumerate(policies)]
    router = ROUTERS[config.router](config)
    # Advancing to the arrival leaves every replica with its completions at that very time counted and, if it is free
    # then, with no batch formed: the requests that arrive together are all routed before the next batch.
    for request in sorted(records, key=lambda request: (request.arrival_s, request.request_id)):
        for engine in engines:
            engine.advance_to(request.arrival_s)
        engines[router.choose(engines, request)].assign(request)
    for engine in engines:
        engine.advance_to(math.inf)
        if engine.kv_blocks > 0:
            raise AssertionError(f"replica {engine.replica} never freed {engine.kv_blocks} KV blocks")
    return ReferenceResult([_request_result(request) for request in records], [engine.result for engine in engines])


def _column(field: str, values: tuple[int, ...], default: int, num_requests: int) -> tuple[int, ...]:
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


def _request_result(request: Request) -> RequestResult:
    """Times of a completed request."""
    if not request.finished or request.replica is None or request.scheduled_s is None:
        raise AssertionError(f"request {request.request_id} was left unfinished")
    return RequestResult(
        replica=request.replica,
        scheduled_s=request.scheduled_s,
        first_token_s=request.token_times_s[0],
        completed_s=request.token_times_s[-1],
        preemptions=request.preemptions,
        token_times=request.token_times_s,
    )
