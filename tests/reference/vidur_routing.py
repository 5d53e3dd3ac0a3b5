"""Vidur's global schedulers (VIDUR.md 4.10). Each gets the whole queue at once, sorted by arrival."""

from collections.abc import Sequence

from reference.config import ReferenceConfig
from reference.requests import Request


class RoundRobin:
    """A running counter modulo the number of replicas."""

    def __init__(self, config: ReferenceConfig) -> None:
        """Start at replica 0."""
        self._num_routed = 0

    def assign(self, requests: Sequence[Request], num_waiting: list[int]) -> list[int]:
        """Replica of each request."""
        first = self._num_routed
        self._num_routed += len(requests)
        return [number % len(num_waiting) for number in range(first, self._num_routed)]


class Random:
    """What Python's process-wide generator drew in the run that is reproduced."""

    def __init__(self, config: ReferenceConfig) -> None:
        """Take the draws from the configuration."""
        self._choices = config.router_choices

    def assign(self, requests: Sequence[Request], num_waiting: list[int]) -> list[int]:
        """Replica of each request."""
        return [self._choices[request.request_id] for request in requests]


class Lor:
    """ "Least outstanding requests", which counts only those that wait (oddity 4); of equals the lowest id."""

    def __init__(self, config: ReferenceConfig) -> None:
        """Nothing to keep."""

    def assign(self, requests: Sequence[Request], num_waiting: list[int]) -> list[int]:
        """Replica of each request."""
        load = list(num_waiting)
        chosen = []
        for _ in requests:
            replica = load.index(min(load))
            load[replica] += 1
            chosen.append(replica)
        return chosen


ROUTERS: dict[str, type[RoundRobin] | type[Random] | type[Lor]] = {
    "round_robin": RoundRobin,
    "random": Random,
    "lor": Lor,
}
