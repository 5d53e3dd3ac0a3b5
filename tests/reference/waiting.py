"""The requests of a replica that wait (docs/policies.md, section 6)."""

from collections.abc import Iterator

from reference.requests import Request

ORDERS = ("fcfs", "priority", "sjf")


class WaitingQueue:
    """Requests in queue order; only the head is ever tried.

    Under fcfs it is a plain queue: arrivals go to its end, and whoever comes back goes where the policy says. Under the
    other orders it is sorted at all times by (key, arrival, position in the input), whoever comes and from where.
    """

    def __init__(self, order: str) -> None:
        """Start empty."""
        self._sorted = order != "fcfs"
        self._requests: list[Request] = []

    def __len__(self) -> int:
        """How many wait."""
        return len(self._requests)

    def __iter__(self) -> Iterator[Request]:
        """From the head."""
        return iter(self._requests)

    @property
    def head(self) -> Request:
        """The next to be tried; there must be one."""
        return self._requests[0]

    def pop(self) -> Request:
        """Take the head."""
        return self._requests.pop(0)

    def remove(self, request: Request) -> None:
        """Take out a request that ended while it waited."""
        self._requests.remove(request)

    def append(self, request: Request) -> None:
        """Queue a request behind all others, or at its place."""
        self._requests.append(request)
        self._sort()

    def push_front(self, request: Request) -> None:
        """Queue a preempted request in front of all others, or at its place."""
        self._requests.insert(0, request)
        self._sort()

    def _sort(self) -> None:
        """Keep the order."""
        if self._sorted:
            self._requests.sort(key=lambda request: request.queue_key)
