"""The values of one axis of a space, and the alternatives of a choice such as the scheduler."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastsim.engine_presets import ENGINES
from fastsim.errors import ConfigError
from fastsim.options import QUEUES, ROUTERS, as_table, choose
from fastsim.schedulers import SCHEDULERS

#: Choices of a configuration that a space may vary.
KINDS: Mapping[str, Mapping[str, Any]] = {
    "scheduler": SCHEDULERS,
    "queue": QUEUES,
    "router": ROUTERS,
    "engine": ENGINES,
}
#: Picks one of several values of something that has a name.
Pick = Callable[[str, Sequence[Any]], Any]


@dataclass(frozen=True)
class Alternative:
    """One choice of a kind, such as a scheduler, with the values of its options."""

    name: str
    options: Mapping[str, tuple[Any, ...]]

    def draw(self, pick: Pick, prefix: str) -> dict[str, Any]:
        """The choice as a table, each option picked."""
        return {"name": self.name} | {
            option: pick(f"{prefix}.{option}", values) for option, values in self.options.items()
        }

    def tables(self) -> Iterator[dict[str, Any]]:
        """The choice as a table, with every combination of its options."""
        names = list(self.options)
        for values in itertools.product(*self.options.values()):
            yield {"name": self.name} | dict(zip(names, values, strict=True))


def read_values(name: str, given: Any, read: Callable[[Any], Any]) -> tuple[Any, ...]:
    """The values of an axis, each once and in the order given."""
    several = list(given) if isinstance(given, list | tuple | range) else [given]
    if not several:
        raise ConfigError(name, given, "has no values", "give one or more, or leave it out")
    found: list[Any] = []
    for value in map(read, several):
        if value not in found:
            found.append(value)
    return tuple(found)


def read_alternatives(kind: str, given: Any) -> tuple[Alternative, ...]:
    """The alternatives of a choice: names, or tables with a name and options."""
    several = list(given) if isinstance(given, list | tuple) else [given]
    if not several:
        raise ConfigError(f"space.{kind}", given, "has no values", "give one or more, or leave it out")
    found = []
    for one in several:
        table = {"name": one} if not isinstance(one, Mapping) else dict(one)
        names = table.pop("name", None)
        if names is None:
            raise ConfigError(f"space.{kind}", dict(one), "has no name", f"choose one of {', '.join(KINDS[kind])}")
        for name in names if isinstance(names, list | tuple) else [names]:
            if not isinstance(name, str):
                raise ConfigError(f"space.{kind}", name, "is not a name", "give a string, or a table with a name")
            choose(kind, KINDS[kind], name, {})  # refuses a name that there is not
            found.append(Alternative(name, _options(kind, name, table)))
    return tuple(found)


def _options(kind: str, name: str, table: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """The values of a choice's options, each read as the choice reads it."""
    options = {}
    for key, value in table.items():
        option = str(key).replace("-", "_")

        def read(one: Any, option: str = option) -> Any:
            return as_table(choose(kind, KINDS[kind], name, {option: one}))[option]

        options[option] = read_values(f"space.{kind}.{option}", value, read)
    return options
