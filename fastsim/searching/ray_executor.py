"""The executor of many machines: tasks on a Ray cluster, with the journal, and the iteration tables, from the driver.

Tables are built here and sent to each machine once. So outcomes are those of threads to the bit, for what forests
predict may differ in its last digits between processors; and workers need no models, devices or caches of their own
beyond what the package has and what a configuration names by its path.
"""

import logging
import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastsim import __version__
from fastsim.errors import ConfigError
from fastsim.searching.shared import SharedTables
from fastsim.searching.tasks import FAILED, Outcome, Tables, Task, run_task

if TYPE_CHECKING:
    from traces import Workload

#: How often a task is begun again, on whichever worker is free, because the one that ran it died.
RETRIES = 3
#: Tasks that are handed to the cluster, for each of its cores: one runs while the next is on its way.
_AHEAD = 2


class _Given:
    """The tables of one task, where `run_task` looks for those of all."""

    def __init__(self, tables: Any) -> None:
        self.tables = tables

    def of(self, *_: Any) -> Any:
        """What was given."""
        return self.tables


class RayExecutor:
    """Runs tasks on the Ray cluster that the driver is connected to, or that Ray finds, else on one that it starts.

    Ray looks for a cluster at the address in ``RAY_ADDRESS``, then for one that was started on this machine.
    """

    def __init__(
        self, workloads: "Mapping[str, Workload]", work: "Callable[[Task, Workload, Tables], Outcome]" = run_task
    ) -> None:
        """Connect, and put the workloads where all workers read them.

        Args:
            workloads: by name.
            work: what a worker does with a task.

        Raises:
            ConfigError: Ray is not installed.
        """
        try:
            import ray
        except ImportError:
            raise ConfigError("executor", "ray", "is not installed", "run pip install 'fastsim-llm[ray]'") from None
        self._started = not ray.is_initialized()
        if self._started:
            ray.init(log_to_driver=False, logging_level=logging.WARNING)
        self.workloads = workloads
        self.tables = SharedTables()
        self._work = work
        self._sent = {name: ray.put(workload) for name, workload in workloads.items()}
        self._sent_tables: dict[int, Any] = {}
        self._on_worker = ray.remote(num_cpus=1, max_retries=RETRIES)(_on_worker)

    def run(self, tasks: Sequence[Task], done: Callable[[Outcome], None]) -> None:
        """Run each task once; see `fastsim.searching.tasks.Executor`. One whose worker died is run again elsewhere."""
        import ray

        named = ((task.config, self._names_blocks(task)) for task in tasks)
        self.tables.build(named, os.cpu_count() or 1)
        waiting = deque(tasks)
        running: dict[Any, Task] = {}
        try:
            while waiting or running:
                most = _AHEAD * max(1, int(ray.cluster_resources().get("CPU", 0)))  # a cluster may grow and shrink
                while waiting and len(running) < most:
                    task = waiting.popleft()
                    if (reference := self._send(task)) is None:
                        done(self._work(task, self.workloads[task.workload_name], self.tables))
                    else:
                        running[reference] = task
                if running:
                    for reference in ray.wait(list(running))[0]:
                        done(self._outcome(running.pop(reference), reference))
        finally:  # nothing, unless the user interrupts or `done` raises
            for reference in running:
                ray.cancel(reference)

    def close(self) -> None:
        """Let go of workloads and tables, and of the cluster if it was started here."""
        import ray

        self._sent.clear()
        self._sent_tables.clear()
        if self._started:
            ray.shutdown()

    def _names_blocks(self, task: Task) -> bool:
        return self.workloads[task.workload_name].block_tokens > 0

    def _send(self, task: Task) -> Any:
        """Hand a task to the cluster; None for one that has no tables: why not is found out here."""
        import ray

        try:
            tables = self.tables.of(task.config, self._names_blocks(task))
        except Exception:
            return None
        if id(tables) not in self._sent_tables:  # self.tables keeps them
            self._sent_tables[id(tables)] = ray.put(tables)
        sent = self._sent[task.workload_name], self._sent_tables[id(tables)]
        return self._on_worker.remote(self._work, task, *sent, __version__)

    def _outcome(self, task: Task, reference: Any) -> Outcome:
        """What a worker found, or what became of it."""
        import ray
        from ray.exceptions import RayError

        try:
            outcome: Outcome = ray.get(reference)
        except RayError as error:  # its workers died again and again, or could not begin
            lines = str(error).strip().splitlines() or [""]
            return Outcome(*task.key, FAILED, f"{type(error).__name__}: {lines[-1].strip()}", None, 0.0)
        return outcome


def _on_worker(
    work: "Callable[[Task, Workload, Tables], Outcome]", task: Task, workload: "Workload", tables: Any, version: str
) -> Outcome:
    """Run one task in a worker process."""
    if version != __version__:
        wrong = f"the worker has fastsim {__version__}, and the driver {version}: install one version everywhere"
        return Outcome(*task.key, FAILED, wrong, None, 0.0)
    return work(task, workload, _Given(tables))
