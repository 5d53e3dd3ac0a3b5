"""Routers: which replica an arriving request goes to.

Signature of every router: (requests, replicas, cluster, i) -> replica of request i. One that reads replicas says so in
`fastsim.options`, and finds them as they are at the arrival, completions at that very time included.
"""

from fastsim.kernel.jit import jit


@jit()
def round_robin(requests, replicas, cluster, i):
    """The replicas in turn."""
    r = cluster.turn
    cluster.turn = (r + 1) % replicas.size
    return r


@jit()
def least_outstanding(requests, replicas, cluster, i):
    """The replica with the fewest requests waiting or running; the lowest number of equals."""
    best = 0
    for r in range(1, replicas.size):
        if replicas[r].outstanding < replicas[best].outstanding:
            best = r
    return best
