"""``fastsim warmup``: compile now what first runs would wait for."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from fastsim.commands.parsing import Parser, flag
from fastsim.progress import SpokenLine

_EPILOG = """A run compiles only what it needs, once per machine and version; this compiles what any usual run needs.
Functions of your own are compiled by each process that uses them."""


@dataclass
class WarmupCommand:
    """Flags of ``fastsim warmup``."""

    json: bool = flag(False, "print one JSON object, and nothing else")


class _KernelLine(SpokenLine):
    """Says how many kernels are done."""

    def __init__(self, count: int) -> None:
        super().__init__(f"compiling {count} kernels")
        self.count = count
        self.done_names: list[str] = []

    def tell(self, wall_s: float) -> str:
        """How many, and the last one."""
        if not self.done_names:
            return ""
        return f"{len(self.done_names)} of {self.count} kernels in {wall_s:.0f} s, {self.done_names[-1]}"


def main(words: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    what = "Compile the event loop and the policies of the usual configurations, which first runs would wait for."
    command: WarmupCommand = Parser(WarmupCommand, "warmup", what, _EPILOG).parse_args(list(words))

    from fastsim.warmup import compile_usual, usual_kernels

    kernels, compiled = usual_kernels(), 0
    with _KernelLine(len(kernels)) as line:
        for name, count in compile_usual(kernels):
            line.done_names.append(name)
            compiled += count > 0
    from fastsim.kernel.jit import cache_directory

    where = str(cache_directory())
    if command.json:
        print(json.dumps({"kernels": len(kernels), "compiled": compiled, "directory": where}))
    elif compiled:
        print(f"{compiled} of {len(kernels)} kernels compiled; all are in {where}")
    else:
        print(f"all {len(kernels)} kernels are compiled already, in {where}")
    return 0
