"""Service level objectives: what each class of requests is promised."""

from dataclasses import dataclass
from typing import Final

from traces.errors import TraceError, real_number, shown

_TIMES: Final = ("ttft_s", "tpot_s", "e2e_s")


@dataclass(frozen=True)
class Objective:
    """What a class of requests is promised; a request meets it that meets all of its times.

    Attributes:
        name: of the class, such as "interactive".
        ttft_s: most time to the first token, or None for no promise [s].
        tpot_s: most time per output token after the first, or None [s].
        e2e_s: most time from arrival to the last token, or None [s].
    """

    name: str
    ttft_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise TraceError("name", self.name, f"is {shown(self.name)}", "give the class a name")
        for field in _TIMES:
            value = getattr(self, field)
            if value is not None:
                object.__setattr__(self, field, real_number(field, value, 1e-9, 1e9))


def check_objectives(given: object, num_classes: int) -> tuple[Objective, ...]:
    """The objectives of the classes 0, 1, ..., as a tuple.

    Args:
        given: as many objectives as there are classes, or more; or none.
        num_classes: the largest class of a request, and one.

    Raises:
        TraceError: they are something else, or two have one name.
    """
    wanted = "give an Objective for each class, the most important first, or none"
    if not isinstance(given, list | tuple) or not all(isinstance(objective, Objective) for objective in given):
        raise TraceError("objectives", given, f"is {shown(given)}", wanted)
    if given and len(given) < num_classes:
        raise TraceError("objectives", given, f"has {len(given)} elements for {num_classes} classes", wanted)
    names = [objective.name for objective in given]
    if len(set(names)) < len(names):
        raise TraceError("objectives", given, f"has the names {', '.join(names)}", "give each class a name of its own")
    return tuple(given)
