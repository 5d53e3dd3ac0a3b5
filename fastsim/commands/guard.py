"""Directories that a command reads again, which may come from strangers or be damaged."""

from collections.abc import Iterator
from contextlib import contextmanager

from fastsim.errors import ConfigError


@contextmanager
def written_by_fastsim(field: str, directory: str) -> Iterator[None]:
    """Say of a directory whose files hold other things than fastsim writes that they do, in one sentence.

    What a page shows of a summary is a hundred numbers at a hundred places; each is used as what it must be, and this
    tells in words where one is not. The error itself is kept as the cause.

    Raises:
        ConfigError: as said; errors that are sentences already pass.
    """
    from polars.exceptions import PolarsError

    try:
        yield
    except (TypeError, LookupError, AttributeError, ArithmeticError, ValueError, PolarsError) as error:
        if hasattr(error, "mend"):
            raise
        reason = (str(error).splitlines() or [""])[0]
        wrong = f"holds what fastsim does not write ({type(error).__name__}: {reason})"
        raise ConfigError(field, directory, wrong, "write the directory again") from error
