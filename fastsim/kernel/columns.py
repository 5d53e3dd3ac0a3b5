"""Between arrays and the request table in one pass: it is large, and the first pass pays for its memory.

`fastsim.kernel.slots.table_functions` compiles both.
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
        request.row = i


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
