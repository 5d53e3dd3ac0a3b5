"""Experts that several data-parallel engines share: the layout of their part of the tables."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from estimators.errors import EstimatorError


@dataclass(frozen=True)
class ExpertLayout:
    """The table of the experts of several engines, which share them: seconds by the tokens of all engines together.

    An optional part of ``IterationTables``, behind all others, with a step for every number of tokens.

    Attributes:
        max_tokens: most tokens of all engines together in one round.
        engines: how many engines, 2 or more.
    """

    max_tokens: int
    engines: int

    def __post_init__(self) -> None:
        """Check every field."""
        for name, value in asdict(self).items():
            least = 2 if name == "engines" else 1
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= 2**40:
                wrong = f"is not an integer from {least} to 2**40"
                raise EstimatorError(name, value, wrong, "choose one in that range")

    @property
    def size(self) -> int:
        """Number of values."""
        return self.max_tokens + 1
