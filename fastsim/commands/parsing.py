"""What the parsers of all commands share: a dataclass behind each, one-sentence errors, and progress on stderr."""

import argparse
import contextlib
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any, NoReturn

import argparse_dataclass

from estimators.bounded import parsed_json
from fastsim.errors import ConfigError

#: Seconds of silence before a progress line appears.
PATIENCE_S = 0.7


class Parser(argparse_dataclass.ArgumentParser):  # type: ignore[misc]
    """An argparse_dataclass parser whose errors are sentences, and which never guesses at shortened flags."""

    def __init__(self, options: type[Any], command: str, description: str, epilog: str = "") -> None:
        """Make the parser of one command.

        Args:
            options: the dataclass behind the command.
            command: its name.
            description: what it does.
            epilog: what follows the list of flags in the help.
        """
        super().__init__(
            options,
            prog=f"fastsim {command}",
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Raise argparse's complaint as ours."""
        what, colon, complaint = message.removeprefix("argument ").partition(": ")
        if colon and message.startswith("argument "):
            raise ConfigError(what, None, complaint, f"see '{self.prog} --help'")
        raise ConfigError("arguments", complaint or what, "are not known", f"see '{self.prog} --help'")


def flag(default: Any, help: str, *names: str) -> Any:
    """One field of a command's dataclass. Values arrive as text: whoever uses them reads and checks them.

    Args:
        default: value when the flag is not given; True or False makes it a switch.
        help: one line.
        *names: spellings other than the field's own; one without hyphens makes it a word by its place.
    """
    if default is not None and not isinstance(default, bool):
        help += f" (default: {default})"
    metadata: dict[str, Any] = {"help": help.replace("%", "%%")}  # which argparse would fill in
    if not isinstance(default, bool):
        metadata |= {"type": str, "metavar": "X" if not names or names[0].startswith("-") else names[0].upper()}
    if names:
        metadata["args"] = names
        if not names[0].startswith("-"):
            metadata["nargs"] = "?"
    return field(default=default, metadata=metadata)


def refuse_flags(command: Any, choice: str, belonging: Mapping[str, Sequence[str]]) -> None:
    """Refuse flags that mean nothing to what was chosen, rather than ignore them.

    Args:
        command: the dataclass behind the command, with its values.
        choice: what was chosen.
        belonging: by flag, the choices to which it means something.

    Raises:
        ConfigError: naming the first flag that differs from its default and belongs to others only.
    """
    for name, choices in belonging.items():
        value = getattr(command, name)
        if choice not in choices and value != getattr(type(command), name):
            mend = f"leave it out, or choose {' or '.join(choices)}"
            raise ConfigError(name, value, f"means nothing to {choice}", mend)


def split_options(words: Sequence[str], groups: Sequence[str]) -> tuple[list[str], dict[str, dict[str, Any]]]:
    """Take flags of the form ``--group.field value`` or ``--group.field=value`` out of a command line.

    Returns:
        The other words, and the values by group and field.

    Raises:
        ConfigError: a value is missing.
    """
    rest: list[str] = []
    options: dict[str, dict[str, Any]] = {group: {} for group in groups}
    waiting = iter(words)
    for word in waiting:
        name, equals, value = word.removeprefix("--").partition("=")
        group, dot, field_name = name.partition(".")
        if not (word.startswith("--") and dot and group in options):
            rest.append(word)
            continue
        text = value if equals else next(waiting, None)
        if text is None:
            raise ConfigError(f"{group}.{field_name}", None, "has no value", f"write {word} VALUE")
        options[group][field_name.replace("-", "_")] = literal(text)
    return rest, options


def literal(text: str) -> Any:
    """A number or a truth value where the text is one, else the text."""
    with contextlib.suppress(ValueError):
        return parsed_json(text)
    return text


@contextlib.contextmanager
def progress(what: str) -> Iterator[None]:
    """Say on stderr what is going on if it takes long, and how long it took."""
    done = threading.Event()

    def speak() -> None:
        import time

        started = time.monotonic()
        if done.wait(PATIENCE_S):
            return
        # A line each: notes may come between them.
        print(f"fastsim: {what} ...", file=sys.stderr, flush=True)
        done.wait()
        print(f"fastsim: {what}: {time.monotonic() - started:.1f} s", file=sys.stderr, flush=True)

    speaker = threading.Thread(target=speak, daemon=True)
    speaker.start()
    try:
        yield
    finally:
        done.set()
        speaker.join()
