"""Routers: which replica an arriving request goes to.

Signature of every router: (requests, replicas, cluster, i) -> replica of request i. One that reads replicas says so in
`fastsim.options`, and finds them as they are at the arrival, completions at that very time included.
"""

import numpy as np

from fastsim.kernel.jit import draw, jit
from fastsim.kernel.state import NONE


@jit()
def round_robin(requests, replicas, cluster, i):
    """The replicas in turn."""
    r = cluster.turn
    cluster.turn = r + 1 if r + 1 < replicas.size else 0
    return r


@jit()
def least_outstanding(requests, replicas, cluster, i):
    """The replica with the fewest requests waiting or running; the lowest number of equals."""
    best = 0
    for r in range(1, replicas.size):
        if replicas[r].outstanding < replicas[best].outstanding:
            best = r
    return best


@jit()
def least_outstanding_tokens(requests, replicas, cluster, i):
    """The replica with the fewest prompt and output tokens of requests not completed; the lowest number of equals."""
    best = 0
    for r in range(1, replicas.size):
        if replicas[r].outstanding_tokens < replicas[best].outstanding_tokens:
            best = r
    return best


@jit()
def least_kv(requests, replicas, cluster, i):
    """The replica with the fewest KV blocks in use; of equals that with the fewest requests, then the lowest number.

    Without the second key a burst would go to one replica, as waiting requests hold no block.
    """
    best = 0
    for r in range(1, replicas.size):
        used = replicas[r].num_blocks - replicas[r].free_blocks
        least = replicas[best].num_blocks - replicas[best].free_blocks
        if used < least or (used == least and replicas[r].outstanding < replicas[best].outstanding):
            best = r
    return best


@jit()
def random(requests, replicas, cluster, i):
    """Any replica, each as likely."""
    return draw(cluster.seed, 2 * (cluster.first_request + i), replicas.size)


@jit()
def power_of_two(requests, replicas, cluster, i):
    """Of two replicas drawn at random that with the fewer requests waiting or running; the first of equals."""
    number = cluster.first_request + i
    first = draw(cluster.seed, 2 * number, replicas.size)
    second = draw(cluster.seed, 2 * number + 1, replicas.size)
    return second if replicas[second].outstanding < replicas[first].outstanding else first


@jit()
def prefix_aware(requests, replicas, cluster, i):
    """The replica with the least load less hits, both in tokens and hits weighted; the lowest number of equals."""
    best = 0
    for r in range(1, replicas.size):
        if load_less_hits(replicas[r], cluster) < load_less_hits(replicas[best], cluster):
            best = r
    return best


@jit()
def load_less_hits(replica, cluster):
    """Tokens of requests not completed, less the weighted prompt tokens found in the prefix cache [tokens]."""
    return replica.outstanding_tokens - cluster.hit_weight * replica.hit_tokens


@jit()
def session_affinity(requests, replicas, cluster, i):
    """Where the request before it in its session went; the first of a session as `least_outstanding`."""
    previous = requests[i].session_previous
    if previous != NONE:
        return np.int64(requests[previous].replica)
    return least_outstanding(requests, replicas, cluster, i)
