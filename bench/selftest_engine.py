"""The loop of the self-test's engine: requests that arrive by a clock, served batch by batch.

The clock is the wall's, or a virtual one that a runner of iteration tables moves: then the engine's times equal
fastsim's to the last bit, which is what shows that the two follow the same rules.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol

from selftest_clock import Clock, VirtualClock, WallClock
from selftest_scheduler import Batch, Limits, Request, Scheduler

from estimators import IterationTables
from estimators.host_times import AFTER, BEFORE
from estimators.profiler.host import HOST_TIMES

#: Columns of an iteration's times, seconds; "device" is that of the model, all others are the CPU's.
COLUMNS = (*BEFORE, "device", *AFTER)
#: Prompt tokens of the requests that `Engine.host_times` decodes.
_HOST_PROMPT = 16
_BETWEEN_YARDSTICKS = 20  # iterations


class Runner(Protocol):
    """Runs the model over a batch, in steps that take the CPU's time apart."""

    def prepare(self, batch: Batch) -> Any:
        """Make the tensors that the model reads."""
        ...

    def launch(self, inputs: Any) -> Any:
        """Begin to compute the next tokens of the members that yield one."""
        ...

    def wait(self) -> None:
        """Return when it has been computed."""
        ...

    def fetch(self, result: Any) -> list[int]:
        """The tokens."""
        ...

    @property
    def launches_compute(self) -> bool:
        """Whether launching computes, as on a CPU: then its time is the model's."""
        ...


class TableRunner:
    """A runner of virtual time: a batch takes what iteration tables say, and every token is 0."""

    launches_compute = True

    def __init__(self, tables: IterationTables, clock: VirtualClock) -> None:
        self._tables, self._clock = tables, clock

    def prepare(self, batch: Batch) -> Batch:
        """Nothing to prepare."""
        return batch

    def launch(self, inputs: Batch) -> Batch:
        """Move the clock."""
        chunks = [(member.history, member.tokens) for member in inputs.chunks]
        self._clock.now_s += self._tables.iteration_time_s(
            inputs.num_tokens, len(inputs.members), len(inputs.decodes), inputs.kv, chunks
        )
        return inputs

    def wait(self) -> None:
        """Nothing runs."""

    def fetch(self, result: Batch) -> list[int]:
        """A token for each member that yields one."""
        return [0] * sum(member.yields for member in result.members)


@dataclass(frozen=True)
class Iteration:
    """What one batch was and took.

    Attributes:
        chunks: (history, tokens) of its chunks, in batch order.
        waiting: requests that were left waiting.
        waited_s: how long threads of the engine have waited for a core since the iteration before, where that is told.
        seconds: by column of ``COLUMNS``.
    """

    start_s: float
    end_s: float
    num_tokens: int
    num_sequences: int
    num_decodes: int
    kv: int
    chunks: tuple[tuple[int, int], ...]
    waiting: int
    waited_s: float
    seconds: dict[str, float]

    @property
    def kind(self) -> str:
        """``"decode"``, ``"prefill"`` or ``"mixed"``."""
        if not self.chunks:
            return "decode"
        return "mixed" if self.num_decodes else "prefill"


@dataclass
class Engine:
    """Serves requests.

    Attributes:
        detokenize: the text of a request's new tokens.
        waited_ns: how long threads of this process have waited for a core so far.
        yardstick: work that is always the same, done now and then while the clock stands still; returns its seconds.
        iterations: what was run, in order.
        yardstick_s: what the yardstick took, in order.
    """

    limits: Limits
    runner: Runner
    clock: Clock = field(default_factory=WallClock)
    detokenize: Callable[[Sequence[int]], str] = lambda tokens: ""
    waited_ns: Callable[[], int] = lambda: 0
    yardstick: Callable[[], float] | None = None
    iterations: list[Iteration] = field(default_factory=list)
    yardstick_s: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._waited_ns = self.waited_ns()
        self.scheduler = Scheduler(self.limits)

    def serve(self, requests: Sequence[Request]) -> None:
        """Serve requests, given in order of arrival, to the end; their times are filled in."""
        arriving, now_s = 0, self.clock.now()
        while True:
            if not (self.scheduler.running or self.scheduler.waiting):
                if arriving == len(requests):
                    if self.yardstick is not None and not self.yardstick_s:
                        self._measure_speed(self.yardstick)
                    return
                self.clock.wait_until(requests[arriving].arrival_s)
                now_s = self.clock.now()
            while arriving < len(requests) and requests[arriving].arrival_s <= now_s:
                self.scheduler.add(requests[arriving])
                arriving += 1
            now_s = self.step(now_s)
            if self.yardstick is not None and len(self.iterations) % _BETWEEN_YARDSTICKS == 0:
                self._measure_speed(self.yardstick)

    def _measure_speed(self, yardstick: Callable[[], float]) -> None:
        before_s = self.clock.now()
        self.yardstick_s.append(yardstick())
        self.clock.stop_for(self.clock.now() - before_s)

    def host_times(self, batch: int, repeats: int) -> dict[str, list[float]]:
        """CPU seconds of some decode steps by column, see `estimators.profiler.host`; the engine must be idle."""
        behind = len(self.iterations)
        now_s = self.clock.now()
        self.serve([Request([0] * _HOST_PROMPT, repeats + 1, now_s) for _ in range(batch)])
        steps = [one for one in self.iterations[behind:] if one.num_decodes == batch == one.num_sequences]
        del self.iterations[behind:]
        return {name: [step.seconds[name] for step in steps] for name in HOST_TIMES}

    def step(self, start_s: float) -> float:
        """Form a batch, run it and deliver its tokens; returns when that was done.

        A batch may be empty, where somebody was preempted for a request that then did not fit: the next one is not.
        The next step starts where this one ended, so that what is done in between is part of its ``schedule``.
        """
        stamps = [start_s]

        def stamp() -> None:
            stamps.append(self.clock.now())

        batch = self.scheduler.schedule()
        stamp()
        if not batch.members:
            return stamps[-1]
        inputs = self.runner.prepare(batch)
        stamp()
        result = self.runner.launch(inputs)
        if not self.runner.launches_compute:
            stamp()
        self.runner.wait()
        stamp()
        if self.runner.launches_compute:
            stamps.insert(-1, stamps[-2])  # the launch took no time of its own
        tokens = self.runner.fetch(result)
        stamp()
        complete = self.scheduler.finish(batch, tokens)
        stamp()
        for member in batch.members:
            if member.yields:
                member.request.text += self.detokenize(member.request.outputs[-1:])
        stamp()
        self._record(batch, complete, stamps)
        return stamps[-1]

    def _record(self, batch: Batch, complete: Sequence[Request], stamps: Sequence[float]) -> None:
        end_s = stamps[-1]
        for member in batch.members:
            if member.yields and len(member.request.outputs) == 1:
                member.request.first_token_s = end_s
        for request in complete:
            request.completed_s = end_s
        waited_ns, self._waited_ns = self._waited_ns, self.waited_ns()
        spans = (after - before for before, after in pairwise(stamps))
        self.iterations.append(
            Iteration(
                stamps[0],
                end_s,
                batch.num_tokens,
                len(batch.members),
                len(batch.decodes),
                batch.kv,
                tuple((member.history, member.tokens) for member in batch.chunks),
                len(self.scheduler.waiting),
                (self._waited_ns - waited_ns) * 1e-9,
                dict(zip(COLUMNS, spans, strict=True)),
            )
        )
