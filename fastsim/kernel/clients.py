"""Clients: which request reaches the replicas next, where some are sent because others complete.

The workload is then in PENDING records, one per row. Rows whose time of sending is known from the start are listed in
order of arrival in ``integers[cluster.fixed]``; the others join a binary heap by (arrival, row),
``integers[cluster.travelling]``, when they are sent. A request gets its REQUEST record when it arrives: so there, as
everywhere else, an index is the order of arrival.
"""

import numpy as np

from fastsim.kernel.jit import jit
from fastsim.kernel.state import NONE


@jit()
def arrives_before(pending, a, b):
    """Whether row a reaches the replicas before row b; both have been sent."""
    return pending[a].arrival_s < pending[b].arrival_s or (pending[a].arrival_s == pending[b].arrival_s and a < b)


@jit()
def next_row(pending, cluster, integers):
    """Row of the request that arrives next of those that have been sent, or NONE."""
    fixed = np.int64(NONE)
    if cluster.next_fixed < cluster.num_fixed:
        fixed = integers[cluster.fixed + cluster.next_fixed]
    if cluster.num_travelling == 0:
        return fixed
    sent = integers[cluster.travelling]
    return sent if fixed == NONE or arrives_before(pending, sent, fixed) else fixed


@jit(forceinline=True)
def enter(requests, pending, cluster, integers, row):
    """Write the request that arrives next into the next REQUEST record."""
    if cluster.num_travelling > 0 and integers[cluster.travelling] == row:
        pop_travelling(pending, cluster, integers)
    else:
        cluster.next_fixed += 1
    i = cluster.next_request
    sent, request = pending[row], requests[i]
    request.row = row
    request.arrival_s = sent.arrival_s
    request.prompt_tokens = sent.prompt_tokens
    request.output_tokens = sent.output_tokens
    request.request_class = sent.request_class
    request.order_key = sent.order_key
    request.session = sent.session
    request.first_id = sent.first_id
    request.num_named = sent.num_named
    request.last_use = NONE
    request.session_previous = NONE
    if sent.conversation != NONE:
        place = cluster.latest + sent.conversation
        request.session_previous = integers[place]
        integers[place] = i


@jit()
def send_next(requests, replica, pending, cluster, integers):
    """Send what is to be sent because requests of a replica have just completed."""
    i = np.int64(replica.completed_head)
    replica.completed_head = NONE
    while i != NONE:
        request = requests[i]
        if cluster.closed:
            row, think_s = np.int64(cluster.next_row), cluster.client_think_s
            cluster.next_row += 1
        else:
            row = np.int64(pending[request.row].successor)
            think_s = pending[row].think_s
        if row != NONE and row < pending.size:
            send(pending, cluster, integers, row, (request.completed_s + cluster.egress_s) + think_s)
        i = np.int64(request.due_previous)


@jit()
def send(pending, cluster, integers, row, sent_s):
    """Let the client of a row send it."""
    sent = pending[row]
    sent.sent_s = sent_s
    sent.arrival_s = (sent_s + cluster.ingress_s) + cluster.ingress_s_per_token * sent.prompt_tokens
    k = cluster.num_travelling
    cluster.num_travelling += 1
    heap = cluster.travelling
    while k > 0 and arrives_before(pending, row, integers[heap + (k - 1) // 2]):
        integers[heap + k] = integers[heap + (k - 1) // 2]
        k = (k - 1) // 2
    integers[heap + k] = row


@jit()
def pop_travelling(pending, cluster, integers):
    """Take the first row off the heap."""
    cluster.num_travelling -= 1
    size, heap = cluster.num_travelling, cluster.travelling
    row = integers[heap + size]
    k = 0
    while 2 * k + 1 < size:
        child = 2 * k + 1
        if child + 1 < size and arrives_before(pending, integers[heap + child + 1], integers[heap + child]):
            child += 1
        if not arrives_before(pending, integers[heap + child], row):
            break
        integers[heap + k] = integers[heap + child]
        k = child
    integers[heap + k] = row
