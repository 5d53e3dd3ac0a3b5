"""The choices of a configuration: one small frozen dataclass per router, queue order and so on, selected by name.

Batch policies are in `fastsim.schedulers`, engines in `fastsim.engine_presets`. A choice also says where its compiled
part is, so that adding one touches its kernel file and one list. Nothing here imports numba: the command line lists the
choices without it.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import Field, asdict, dataclass, fields, replace
from typing import Any, ClassVar

from fastsim.errors import ConfigError


@dataclass(frozen=True)
class RoundRobin:
    """The replicas in turn."""

    kernel: ClassVar[str] = "routing:round_robin"
    reads_replicas: ClassVar[bool] = False


@dataclass(frozen=True)
class LeastOutstanding:
    """The replica with the fewest requests waiting or running, the lowest number of equals."""

    kernel: ClassVar[str] = "routing:least_outstanding"
    reads_replicas: ClassVar[bool] = True


@dataclass(frozen=True)
class LeastOutstandingTokens:
    """The replica with the fewest prompt and output tokens of requests not completed, the lowest number of equals."""

    kernel: ClassVar[str] = "routing:least_outstanding_tokens"
    reads_replicas: ClassVar[bool] = True


@dataclass(frozen=True)
class LeastKv:
    """The replica with the fewest KV blocks in use, of equals that with the fewest requests."""

    kernel: ClassVar[str] = "routing:least_kv"
    reads_replicas: ClassVar[bool] = True


@dataclass(frozen=True)
class Random:
    """Any replica, each as likely; drawn from the configuration's seed."""

    kernel: ClassVar[str] = "routing:random"
    reads_replicas: ClassVar[bool] = False


@dataclass(frozen=True)
class PowerOfTwo:
    """Of two replicas drawn at random that with the fewer requests waiting or running."""

    kernel: ClassVar[str] = "routing:power_of_two"
    reads_replicas: ClassVar[bool] = True


@dataclass(frozen=True)
class SessionAffinity:
    """The replica of the request before it in its session; the first of a session goes to the least outstanding."""

    kernel: ClassVar[str] = "routing:session_affinity"
    reads_replicas: ClassVar[bool] = True


@dataclass(frozen=True)
class PrefixAware:
    """The replica with the fewest tokens of requests not completed, less what its prefix cache would spare this one.

    Attributes:
        hit_weight: what a prompt token found in the cache counts against a token of load.
    """

    kernel: ClassVar[str] = "routing:prefix_aware"
    reads_replicas: ClassVar[bool] = True

    hit_weight: float = 1.0

    def __post_init__(self) -> None:
        """Refuse a negative weight.

        Raises:
            ConfigError: as said.
        """
        if self.hit_weight < 0:
            mend = "give 1, say, or 0 to look at the load alone"
            raise ConfigError("router.hit_weight", self.hit_weight, "would shun what is cached", mend)


@dataclass(frozen=True)
class Fcfs:
    """First come, first served, preempted requests in front."""


@dataclass(frozen=True)
class Priority:
    """By the requests' class, the smallest number first, and then by arrival; the most important are preempted last."""


@dataclass(frozen=True)
class ShortestJobFirst:
    """By predicted output tokens, the fewest first, and then by arrival.

    Attributes:
        prediction_error: standard deviation of the logarithm of predicted over true output tokens; 0 for an oracle.
    """

    prediction_error: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a negative deviation.

        Raises:
            ConfigError: as said.
        """
        if self.prediction_error < 0:
            mend = "give 0 for an oracle, or 0.5, say"
            raise ConfigError("queue.prediction_error", self.prediction_error, "is no standard deviation", mend)


#: More than any whole number of the kernel's tables.
_BEYOND = 2**63
#: Of any number of a client.
_MOST = 1e9


@dataclass(frozen=True)
class OpenClient:
    """Requests are sent at the times of the workload; one with a think time that long after the turn before it."""

    def check(self) -> None:
        """Nothing to refuse."""


@dataclass(frozen=True)
class ClosedClients:
    """So many clients, each of which sends the next request of the workload when it has its last one whole.

    Attributes:
        concurrency: how many clients; must be given.
        think_s: from the last token of a request to the sending of the next [s].
        warmup_requests: so many requests, the first ones, count in no latency of requests and no hit rate. Times
            between tokens, throughput and use are of the whole run.
    """

    concurrency: int = 0
    think_s: float = 0.0
    warmup_requests: int = 0

    def check(self) -> None:
        """Refuse clients that send nothing, and negative numbers.

        Raises:
            ConfigError: naming the field.
        """
        for name, least, mend in (
            ("concurrency", 1, "give the number of clients, such as 64"),
            ("think_s", 0, "give 0 or more seconds"),
            ("warmup_requests", 0, "give 0 or more"),
        ):
            if getattr(self, name) < least:
                raise ConfigError(f"client.{name}", getattr(self, name), "is too small", mend)
            if getattr(self, name) > _MOST:
                raise ConfigError(f"client.{name}", getattr(self, name), "is too large", f"give {_MOST:.0e} or less")


CLIENTS: Mapping[str, type] = {"open": OpenClient, "closed": ClosedClients}
QUEUES: Mapping[str, type] = {"fcfs": Fcfs, "priority": Priority, "sjf": ShortestJobFirst}
ROUTERS: Mapping[str, type] = {
    "least_kv": LeastKv,
    "least_outstanding": LeastOutstanding,
    "least_outstanding_tokens": LeastOutstandingTokens,
    "power_of_two": PowerOfTwo,
    "prefix_aware": PrefixAware,
    "random": Random,
    "round_robin": RoundRobin,
    "session_affinity": SessionAffinity,
}


def integer(field: str, value: object) -> int:
    """A whole number of 64 bits, also written ``1e6``.

    Raises:
        ConfigError: the value is not a whole number, or too large for the tables of the kernel.
    """
    whole = _whole(value)
    if whole is None:
        raise ConfigError(field, value, "is not a whole number", "give one, such as 256 or 1e6")
    if not -_BEYOND <= whole < _BEYOND:
        raise ConfigError(field, value, "has more than 64 bits", "give a number below 2**63")
    return whole


def _whole(value: object) -> int | None:
    """A whole number; None of another value."""
    if isinstance(value, int):
        return None if isinstance(value, bool) else value
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            return int(value)  # keeps every digit, which a float does not
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        if float(value) == int(float(value)):  # type: ignore[arg-type]
            return int(float(value))  # type: ignore[arg-type]
    return None


def number(field: str, value: object) -> float:
    """A finite number.

    Raises:
        ConfigError: the value is none.
    """
    try:
        result = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        result = float("nan")
    if isinstance(value, bool) or not float("-inf") < result < float("inf"):
        raise ConfigError(field, value, "is not a finite number", "give one, such as 0.9")
    return result


def boolean(field: str, value: object) -> bool:
    """A truth value, also written ``true`` or ``false``.

    Raises:
        ConfigError: the value is none.
    """
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if not isinstance(value, bool):
        raise ConfigError(field, value, "is neither true nor false", "give one of these")
    return value


def word(field: str, value: object, choices: Sequence[str]) -> str:
    """One of a few words.

    Raises:
        ConfigError: the value is none of them; the sentence lists them.
    """
    if value not in choices:
        raise ConfigError(field, value, "is not known", f"choose one of {', '.join(choices)}")
    return str(value)


def boolean_or_none(field: str, value: object) -> bool | None:
    """A truth value, or None for "as the rest of the configuration says".

    Raises:
        ConfigError: the value is neither.
    """
    return None if value is None else boolean(field, value)


_READERS = {int: integer, float: number, bool: boolean, bool | None: boolean_or_none}


def _read(field: str, spec: "Field[Any]", value: object) -> object:
    """A value of a choice's field, which is a number, a truth value, or one of the words that it lists."""
    if spec.type is str:
        return word(field, value, spec.metadata["choices"])
    return _READERS[spec.type](field, value)  # type: ignore[index]


def default_of(choice: Any) -> Any:
    """A choice with its defaults: the dataclass's, or the preset itself."""
    return choice() if isinstance(choice, type) else choice


def choose(kind: str, choices: Mapping[str, Any], name: str, values: Mapping[str, object]) -> Any:
    """The choice called name, with its fields set.

    Args:
        kind: what is chosen, for the message: ``"scheduler"``.
        choices: dataclasses by name, or presets, instances of one.
        name: one of them.
        values: fields that differ from their defaults; dashes may stand for underscores.

    Raises:
        ConfigError: an unknown name or field (the sentence lists those there are), or a value of the wrong type.
    """
    if name not in choices:
        raise ConfigError(kind, name, "is not known", f"choose one of {', '.join(sorted(choices))}")
    choice = choices[name]
    specs = {spec.name: spec for spec in fields(choice)}
    given = {}
    for key, value in values.items():
        field = str(key).replace("-", "_")
        if field not in specs:
            known = f"the fields of {name} are {', '.join(specs)}" if specs else f"{name} has no fields"
            raise ConfigError(f"{kind}.{field}", value, "is not known", known)
        if field in given:
            raise ConfigError(f"{kind}.{field}", value, "is given twice", "give it once")
        given[field] = _read(f"{kind}.{field}", specs[field], value)
    return replace(default_of(choice), **given)


def as_table(choice: Any) -> dict[str, object]:
    """All fields of a choice, for TOML and JSON."""
    return asdict(choice)
