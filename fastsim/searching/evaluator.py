"""What strategies evaluate rows with: executors run what the journal does not hold yet."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from fastsim.searching.rows import Row, rows_of
from fastsim.searching.space import Candidate
from fastsim.searching.tasks import FAILED, Executor, Key, Outcome, Task

if TYPE_CHECKING:
    from fastsim.searching.journal import Journal
    from fastsim.searching.limits import Limit
    from traces import Workload


class Progress(NamedTuple):
    """How far a search is.

    Attributes:
        ended: runs that have ended, those of the journal included.
        resumed: how many of them the journal had.
        expected: how many there will be, as far as the strategy knows.
    """

    ended: int
    resumed: int
    expected: int


class Evaluator:
    """Evaluates rows of a search.

    Attributes:
        workloads: by name.
        outcomes: of all runs so far, in the order in which they were asked for.
        resumed: how many of them the journal had.
    """

    def __init__(
        self,
        workloads: "Mapping[str, Workload]",
        limits: "tuple[Limit, ...]",
        tolerance: float,
        executor: Executor,
        journal: "Journal | None",
        progress: Callable[[Progress], None] | None,
    ) -> None:
        """Take what all runs have in common; a journal of None keeps none."""
        self.workloads = workloads
        self.limits, self.tolerance = limits, tolerance
        self.executor, self.journal, self.progress = executor, journal, progress
        self.outcomes: dict[Key, Outcome] = {}
        self.resumed = self.expected = 0

    def rows(self, candidates: Sequence[Candidate], workload: str | None = None) -> list[Row]:
        """A row for each candidate and workload, or for one workload alone."""
        asked = self.workloads if workload is None else {workload: self.workloads[workload]}
        return rows_of(candidates, asked)

    def expect(self, runs: int) -> None:
        """Say how many runs there will be in all."""
        self.expected = runs
        self._tell()

    def run(self, asked: Sequence[tuple[Row, int | None]]) -> list[Row]:
        """Run rows, each with so many requests of its workload's head, or all.

        Rows that can never run are returned as they are, and those that ran before with the outcome they had.
        """
        tasks = [self._task(row, requests) for row, requests in asked]
        missing: list[Task] = []
        for task in tasks:
            if task is None or task.key in self.outcomes:
                continue
            kept = None if self.journal is None else self.journal.outcomes.get(task.key)
            if kept is None or kept.status == FAILED:
                missing.append(task)
            else:
                self.outcomes[kept.key] = kept
                self.resumed += 1
        self._tell()
        if missing:
            self.executor.run(missing, self._done)
        # In the order asked for, whatever the order in which they ended.
        for task in missing:
            self.outcomes[task.key] = self.outcomes.pop(task.key)
        pairs = zip(asked, tasks, strict=True)
        return [row if task is None else row.ended(self.outcomes[task.key]) for (row, _), task in pairs]

    def _task(self, row: Row, requests: int | None) -> Task | None:
        if row.candidate.config is None or (row.status and row.outcome is None):
            return None
        return Task(row.candidate.config, row.workload, self.limits, self.tolerance, requests)

    def _done(self, outcome: Outcome) -> None:
        if self.journal is not None:
            self.journal.add(outcome)
        self.outcomes[outcome.key] = outcome
        self._tell()

    def _tell(self) -> None:
        if self.progress is not None:
            self.progress(Progress(len(self.outcomes), self.resumed, max(self.expected, len(self.outcomes))))
