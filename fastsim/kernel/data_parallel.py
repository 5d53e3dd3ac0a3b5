"""Replicas of several data-parallel engines (docs/policies.md, section 13), each with a REPLICA record of its own.

The records of a replica's ``cluster.engines`` engines lie side by side. Routers see replicas, in ``state.fleet``: with
one engine each these are the same records, else sums over engines. Engines that share experts advance together:
``cluster.unit`` records at a time, of which the first keeps the clock (`fastsim.kernel.lockstep`); else it is 1.
"""

from fastsim.kernel.jit import jit
from fastsim.kernel.prefix_cache import found_tokens
from fastsim.kernel.radix_cache import matching_tokens


@jit(forceinline=True)
def outstanding_in(replicas, r, unit):
    """Requests waiting or running in the unit that begins with record r."""
    total = replicas[r].outstanding
    for engine in range(r + 1, r + unit):
        total += replicas[engine].outstanding
    return total


@jit()
def choose_engine(replicas, cluster, r):
    """Record of the engine of replica r with the smallest 4 x waiting + running; the lowest number of equals."""
    first = r * cluster.engines
    best = first
    for engine in range(first + 1, first + cluster.engines):
        if score(replicas[engine]) < score(replicas[best]):
            best = engine
    return best


@jit()
def score(engine):
    """What vLLM's front end weighs an engine by."""
    return 4 * engine.outstanding - 3 * engine.num_running


@jit(forceinline=True)
def ask_router(state, route, i):
    """Let the router choose the replica of request i, which arrives now."""
    cluster = state.cluster[0]
    if cluster.engines > 1:
        sum_engines(state.fleet, state.replicas, cluster)
    if cluster.router_reads_prefix:
        find_hits(state, i)
    return route(state.requests, state.fleet, cluster, i)


@jit()
def sum_engines(fleet, replicas, cluster):
    """Write the sums over engines that routers read."""
    for r in range(fleet.size):
        replica = fleet[r]
        replica.outstanding = replica.outstanding_tokens = replica.free_blocks = 0
        replica.num_running = replica.num_decodes = replica.completed = replica.preemptions = 0
        for k in range(r * cluster.engines, (r + 1) * cluster.engines):
            engine = replicas[k]
            replica.outstanding += engine.outstanding
            replica.outstanding_tokens += engine.outstanding_tokens
            replica.free_blocks += engine.free_blocks
            replica.num_running += engine.num_running
            replica.num_decodes += engine.num_decodes
            replica.completed += engine.completed
            replica.preemptions += engine.preemptions


@jit()
def find_hits(state, i):
    """Note how many prompt tokens of request i the cache of every replica holds: of the engine that would get it."""
    for r in range(state.fleet.size):
        engine = r
        if state.cluster[0].engines > 1:
            engine = choose_engine(state.replicas, state.cluster[0], r)
        holder = state.replicas[engine]
        if holder.radix:
            state.fleet[r].hit_tokens = matching_tokens(state.requests, holder, state.integers, i)
        else:
            state.fleet[r].hit_tokens = found_tokens(state.requests, holder, state.integers, i)


@jit()
def wake(replicas, cluster, r, arrival_s):
    """Let the engines in lockstep, one of which is record r, form a round at an arrival if none is in flight."""
    first = r - r % cluster.unit
    if replicas[first].in_flight > 0:
        return
    replicas[first].try_to_form = 1
    if outstanding_in(replicas, first, cluster.unit) == 0:
        for engine in range(first, first + cluster.unit):
            replicas[engine].clock_s = max(replicas[engine].clock_s, arrival_s)
