"""Which replica gets a request. A router is asked once per request, in the order of arrival."""

from collections.abc import Sequence

from reference.engine import SynchronousEngine


class RoundRobin:
    """The i-th request goes to replica i mod R."""

    def __init__(self) -> None:
        """Start at replica 0."""
        self._num_routed = 0

    def choose(self, engines: Sequence[SynchronousEngine]) -> int:
        """Id of the replica for the next request."""
        chosen = self._num_routed % len(engines)
        self._num_routed += 1
        return chosen


class LeastOutstanding:
    """The replica with the fewest assigned and not completed requests; of equals the lowest id."""

    def choose(self, engines: Sequence[SynchronousEngine]) -> int:
        """Id of the replica for the next request."""
        return min(range(len(engines)), key=lambda replica: (engines[replica].outstanding, replica))
