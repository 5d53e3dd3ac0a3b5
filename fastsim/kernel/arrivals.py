"""Arrivals: how a request reaches its replica, and whether that must go on first."""

import math

import numpy as np

from fastsim.kernel.blocks import whole_tokens
from fastsim.kernel.data_parallel import choose_engine, wake
from fastsim.kernel.jit import jit
from fastsim.kernel.notes import ENGINE, SIZE
from fastsim.kernel.queues import append_waiting
from fastsim.kernel.stages import arrive_at_stages
from fastsim.kernel.state import WAITING


@jit()
def has_work_before(replica, until_s):
    """Whether `fastsim.kernel.advance` would do anything: most replicas are in the middle of an iteration."""
    if replica.num_stages > 1 or replica.async_scheduling or replica.in_lockstep:
        return (replica.in_flight > 0 and replica.next_end_s <= until_s) or (
            replica.try_to_form > 0 and replica.clock_s < until_s
        )
    if replica.in_flight:
        return replica.clock_s + replica.iteration_s <= until_s
    return replica.outstanding > 0 and replica.clock_s < until_s


@jit(forceinline=True)
def arrive(requests, replicas, cluster, integers, i):
    """Put request i into the waiting queue of an engine of its replica; an idle one's clock jumps to the arrival."""
    request = requests[np.uintp(i)]
    r = np.int64(request.replica)
    if cluster.engines > 1:
        r = choose_engine(replicas, cluster, r)
    replica = replicas[np.uintp(r)]
    request.phase = WAITING
    request.scheduled_s = request.first_token_s = request.completed_s = math.nan
    if replica.outstanding == 0 and cluster.unit == 1:
        replica.clock_s = max(replica.clock_s, request.arrival_s)
        replica.idled = 1
    if cluster.unit > 1:
        wake(replicas, cluster, r, request.arrival_s)
    elif replica.num_stages > 1:
        arrive_at_stages(replica, integers, request.arrival_s)
    elif replica.in_flight == 0:
        replica.try_to_form = 1
    if replica.notes > 0:
        integers[np.uintp(replica.notes + SIZE * i + ENGINE)] = r
    head = replica.waiting_head
    append_waiting(requests, replica, i)
    if replica.waiting_head != head:
        replica.batch_may_change = 1
        replica.changes += 1
    replica.outstanding += 1
    replica.outstanding_tokens += whole_tokens(request)
