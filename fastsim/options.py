"""The choices of a configuration: one small frozen dataclass per batch policy, router and engine, selected by name.

A choice also says where its compiled part is, so that adding one touches its kernel file and this list. Nothing here
imports numba: the command line lists the choices without it.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

from fastsim.errors import ConfigError


@dataclass(frozen=True)
class VllmV1:
    """vLLM's V1 scheduler, synchronous, without prefix caching; the names are vLLM's own.

    Attributes:
        max_num_seqs: most requests running at a time.
        max_num_batched_tokens: most tokens in one iteration.
        long_prefill_token_threshold: longest prefill chunk, 0 for no limit.
        scheduler_reserve_full_isl: admit a request only if all its known tokens fit into free blocks (vLLM >= 0.19).
        enable_chunked_prefill: cut a prompt that exceeds what is left of max_num_batched_tokens.
    """

    kernel: ClassVar[str] = "vllm_v1:schedule"

    max_num_seqs: int = 256
    max_num_batched_tokens: int = 2048
    long_prefill_token_threshold: int = 0
    scheduler_reserve_full_isl: bool = True
    enable_chunked_prefill: bool = True

    def check(self, max_model_len: int) -> None:
        """Refuse what the engine refuses at its start.

        Args:
            max_model_len: longest request [tokens].

        Raises:
            ConfigError: a limit below 1, or limits that contradict each other.
        """
        for name in ("max_num_seqs", "max_num_batched_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(f"scheduler.{name}", getattr(self, name), "admits nothing", "give 1 or more")
        if self.long_prefill_token_threshold < 0:
            raise ConfigError(
                "scheduler.long_prefill_token_threshold",
                self.long_prefill_token_threshold,
                "is negative",
                "give a number of tokens, or 0 for no limit",
            )
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise ConfigError(
                "scheduler.max_num_batched_tokens",
                self.max_num_batched_tokens,
                f"is less than max_num_seqs = {self.max_num_seqs}, so a decode could be left out of every iteration",
                f"give {self.max_num_seqs} or more, or lower max_num_seqs",
            )
        if not self.enable_chunked_prefill and self.max_num_batched_tokens < max_model_len:
            raise ConfigError(
                "scheduler.max_num_batched_tokens",
                self.max_num_batched_tokens,
                f"is less than max_model_len = {max_model_len} without chunked prefill: a long prompt could never run",
                f"give {max_model_len} or more, or enable chunked prefill",
            )


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
class Ideal:
    """No time passes outside the GPU: no CPU time per iteration, no graph padding, synchronous scheduling."""


SCHEDULERS: Mapping[str, type] = {"vllm_v1": VllmV1}
ROUTERS: Mapping[str, type] = {"round_robin": RoundRobin, "least_outstanding": LeastOutstanding}
ENGINES: Mapping[str, type] = {"ideal": Ideal}


def integer(field: str, value: object) -> int:
    """A whole number, also written ``1e6``.

    Raises:
        ConfigError: the value is not a whole number.
    """
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            return int(value)  # keeps every digit, which a float does not
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        if not isinstance(value, bool) and float(value) == int(float(value)):  # type: ignore[arg-type]
            return value if isinstance(value, int) else int(float(value))  # type: ignore[arg-type]
    raise ConfigError(field, value, "is not a whole number", "give one, such as 256 or 1e6")


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


_READERS = {int: integer, float: number, bool: boolean}


def choose(kind: str, choices: Mapping[str, type], name: str, values: Mapping[str, object]) -> Any:
    """The choice called name, with its fields set.

    Args:
        kind: what is chosen, for the message: ``"scheduler"``.
        choices: dataclasses by name.
        name: one of them.
        values: fields that differ from their defaults; dashes may stand for underscores.

    Raises:
        ConfigError: an unknown name or field (the sentence lists those there are), or a value of the wrong type.
    """
    if name not in choices:
        raise ConfigError(kind, name, "is not known", f"choose one of {', '.join(sorted(choices))}")
    choice = choices[name]
    types = {field.name: field.type for field in fields(choice)}
    given = {}
    for key, value in values.items():
        field = key.replace("-", "_")
        if field not in types:
            known = f"the fields of {name} are {', '.join(types)}" if types else f"{name} has no fields"
            raise ConfigError(f"{kind}.{field}", value, "is not known", known)
        given[field] = _READERS[types[field]](f"{kind}.{field}", value)  # type: ignore[index]
    return choice(**given)


def as_table(choice: Any) -> dict[str, object]:
    """All fields of a choice, for TOML and JSON."""
    return asdict(choice)
