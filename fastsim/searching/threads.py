"""The executor of one machine: threads that share tables, workloads and the compiled event loop."""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING

from fastsim.searching.shared import SharedTables
from fastsim.searching.tasks import Outcome, Task, run_task

if TYPE_CHECKING:
    from traces import Workload


class ThreadsExecutor:
    """Runs tasks on threads; the event loop holds no lock, and outcomes do not depend on the number of threads."""

    def __init__(self, workloads: "Mapping[str, Workload]", threads: int | None = None) -> None:
        """Take the workloads by name; threads of None are one for each core."""
        self.workloads = workloads
        self.threads = threads or os.cpu_count() or 1
        self.tables = SharedTables()

    def run(self, tasks: Sequence[Task], done: Callable[[Outcome], None]) -> None:
        """Run each task once; see `fastsim.searching.tasks.Executor`."""
        self.tables.build(
            ((task.config, self.workloads[task.workload_name].block_tokens > 0) for task in tasks), self.threads
        )
        pool = ThreadPoolExecutor(self.threads)
        try:
            running = [pool.submit(run_task, task, self.workloads[task.workload_name], self.tables) for task in tasks]
            for future in as_completed(running):
                done(future.result())
        finally:  # also where the user interrupts: what has not begun is dropped, what has begun comes to its end
            pool.shutdown(cancel_futures=True)

    def close(self) -> None:
        """Nothing is held."""
