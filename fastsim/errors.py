"""The one error that fastsim raises for bad input."""

from estimators.errors import one_line

#: Characters of a part of a sentence, of which some lists of choices are long.
_SHORT, _LONG = 300, 4000


def cut(text: str, most: int = _SHORT) -> str:
    """A text, without what is beyond so many characters: a file of strangers may have given it."""
    return text if len(text) <= most else text[: most - 3] + "..."


class ConfigError(ValueError):
    """Bad input, told in one sentence.

    Attributes:
        field: what was wrong, as the user named it, such as ``"replicas"``.
        value: the value that was given.
        mend: what to do instead, an imperative clause without a full stop.
    """

    def __init__(self, field: str, value: object, wrong: str, mend: str) -> None:
        """Build the sentence: field, value (left out if None), what is wrong with it, and the mend."""
        self.parts = (field, value, wrong, mend)
        self.field = field
        self.value = value
        self.mend = mend
        given = "" if value is None else f" {value!r}"
        super().__init__(one_line(f"{cut(field)}{cut(given)} {cut(wrong, _LONG)}; {cut(mend, _LONG)}."))

    def __reduce__(self) -> tuple[type["ConfigError"], tuple[str, object, str, str]]:
        """Travel between processes."""
        return type(self), self.parts


class DoesNotFitError(ConfigError):
    """A model or a request that the memory of the GPUs cannot hold."""
