"""Arrivals: what routers want to know, and how a request reaches its replica."""

import math

from fastsim.kernel.blocks import whole_tokens
from fastsim.kernel.jit import jit
from fastsim.kernel.prefix_cache import found_tokens
from fastsim.kernel.queues import append_waiting
from fastsim.kernel.radix_cache import matching_tokens
from fastsim.kernel.stages import arrive_at_stages
from fastsim.kernel.state import WAITING


@jit()
def find_hits(requests, replicas, integers, i):
    """Note with every replica how many prompt tokens of request i, which is about to be routed, its cache holds."""
    for r in range(replicas.size):
        if replicas[r].radix:
            replicas[r].hit_tokens = matching_tokens(requests, replicas[r], integers, i)
        else:
            replicas[r].hit_tokens = found_tokens(requests, replicas[r], integers, i)


@jit()
def has_work_before(replica, until_s):
    """Whether `fastsim.kernel.advance` would do anything: most replicas are in the middle of an iteration."""
    if replica.num_stages > 1 or replica.async_scheduling:
        return (replica.in_flight > 0 and replica.next_end_s <= until_s) or (
            replica.try_to_form > 0 and replica.clock_s < until_s
        )
    if replica.in_flight:
        return replica.clock_s + replica.iteration_s <= until_s
    return replica.outstanding > 0 and replica.clock_s < until_s


@jit(forceinline=True)
def arrive(requests, replica, i):
    """Put request i into the waiting queue of its replica; an idle replica's clock jumps to the arrival."""
    request = requests[i]
    request.phase = WAITING
    request.scheduled_s = request.first_token_s = request.completed_s = math.nan
    if replica.outstanding == 0:
        replica.clock_s = max(replica.clock_s, request.arrival_s)
        replica.idled = 1
    if replica.num_stages > 1:
        arrive_at_stages(replica, request.arrival_s)
    elif replica.in_flight == 0:
        replica.try_to_form = 1
    head = replica.waiting_head
    append_waiting(requests, replica, i)
    if replica.waiting_head != head:
        replica.batch_may_change = 1
        replica.changes += 1
    replica.outstanding += 1
    replica.outstanding_tokens += whole_tokens(request)
