"""Sums over time under ``record_metrics``: what a replica's running sums were at the edges of bins of time.

A *track* is a part of the integer pool for something whose work is one piece of time after another: an engine by its
clock, the device of an engine that schedules ahead, a pipeline stage. It holds what its sums were at edges that are one
width apart: a piece that passes an edge is spread evenly over its time, and one that passes none costs a comparison.
So a leap is spread iteration by iteration, with the KV that each had. When its edges are used up every second one is
dropped and the width doubles, which changes no value; memory is bounded and nothing is allocated. What lies between two
edges is the difference of the sums there, so the bins add up to the sums of the whole run.

A record's ``next_edge_s`` is infinite where nothing is recorded.
"""

from fastsim.kernel.jit import bits_float, float_bits, jit

#: Places within a track; its edges come behind them, each with these columns.
ORIGIN_S, WIDTH_S, EDGES = range(3)
HEADER = 3
COLUMNS = (
    "busy_s",
    "active_s",
    "iterations",
    "prefill_tokens",
    "decode_tokens",
    "running_seconds",
    "block_seconds",
    "preemptions",
)
NUM_COLUMNS = len(COLUMNS)
#: The first width [s]; a power of two, so that edges are exact.
FIRST_WIDTH_S = 2.0**-10


def track_size(most_edges: int) -> int:
    """Integers of a track."""
    return HEADER + most_edges * NUM_COLUMNS


@jit()
def next_edge(integers, track):
    """The first edge of a track that has not been passed [s]."""
    width_s = bits_float(integers[track + WIDTH_S])
    return bits_float(integers[track + ORIGIN_S]) + (integers[track + EDGES] + 1) * width_s


@jit()
def pass_edges(integers, track, most_edges, times, sums, gained):
    """Note the sums at every edge up to the end of a piece of time; returns the next edge [s].

    Args:
        integers: the pool.
        track: where the track begins in it.
        most_edges: how many it can hold, an even number.
        times: begin and end of the piece [s].
        sums: what the sums of COLUMNS are at its begin, as floats.
        gained: what they gain until its end.
    """
    begin_s, end_s = times
    edge_s = next_edge(integers, track)
    while edge_s <= end_s:
        if integers[track + EDGES] == most_edges:
            drop_edges(integers, track)
        else:
            part = (edge_s - begin_s) / (end_s - begin_s) if edge_s > begin_s else 0.0
            place = track + HEADER + integers[track + EDGES] * NUM_COLUMNS
            for column in range(NUM_COLUMNS):
                integers[place + column] = float_bits(sums[column] + part * gained[column])
            integers[track + EDGES] += 1
        edge_s = next_edge(integers, track)
    return edge_s


@jit()
def drop_edges(integers, track):
    """Keep every second edge of a track, and double its width."""
    kept = integers[track + EDGES] // 2
    first = track + HEADER
    for edge in range(kept):
        for column in range(NUM_COLUMNS):
            integers[first + edge * NUM_COLUMNS + column] = integers[first + (2 * edge + 1) * NUM_COLUMNS + column]
    integers[track + EDGES] = kept
    integers[track + WIDTH_S] = float_bits(2.0 * bits_float(integers[track + WIDTH_S]))


@jit()
def pass_iteration(replica, integers, seconds):
    """Note the edges in an iteration of one stage that starts at the clock, before it is counted."""
    decodes = replica.num_decodes * replica.decodes_run
    members = decodes + replica.num_chunks
    used = replica.num_blocks - replica.free_blocks
    replica.next_edge_s = pass_edges(
        integers,
        replica.track,
        replica.most_edges,
        (replica.clock_s, replica.clock_s + seconds),
        (
            replica.busy_s,
            replica.busy_s,
            float(replica.iteration),
            float(replica.prefill_tokens),
            float(replica.decode_tokens),
            replica.running_seconds,
            replica.block_seconds,
            float(replica.preemptions),
        ),
        (seconds, seconds, 1.0, float(replica.chunk_tokens), float(decodes), members * seconds, used * seconds, 0.0),
    )


@jit()
def pass_clock(replica, integers, until_s, is_active):
    """Note the edges up to a time to which the clock is about to go while batches are in flight, with what they hold.

    Where is_active is 0 the time with something in flight, and who is, are noted by `pass_work`.
    """
    seconds = until_s - replica.clock_s
    used = replica.num_blocks - replica.free_blocks
    replica.next_edge_s = pass_edges(
        integers,
        replica.track,
        replica.most_edges,
        (replica.clock_s, until_s),
        (
            0.0,
            is_active * replica.active_s,
            0.0,
            0.0,
            0.0,
            is_active * replica.running_seconds,
            replica.block_seconds,
            float(replica.preemptions),
        ),
        (0.0, is_active * seconds, 0.0, 0.0, 0.0, is_active * replica.num_in_flight * seconds, used * seconds, 0.0),
    )


@jit()
def pass_work(replica, integers, start_s, seconds):
    """Note the edges in the time that the device of an engine takes for a batch, before the batch is counted."""
    members = replica.num_decodes + replica.num_chunks
    replica.next_work_edge_s = pass_edges(
        integers,
        replica.work_track,
        replica.most_edges,
        (start_s, replica.device_s),
        (
            replica.busy_s,
            replica.busy_s,
            float(replica.iteration),
            float(replica.prefill_tokens),
            float(replica.decode_tokens),
            replica.running_seconds,
            0.0,
            0.0,
        ),
        (
            seconds,
            seconds,
            1.0,
            float(replica.chunk_tokens),
            float(replica.num_decodes),
            members * seconds,
            0.0,
            0.0,
        ),
    )


@jit()
def pass_stage(replica, stage, integers, times, decodes, counts):
    """Note the edges in the time that a stage takes for a batch, before the batch is counted.

    The first stage (counts is 1) also counts the batch and its tokens.
    """
    stage.next_edge_s = pass_edges(
        integers,
        stage.track,
        replica.most_edges,
        times,
        (
            stage.busy_s,
            0.0,
            float(counts * replica.iteration),
            float(counts * replica.prefill_tokens),
            float(counts * replica.decode_tokens),
            0.0,
            0.0,
            0.0,
        ),
        (
            times[1] - times[0],
            0.0,
            float(counts),
            float(counts * replica.chunk_tokens),
            float(counts * decodes),
            0.0,
            0.0,
            0.0,
        ),
    )
