"""Typed access to a parsed ``config.json``, with errors that name the file and the key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from estimators.errors import EstimatorError


class ConfigReader:
    """The keys of a table; ``null`` is as good as missing where a default is given."""

    def __init__(self, config: Mapping[str, Any], source: str) -> None:
        """``source`` is what errors call the table."""
        self.config, self.source = config, source

    def error(self, key: str, wrong: str, mend: str) -> EstimatorError:
        """An error about a key."""
        return EstimatorError(f"{self.source}: {key}", self.config.get(key), wrong, mend)

    def has(self, key: str) -> bool:
        """Whether there is a value."""
        return self.config.get(key) is not None

    def positive(self, key: str) -> int:
        """An integer from 1 on."""
        return self._integer(key, 1, "is not a positive integer")

    def count(self, key: str) -> int:
        """An integer from 0 on, 0 where it is missing."""
        return self._integer(key, 0, "is not an integer from 0 on") if self.has(key) else 0

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self.config.get(key, default)
        if not isinstance(value, bool):
            raise self.error(key, "is not true or false", "correct the file")
        return value

    def fraction(self, key: str, default: float) -> float:
        """A number above 0 and up to 1."""
        value = self.config.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
            raise self.error(key, "is not a number above 0 and up to 1", "correct the file")
        return float(value)

    def names(self, key: str) -> list[str]:
        """A list of strings."""
        values = self.config.get(key)
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise self.error(key, "is not a list of names", "correct the file")
        return values

    def indices(self, key: str) -> list[int]:
        """A list of integers; empty where it is missing."""
        values = self.config.get(key) or []
        if not isinstance(values, list) or not all(type(value) is int for value in values):
            raise self.error(key, "is not a list of integers", "correct the file")
        return values

    def _integer(self, key: str, least: int, wrong: str) -> int:
        value = self.config.get(key)
        if key not in self.config:
            raise self.error(key, "is missing", "add the key")
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise self.error(key, wrong, "correct the file")
        return value
