"""Which replica gets a request. A router is asked once per request, in the order of arrival.

Where requests arrive together, each is assigned before the next is routed. Every completion and every batch before that
time counts, and so does every completion at that very time; no batch is formed at it before all are routed.
"""

from collections.abc import Sequence

from reference.config import ReferenceConfig
from reference.data_parallel import DataParallelReplica
from reference.requests import Request


class RoundRobin:
    """The i-th request goes to replica i mod R."""

    def __init__(self, config: ReferenceConfig) -> None:
        """Start at replica 0."""
        self._num_routed = 0

    def choose(self, replicas: Sequence[DataParallelReplica], request: Request) -> int:
        """Id of the replica for the next request."""
        chosen = self._num_routed % len(replicas)
        self._num_routed += 1
        return chosen


class Random:
    """The replica that somebody else drew for this request, so that no generator has to be matched."""

    def __init__(self, config: ReferenceConfig) -> None:
        """Take the draws from the configuration."""
        self._choices = config.router_choices

    def choose(self, replicas: Sequence[DataParallelReplica], request: Request) -> int:
        """Id of the replica for the next request."""
        return self._choices[request.position]


class LeastOutstanding:
    """The replica with the fewest assigned and not completed requests; of equals the lowest id."""

    def __init__(self, config: ReferenceConfig) -> None:
        """Nothing to keep."""

    def choose(self, replicas: Sequence[DataParallelReplica], request: Request) -> int:
        """Id of the replica for the next request."""
        return min(range(len(replicas)), key=lambda replica: (replicas[replica].outstanding, replica))


class LeastOutstandingTokens:
    """The replica with the fewest tokens, prompts and outputs, of not completed requests; of equals the lowest id.

    A request counts with all its P + O tokens until it completes.
    """

    def __init__(self, config: ReferenceConfig) -> None:
        """Nothing to keep."""

    def choose(self, replicas: Sequence[DataParallelReplica], request: Request) -> int:
        """Id of the replica for the next request."""
        return min(range(len(replicas)), key=lambda replica: (replicas[replica].outstanding_tokens, replica))


class LeastKv:
    """The replica that holds the fewest KV blocks; of equals the one with the fewest outstanding requests, then id.

    Requests that wait hold none, so without the second key a burst would go to one replica.
    """

    def __init__(self, config: ReferenceConfig) -> None:
        """Nothing to keep."""

    def choose(self, replicas: Sequence[DataParallelReplica], request: Request) -> int:
        """Id of the replica for the next request."""
        return min(range(len(replicas)), key=lambda i: (replicas[i].kv_blocks, replicas[i].outstanding, i))


class PrefixAware:
    """The replica with the fewest outstanding tokens less weighted prompt tokens in its cache; of equals the lowest id.

    P + O of an outstanding request count until it completes; what the cache would supply of the prompt is what a
    lookup for the request alone would find now.
    """

    def __init__(self, config: ReferenceConfig) -> None:
        """Take the weight from the configuration."""
        self._hit_weight = config.hit_weight

    def choose(self, replicas: Sequence[DataParallelReplica], request: Request) -> int:
        """Id of the replica for the next request."""

        def load(replica: DataParallelReplica) -> float:
            return replica.outstanding_tokens - self._hit_weight * replica.num_found(request)

        return min(range(len(replicas)), key=lambda number: (load(replicas[number]), number))


class PowerOfTwo:
    """Of two replicas that somebody else drew for this request that with fewer outstanding requests, or the first."""

    def __init__(self, config: ReferenceConfig) -> None:
        """Take the draws from the configuration, two for each request."""
        self._choices = config.router_choices

    def choose(self, replicas: Sequence[DataParallelReplica], request: Request) -> int:
        """Id of the replica for the next request."""
        first, second = self._choices[2 * request.position : 2 * request.position + 2]
        return second if replicas[second].outstanding < replicas[first].outstanding else first


class SessionAffinity:
    """Where the latest earlier request of the same session went; else the replica of least_outstanding."""

    def __init__(self, config: ReferenceConfig) -> None:
        """Start with no session known."""
        self._least_outstanding = LeastOutstanding(config)
        self._replica_of: dict[int, int] = {}

    def choose(self, replicas: Sequence[DataParallelReplica], request: Request) -> int:
        """Id of the replica for the next request."""
        if request.session in self._replica_of:
            return self._replica_of[request.session]
        chosen = self._least_outstanding.choose(replicas, request)
        if request.session != -1:
            self._replica_of[request.session] = chosen
        return chosen


Router = (
    RoundRobin
    | Random
    | PowerOfTwo
    | LeastOutstanding
    | LeastOutstandingTokens
    | LeastKv
    | PrefixAware
    | SessionAffinity
)
