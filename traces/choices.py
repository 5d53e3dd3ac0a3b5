"""Selection of a frozen dataclass by name, with its fields as options."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, TypeVar

from traces.errors import TraceError, shown

T = TypeVar("T")


def choose(kind: str, registry: Mapping[str, type[T]], name: str, options: Mapping[str, object]) -> T:
    """Build the dataclass registered under a name.

    Args:
        kind: what is chosen, such as "arrivals": the field of the errors about the name.
        registry: legal names and their dataclasses.
        name: the chosen name.
        options: values for the fields of the dataclass.

    Raises:
        TraceError: an unknown name, an unknown or a missing option, or a value that the dataclass refuses.
    """
    if not isinstance(name, str) or name not in registry:
        raise TraceError(kind, name, f"is {shown(name)}", f"choose one of {', '.join(sorted(registry))}")
    chosen: Any = registry[name]
    known = {field.name: field for field in fields(chosen)}
    names = ", ".join(known) or "none"
    for option, value in options.items():
        if option not in known:
            raise TraceError(str(option), value, f"is not an option of {kind} {name!r}", f"its options are: {names}")
    for option, field in known.items():
        if option not in options and field.default is MISSING:
            raise TraceError(option, None, f"is missing for {kind} {name!r}", f"its options are: {names}")
    built: T = chosen(**options)
    return built
