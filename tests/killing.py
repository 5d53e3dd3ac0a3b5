"""Kills pieces of fastsim at random moments, the same in every run.

A moment is a number of steps: calls and returns of functions, Python's and C's, as the profiler of Python sees them. A
child process is forked for each kill, so that nothing is loaded anew; this process itself must not start threads, which
would be missing in the children. Run as ``python -m killing MODULE:FUNCTION DIRECTORY``, where the function returns a
`Victim`.
"""

import contextlib
import importlib
import os
import random
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SEED = 20


@dataclass
class Victim:
    """What is killed.

    Attributes:
        work: is killed at some step; or runs to its end.
        check: raises where a kill has left what it may not.
        finish: goes on undisturbed, and raises where the outcome is another than without kills.
        prepare: makes what there is before the work, if anything.
        begin: where steps are counted from: a module and the name of a function in it; None for the first one.
        kills: how many lives there are.
        in_a_row: kills before work may finish.
    """

    work: Callable[[], object]
    check: Callable[[], object]
    finish: Callable[[], object]
    prepare: Callable[[], object] = lambda: None
    begin: tuple[str, str] | None = None
    kills: int = 12
    in_a_row: int = 1


def forked(work: Callable[[], object]) -> int:
    """The exit status of a child that does it, negative where a signal ended it."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class Steps:
    """Counts the steps of this thread, and dies at one."""

    def __init__(self, last: int) -> None:
        self.last, self.count = last, 0

    def __call__(self, frame: object, event: str, argument: object) -> None:
        self.count += 1
        if self.count == self.last:
            os.kill(os.getpid(), signal.SIGKILL)


def doomed(victim: Victim, last: int) -> Steps:
    """Do the work of a victim until a step, where it gets that far; -1 is none."""
    steps = Steps(last)
    if victim.begin is None:
        sys.setprofile(steps)
    else:
        module, name = importlib.import_module(victim.begin[0]), victim.begin[1]
        function = getattr(module, name)

        def begun(*arguments: object, **named: object) -> object:
            sys.setprofile(steps)
            return function(*arguments, **named)

        setattr(module, name, begun)
    victim.work()
    sys.setprofile(None)
    return steps


def count(victim: Victim) -> int:
    """How many steps the work has that nobody disturbs."""
    read, write = os.pipe()
    assert forked(victim.prepare) == 0
    assert forked(lambda: os.write(write, str(doomed(victim, -1).count).encode())) == 0
    os.close(write)
    return int(os.read(read, 100))


def load_what_it_needs(victim: Victim) -> None:
    """Import here, once, what the work imports in a child."""
    read, write = os.pipe()

    def tell() -> None:
        victim.prepare()
        victim.work()
        victim.finish()
        with os.fdopen(write, "w") as file:
            file.write("\n".join(sys.modules))

    child = os.fork()
    if child == 0:
        os.close(read)
        os._exit(forked(tell))
    os.close(write)
    with os.fdopen(read) as file:
        names = file.read().splitlines()
    assert os.waitpid(child, 0)[1] == 0
    for name in names:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    assert threading.active_count() == 1


def moment(draw: random.Random, steps: int) -> int:
    """A step: half of them anywhere, half as likely between 10 and 100 as between 100 and 1000."""
    return draw.randint(1, steps) if draw.random() < 0.5 else int(steps ** draw.random())


def main(name: str, directory: str) -> None:
    """Kill the victim that a function makes, so many times; the first failure of a check ends it."""
    module, function = name.split(":")
    make: Callable[[Path], Victim] = getattr(importlib.import_module(module), function)
    draw, killed, life = random.Random(SEED), 0, 0
    load_what_it_needs(make(Path(directory) / "first"))
    steps = count(make(Path(directory) / "undisturbed"))
    while killed < make(Path(directory)).kills:
        victim = make(Path(directory) / str(life))
        assert forked(victim.prepare) == 0
        for _ in range(victim.in_a_row):
            last = moment(draw, steps)
            status = forked(lambda victim=victim, last=last: doomed(victim, last))
            if status not in (0, -signal.SIGKILL) or forked(victim.check) != 0:
                sys.exit(f"life {life} went wrong at step {last} of {steps}: status {status}")
            killed += status == -signal.SIGKILL
        if forked(victim.finish) != 0:
            sys.exit(f"life {life} went wrong after the kills")
        life += 1
    print(killed, steps)


if __name__ == "__main__":
    main(*sys.argv[1:])
