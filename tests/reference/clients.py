"""Who sends the requests, and when (docs/policies.md, section 11)."""

import math
from collections import deque
from collections.abc import Sequence

from reference.config import ReferenceConfig
from reference.requests import Request


class OpenClient:
    """Requests are sent at the times of the workload, or a think time after their predecessors."""

    def __init__(self, config: ReferenceConfig, requests: Sequence[Request]) -> None:
        """Find out who waits for whom.

        Raises:
            ValueError: A request has a think time and no request before it in its session.
        """
        self._egress_s = config.egress_s
        self._think_s = config.think_s or (math.nan,) * len(requests)
        self._at_once: list[Request] = []
        self._follower: dict[int, Request] = {}
        latest: dict[int, int] = {}
        for request in requests:
            if math.isnan(self._think_s[request.request_id]):
                self._at_once.append(request)
            elif request.session in latest:
                self._follower[latest[request.session]] = request
            else:
                raise ValueError(f"request {request.request_id} has a think time and nobody to wait for")
            if request.session != -1:
                latest[request.session] = request.request_id

    def begin(self) -> list[Request]:
        """The requests whose time of sending is known."""
        return self._at_once

    def completed(self, request: Request) -> list[Request]:
        """The requests that are sent because one completes."""
        if request.request_id not in self._follower:
            return []
        follower = self._follower[request.request_id]
        follower.sent_s = (request.token_times_s[-1] + self._egress_s) + self._think_s[follower.request_id]
        return [follower]


class ClosedClients:
    """So many clients, each of which sends the next request of the workload when it has got its last one, and thought.

    The times of the workload are ignored.
    """

    def __init__(self, config: ReferenceConfig, requests: Sequence[Request]) -> None:
        """All requests are still to be sent."""
        self._concurrency = config.concurrency
        self._egress_s = config.egress_s
        self._think_s = config.client_think_s
        self._unsent = deque(requests)

    def begin(self) -> list[Request]:
        """One request for each client, at time 0."""
        return [self._send(0.0) for _ in range(min(self._concurrency, len(self._unsent)))]

    def completed(self, request: Request) -> list[Request]:
        """The next request, if there is one."""
        if not self._unsent:
            return []
        return [self._send((request.token_times_s[-1] + self._egress_s) + self._think_s)]

    def _send(self, time_s: float) -> Request:
        """Send the next request at a time."""
        request = self._unsent.popleft()
        request.sent_s = time_s
        return request


Client = OpenClient | ClosedClients
CLIENTS: dict[str, type[Client]] = {"open": OpenClient, "closed": ClosedClients}
