"""What an engine did over time, in bins."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from reference.config import ReferenceConfig
from reference.results import ReplicaResult

NAMES = (
    "busy_s",
    "active_s",
    "iterations",
    "prefill_tokens",
    "decode_tokens",
    "running_seconds",
    "block_seconds",
    "preemptions",
)


class Bins:
    """Sums by bins of time.

    Attributes:
        edges: Where the first bin begins and where each of them ends, in seconds.
        sums: Of each name, the sum in each bin.
    """

    def __init__(self, edges: Sequence[float]) -> None:
        """Start with sums of 0."""
        self.edges = edges
        self.sums = {name: [0.0] * (len(edges) - 1) for name in NAMES}

    def add(self, time_s: float, **amounts: float) -> None:
        """Count what happens at a time; at an edge it belongs to the bin that begins there, if one does."""
        place = min(bisect_right(self.edges, time_s) - 1, len(self.edges) - 2)
        for name, amount in amounts.items():
            self.sums[name][place] += amount

    def spread(self, begin_s: float, end_s: float, **amounts: float) -> None:
        """Count what happens evenly between two times."""
        if begin_s == end_s:
            self.add(begin_s, **amounts)
            return
        first = max(0, bisect_right(self.edges, begin_s) - 1)
        for place in range(first, bisect_left(self.edges, end_s)):
            seconds = min(end_s, self.edges[place + 1]) - max(begin_s, self.edges[place])
            for name, amount in amounts.items():
                self.sums[name][place] += amount * seconds / (end_s - begin_s)


def series(result: ReplicaResult, config: ReferenceConfig, edges: Sequence[float]) -> Bins:
    """What an engine did in each bin.

    Work is spread over the time that the device takes for a batch: with stages, the batch and its tokens over that of
    the first one.
    """
    bins = Bins(edges)
    synchronous = config.num_stages == 1 and not config.is_asynchronous
    for batch in result.batches:
        stage_times = batch.stage_times or [(batch.start_s, batch.end_s)]
        for begin_s, end_s in stage_times:
            bins.spread(begin_s, end_s, busy_s=end_s - begin_s)
        begin_s, end_s = stage_times[0]
        tokens = batch.num_tokens - batch.num_decodes
        bins.spread(begin_s, end_s, iterations=1, prefill_tokens=tokens, decode_tokens=batch.num_decodes)
        if config.num_stages == 1:
            seconds = end_s - begin_s
            bins.spread(begin_s, end_s, active_s=seconds, running_seconds=batch.num_sequences * seconds)
        if synchronous:
            bins.spread(begin_s, end_s, block_seconds=batch.blocks_used * seconds)
    for begin_s, end_s, blocks, num_in_flight in result.held:
        seconds = end_s - begin_s
        bins.spread(begin_s, end_s, block_seconds=blocks * seconds)
        if config.num_stages > 1:
            bins.spread(begin_s, end_s, active_s=seconds, running_seconds=num_in_flight * seconds)
    for time_s in result.preempted_s:
        bins.add(time_s, preemptions=1)
    return bins
