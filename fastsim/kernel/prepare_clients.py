"""The Python side of `fastsim.kernel.clients`: who sends what, in which order it arrives, and what is sent later."""

from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from fastsim.kernel.slots import table_functions
from fastsim.kernel.state import NONE, PENDING, records


class Clients(NamedTuple):
    """Who sends the requests, and how long they and their tokens travel.

    Attributes:
        concurrency: so many closed clients; 0 for one open client.
        think_s: what a closed client thinks between two requests [s].
        ingress_s: from a client to the replicas [s].
        ingress_s_per_token: the same per prompt token [s].
        egress_s: from a replica to a client [s].
    """

    concurrency: int = 0
    think_s: float = 0.0
    ingress_s: float = 0.0
    ingress_s_per_token: float = 0.0
    egress_s: float = 0.0

    def arrival_s(self, sent_s: Any, prompt_tokens: Any) -> Any:
        """When requests sent at some times reach the replicas [s]; arrays."""
        return (sent_s + self.ingress_s) + self.ingress_s_per_token * prompt_tokens

    def send_later(self, workload: Any) -> bool:
        """Whether some requests are sent because others complete."""
        return self.concurrency > 0 or not bool(np.isnan(workload.think_s).all())


def in_order_of_arrival(
    workload: Any, order_keys: np.ndarray | None, clients: Clients
) -> tuple[Any, np.ndarray | None, np.ndarray | None]:
    """A workload of which all times of sending are known, as it reaches the replicas.

    Returns:
        Its columns, with arrival_s at the replicas; the keys of its queue order; and which row of the workload each
        request is, or None where that is its own number.
    """
    if clients.ingress_s == clients.ingress_s_per_token == 0:
        return workload, order_keys, None
    names = ("arrival_s", "prompt_tokens", "output_tokens", "request_class", "session")
    columns = {name: getattr(workload, name) for name in names}
    columns["arrival_s"] = clients.arrival_s(workload.arrival_s, workload.prompt_tokens)
    if not (columns["arrival_s"][1:] < columns["arrival_s"][:-1]).any():
        return SimpleNamespace(**columns), order_keys, None
    rows = np.argsort(columns["arrival_s"], kind="stable")
    columns = {name: column[rows] for name, column in columns.items()}
    return SimpleNamespace(**columns), None if order_keys is None else order_keys[rows], rows


def new_pending(workload: Any, order_keys: np.ndarray | None, clients: Clients) -> np.ndarray:
    """The PENDING records of a workload, by row, before anything has arrived."""
    n = len(workload.arrival_s)
    pending = records(PENDING, n)
    for name in ("prompt_tokens", "output_tokens", "request_class", "session"):
        pending[name] = getattr(workload, name)
    if order_keys is not None:
        pending["order_key"] = order_keys
    pending["successor"] = pending["conversation"] = NONE
    if clients.concurrency > 0:
        pending["sent_s"][clients.concurrency :] = np.nan
    else:
        waits = ~np.isnan(workload.think_s)
        pending["think_s"] = workload.think_s
        pending["sent_s"] = np.where(waits, np.nan, workload.arrival_s)
        previous = previous_in_session(workload.session)
        pending["successor"][previous[waits]] = np.flatnonzero(waits)
    pending["arrival_s"] = clients.arrival_s(pending["sent_s"], pending["prompt_tokens"])
    inside = workload.session >= 0
    pending["conversation"][inside] = np.unique(workload.session[inside], return_inverse=True)[1]
    return pending


def num_integers(pending: np.ndarray) -> int:
    """Size of the part of the integer pool that clients need."""
    return 2 * len(pending) + int(pending["conversation"].max(initial=NONE)) + 1


def place_clients(cluster: np.ndarray, integers: np.ndarray, begin: int, pending: np.ndarray, clients: Clients) -> None:
    """Write the clients into the cluster's record, and into their part of the pool, which starts at begin; in place."""
    known = np.flatnonzero(~np.isnan(pending["sent_s"]))
    fixed = known[np.argsort(pending["arrival_s"][known], kind="stable")]
    cluster["dynamic"] = True
    cluster["closed"] = clients.concurrency > 0
    cluster["next_row"] = clients.concurrency
    cluster["client_think_s"] = clients.think_s
    for name in ("ingress_s", "ingress_s_per_token", "egress_s"):
        cluster[name] = getattr(clients, name)
    cluster["fixed"], cluster["num_fixed"] = begin, len(fixed)
    cluster["travelling"] = begin + len(pending)
    cluster["latest"] = begin + 2 * len(pending)
    integers[begin : begin + len(fixed)] = fixed
    integers[begin + 2 * len(pending) :] = NONE


def previous_in_session(session: np.ndarray) -> np.ndarray:
    """The request before each one in its session, NONE for the first and for those outside a session, int32 [n]."""
    order = np.argsort(session, kind="stable")
    follows = (session[order[1:]] == session[order[:-1]]) & (session[order[1:]] >= 0)
    previous = np.full(len(session), NONE, np.int32)
    previous[order[1:][follows]] = order[:-1][follows]
    return previous


def as_clients_see(requests: np.ndarray, pending: np.ndarray, workload: Any, clients: Clients) -> np.ndarray:
    """REQUEST records after a run in the order of the workload, with the times of the clients.

    Only ``scheduled_s`` stays the engine's. Without clients that wait and without delays the records are returned as
    they are; else they are changed in place.
    """
    if len(pending) == 0 and not any((clients.ingress_s, clients.ingress_s_per_token, clients.egress_s)):
        return requests
    _, see_times, *_ = table_functions()
    see_times(requests, pending["sent_s"].copy() if len(pending) > 0 else workload.arrival_s, clients.egress_s)
    rows = requests["row"].copy()
    moved = np.flatnonzero(rows != np.arange(len(rows)))
    requests[rows[moved]] = requests[moved]
    return requests
