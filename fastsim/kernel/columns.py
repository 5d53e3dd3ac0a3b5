"""Between arrays and the request table in one pass: it is large, and the first pass pays for its memory.

`fastsim.kernel.slots` compiles them.
"""

import numpy as np

from fastsim.kernel.histogram import bucket
from fastsim.kernel.jit import jit
from fastsim.kernel.state import NONE


def fill_requests(requests, arrival_s, prompt_tokens, output_tokens, request_class, session):
    """Write the columns of a workload, each [n], in order of arrival, into the request table, in place."""
    for i in range(requests.size):
        request = requests[i]
        request.arrival_s = arrival_s[i]
        request.prompt_tokens = prompt_tokens[i]
        request.output_tokens = output_tokens[i]
        request.request_class = request_class[i]
        request.session = session[i]
        request.session_previous = NONE
        request.last_use = NONE
        request.row = i


def see_times(requests, sent_s, egress_s):
    """Write when clients sent their requests and had their tokens in place of the times at the replicas, in place.

    Args:
        requests: REQUEST records after a run [n].
        sent_s: when the request of each row of the workload was sent [n] [s].
        egress_s: from a replica to a client [s].
    """
    for i in range(requests.size):
        request = requests[i]
        request.arrival_s = sent_s[request.row]
        request.first_token_s += egress_s
        request.completed_s += egress_s


def read_requests(requests, latencies, counts, tokens, totals):
    """Read what a summary needs of completed requests, in place.

    Args:
        requests: REQUEST records [n].
        latencies: float64 [5, n]: TTFT, end to end, the same per output token, scheduling delay, and, for requests with
            two output tokens or more, TPOT, packed to the front [s].
        counts: int64 [5, NUM_BUCKETS], zeros: their histograms (`fastsim.kernel.histogram`).
        tokens: int32 [2, n]: prompt and output tokens.
        totals: float64 [3], lowest values to begin with: first arrival, last completion [s], and sum of cached tokens.

    Returns:
        The number of values of TPOT.
    """
    several = 0
    first_arrival_s, last_completion_s, cached_tokens = totals[0], totals[1], totals[2]
    for i in range(requests.size):
        request = requests[i]
        arrival_s, first_token_s, completed_s = request.arrival_s, request.first_token_s, request.completed_s
        later = request.output_tokens - 1
        keep(latencies, counts, 0, i, first_token_s - arrival_s)
        keep(latencies, counts, 1, i, completed_s - arrival_s)
        keep(latencies, counts, 2, i, (completed_s - arrival_s) / request.output_tokens)
        keep(latencies, counts, 3, i, request.scheduled_s - arrival_s)
        if later > 0:
            keep(latencies, counts, 4, several, (completed_s - first_token_s) / later)
            several += 1
        tokens[0, i] = request.prompt_tokens
        tokens[1, i] = request.output_tokens
        first_arrival_s = min(first_arrival_s, arrival_s)
        last_completion_s = max(last_completion_s, completed_s)
        cached_tokens += request.cached_tokens
    totals[0], totals[1], totals[2] = first_arrival_s, last_completion_s, cached_tokens
    return several


@jit(forceinline=True)
def keep(latencies, counts, metric, place, seconds):
    """Write one latency, and count it."""
    latencies[np.uintp(metric), np.uintp(place)] = seconds
    counts[np.uintp(metric), np.uintp(bucket(seconds))] += 1


def gather(values, wanted, gathered):
    """Write the values that lie in some buckets of their histogram one behind another, in place.

    Args:
        values: float64 [n].
        wanted: int64 [NUM_BUCKETS], 1 for these buckets and 0 for others.
        gathered: float64, one place more than there are such values.
    """
    place = 0
    for value in values:
        gathered[place] = value  # which the next one overwrites, unless it counts: no branch to foresee
        place += wanted[bucket(value)]
