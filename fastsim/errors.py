"""The one error that fastsim raises for bad input."""


class ConfigError(ValueError):
    """Bad input, told in one sentence.

    Attributes:
        field: what was wrong, as the user named it, such as ``"replicas"``.
        value: the value that was given.
        mend: what to do instead, an imperative clause without a full stop.
    """

    def __init__(self, field: str, value: object, wrong: str, mend: str) -> None:
        """Build the sentence: field, value, what is wrong with it, and the mend."""
        self.field = field
        self.value = value
        self.mend = mend
        super().__init__(f"{field} = {value!r} {wrong}: {mend}.")
