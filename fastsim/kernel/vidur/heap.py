"""The events to come: a binary heap ordered by (time, order of creation), in place."""

from fastsim.kernel.jit import jit


@jit()
def comes_before(a, b):
    """Whether event a is handled before event b."""
    return a.time_s < b.time_s or (a.time_s == b.time_s and a.number < b.number)


@jit()
def copy(source, target):
    """Overwrite an event with another."""
    target.time_s = source.time_s
    target.number = source.number
    target.kind = source.kind
    target.replica = source.replica
    target.stage = source.stage
    target.batch = source.batch


@jit()
def make(events, cluster, time_s, kind, replica, stage, batch):
    """Make an event; it is the youngest, so it goes behind all others of its time."""
    place = cluster.num_pending
    while place > 0 and time_s < events[(place - 1) // 2].time_s:
        copy(events[(place - 1) // 2], events[place])
        place = (place - 1) // 2
    event = events[place]
    event.time_s = time_s
    event.number = cluster.num_events
    event.kind = kind
    event.replica = replica
    event.stage = stage
    event.batch = batch
    cluster.num_pending += 1
    cluster.num_events += 1


@jit()
def drop_first(events, cluster):
    """Take the next event off the heap, which must not be empty."""
    cluster.num_pending -= 1
    count = cluster.num_pending
    last = events[count]
    place = 0
    while 2 * place + 1 < count:
        child = 2 * place + 1
        if child + 1 < count and comes_before(events[child + 1], events[child]):
            child += 1
        if not comes_before(events[child], last):
            break
        copy(events[child], events[place])
        place = child
    copy(last, events[place])
