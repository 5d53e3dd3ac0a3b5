"""The one error every module of ``estimators`` raises for bad input."""

from __future__ import annotations

_MOST = 2000  # characters of a part of a sentence, which a file of strangers may have given


def one_line(text: str) -> str:
    """A text without line breaks and the other characters that a terminal obeys: those are spelt out."""
    return text if text.isprintable() else "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


class EstimatorError(ValueError):
    """Bad input to the estimators, told in one sentence.

    Attributes:
        field: what was wrong, as the user named it (``"device"``, ``"config.json: hidden_size"``).
        value: the value that was given.
        mend: what to do instead, an imperative clause without a full stop.
    """

    def __init__(self, field: str, value: object, wrong: str, mend: str) -> None:
        """Build the sentence from its four parts, in this order.

        Args:
            field: what was wrong.
            value: the value that was given; None (nothing was given) is left out of the sentence.
            wrong: a clause that follows the value, such as ``"is not a positive integer"``.
            mend: what to do instead, such as ``"give 1 or more"``.
        """
        self.field = field
        self.value = value
        self.mend = mend
        shown = "" if value is None else f" {value!r}"
        if len(shown) > 120:
            shown = shown[:117] + "..."
        super().__init__(one_line(f"{field[:_MOST]}{shown} {wrong[:_MOST]}; {mend}."))

    def __reduce__(self) -> tuple[object, ...]:
        """Let the error travel between processes, which the four-argument constructor would prevent."""
        return _restore, (self.args[0], self.field, self.value, self.mend)


def _restore(sentence: str, field: str, value: object, mend: str) -> EstimatorError:
    error = EstimatorError.__new__(EstimatorError)
    ValueError.__init__(error, sentence)
    error.field, error.value, error.mend = field, value, mend
    return error
