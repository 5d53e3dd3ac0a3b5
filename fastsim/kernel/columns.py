"""Between arrays and the request table in one pass: it is large, and the first pass pays for its memory.

`fastsim.kernel.slots` compiles them.
"""

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


def read_latencies(requests, columns):
    """Compute the latencies of completed requests, in place.

    Args:
        requests: REQUEST records [n].
        columns: float64 [5, n]: TTFT, end to end, the same per output token, scheduling delay, and, for requests with
            two output tokens or more, TPOT, packed to the front [s].

    Returns:
        The number of values of TPOT.
    """
    several = 0
    for i in range(requests.size):
        request = requests[i]
        e2e_s = request.completed_s - request.arrival_s
        columns[0, i] = request.first_token_s - request.arrival_s
        columns[1, i] = e2e_s
        columns[2, i] = e2e_s / request.output_tokens
        columns[3, i] = request.scheduled_s - request.arrival_s
        if request.output_tokens > 1:
            columns[4, several] = (request.completed_s - request.first_token_s) / (request.output_tokens - 1)
            several += 1
    return several
