"""When a run may end early: as soon as so many requests are late that a quantile is above its limit, come what may."""

import math
from collections.abc import Sequence

from reference.requests import Request

#: A metric, the quantile of it that has a limit, and that limit in seconds.
Limit = tuple[str, float, float]


class StoppedError(Exception):
    """The run has ended early.

    Attributes:
        clock_s: When.
    """

    def __init__(self, clock_s: float) -> None:
        """Say when."""
        super().__init__(f"stopped at {clock_s} s")
        self.clock_s = clock_s


def check_stops(requests: Sequence[Request], limits: Sequence[Limit], clock_s: float) -> None:
    """Look at every request, all that happens up to a time being known.

    Raises:
        StoppedError: Of the sorted values the one at or below the quantile is above the limit already.
    """
    for metric, quantile, limit_s in limits:
        values = sorted(
            smallest_value(request, metric, clock_s)
            for request in requests
            if metric != "tpot_s" or request.output_tokens > 1
        )
        if values and values[math.floor(quantile * (len(values) - 1))] > limit_s:
            raise StoppedError(clock_s)


def smallest_value(request: Request, metric: str, clock_s: float) -> float:
    """The value of a request, or the smallest it can have if what it is about happens at a time or later."""
    times = request.token_times_s
    completed_s = times[-1] if request.finished else clock_s
    if metric == "tpot_s":
        return (completed_s - times[0]) / (request.output_tokens - 1) if times else 0.0
    happened_s = {
        "scheduling_delay_s": clock_s if request.scheduled_s is None else request.scheduled_s,
        "ttft_s": times[0] if times else clock_s,
        "e2e_s": completed_s,
    }
    return happened_s[metric] - request.arrival_s
