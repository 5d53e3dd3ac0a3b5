"""Back to where a run began; `fastsim.kernel.slots` compiles it, and `fastsim.kernel.entry` hands it out."""

from fastsim.kernel.jit import jit


def restart(state, start):
    """Copy every table but the batch log, whose rows count from its beginning again, in place.

    Args:
        state: `fastsim.kernel.state.State` to change.
        start: one with tables of the same lengths.
    """
    requests, replicas, cluster, integers, _, stages, pending, fleet = state
    requests0, replicas0, cluster0, integers0, _, stages0, pending0, fleet0 = start
    _copy(requests, requests0)
    _copy(replicas, replicas0)
    _copy(cluster, cluster0)
    _copy(integers, integers0)
    _copy(stages, stages0)
    _copy(pending, pending0)
    _copy(fleet, fleet0)


@jit(forceinline=True)
def _copy(table, start):
    """Copy equally many records or numbers."""
    for i in range(table.size):
        table[i] = start[i]
