"""``fastsim doctor``: what a report of a bug needs to say of the machine."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastsim.commands.parsing import Parser, flag

_EPILOG = """Nothing is repaired, removed or sent. The home directory is written ~; read the rest before you publish it.
Damaged entries of a cache are made again when they are needed. The whole cache may be removed at any time."""


@dataclass
class DoctorCommand:
    """Flags of ``fastsim doctor``."""

    json: bool = flag(False, "print JSON")


def main(words: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    from fastsim.doctor import examine

    what = "Print versions, the processor, and the state of caches, for a report of a bug."
    command: DoctorCommand = Parser(DoctorCommand, "doctor", what, _EPILOG).parse_args(list(words))
    found = examine()
    print(json.dumps(found) if command.json else render(found))
    return 0


def render(found: Mapping[str, Mapping[str, Any]]) -> str:
    """A heading for each section, and a line for each fact."""
    width = max(len(name) for facts in found.values() for name in facts) + 2
    blocks = []
    for section, facts in found.items():
        lines = [f"  {name:{width}}{_text(value)}".rstrip() for name, value in facts.items()]
        blocks.append("\n".join([section, *(lines or ["  nothing set"])]))
    return "\n\n".join(blocks)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(value) or "none"
    return f"{value:,}" if isinstance(value, int) else str(value)
