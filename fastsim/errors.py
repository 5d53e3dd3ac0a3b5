"""The one error that fastsim raises for bad input."""


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
        super().__init__(f"{field}{given} {wrong}; {mend}.")

    def __reduce__(self) -> tuple[type["ConfigError"], tuple[str, object, str, str]]:
        """Travel between processes."""
        return type(self), self.parts


class DoesNotFitError(ConfigError):
    """A model or a request that the memory of the GPUs cannot hold."""
