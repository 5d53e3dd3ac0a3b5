"""One piece of a search, and who runs many of them: what executors take and give back, on any machine.

An executor is made of the workloads by name, which are sent to workers once, and runs batches of tasks, in any order
and anywhere: `run_task` does one. The driver keeps the journal, so that workers need no disk.
"""

import functools
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol

from fastsim.config import SimulationConfig

if TYPE_CHECKING:
    from fastsim.searching.limits import Limit
    from traces import Workload

#: What became of a task: it has a capacity (which may be 0), its input was refused, or fastsim itself failed.
OK, REFUSED, FAILED = "ok", "refused", "failed"
#: What became of a configuration before any task of it ran.
DOES_NOT_FIT = "does_not_fit"
#: Characters of a configuration's id.
_ID_LENGTH = 12
#: Of a task within a search: configuration, workload, and requests of the workload's head or None for all.
Key = tuple[str, str, int | None]


def config_id(config: SimulationConfig) -> str:
    """Short hash of all that a configuration says, the same however it was written and wherever it stands."""
    return table_id(config.to_dict())


def table_id(table: Mapping[str, Any]) -> str:
    """The same of what `SimulationConfig.to_dict` gives."""
    text = json.dumps(table, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_ID_LENGTH]


@dataclass(frozen=True)
class Task:
    """The capacity of one configuration under one workload; picklable.

    Attributes:
        config: what serves.
        workload_name: what arrives, by its name among the workloads of the search.
        limits: what must hold.
        tolerance: of the capacity, relative.
        requests: so many requests of the workload's head; None for all.
    """

    config: SimulationConfig
    workload_name: str
    limits: "tuple[Limit, ...]"
    tolerance: float
    requests: int | None = None

    @functools.cached_property
    def config_id(self) -> str:
        """The configuration's id."""
        return config_id(self.config)

    @property
    def key(self) -> Key:
        """What tells this task from all others of its search."""
        return self.config_id, self.workload_name, self.requests


@dataclass(frozen=True)
class Outcome:
    """What became of a task; picklable, and JSON-able by `as_dict`.

    Attributes:
        config_id: the configuration's id.
        workload: name of the workload.
        requests: as the task's.
        status: ``"ok"``, ``"refused"`` or ``"failed"``.
        reason: why not ok, one sentence; ``""`` where it is.
        capacity: what `fastsim.searching.capacity.Capacity.as_dict` gives; None where not ok.
        wall_s: that the task took [s].
    """

    config_id: str
    workload: str
    requests: int | None
    status: str
    reason: str
    capacity: Mapping[str, Any] | None
    wall_s: float

    @property
    def key(self) -> Key:
        """The task's key."""
        return self.config_id, self.workload, self.requests

    def as_dict(self) -> dict[str, Any]:
        """All fields, as JSON takes them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Outcome":
        """The inverse of `as_dict`.

        Raises:
            TypeError, KeyError: the values are others than `as_dict` gives.
        """
        found = cls(**values)
        texts = (found.config_id, found.workload, found.status, found.reason)
        if not all(isinstance(text, str) for text in texts) or found.status not in (OK, REFUSED, FAILED):
            raise TypeError
        if (found.capacity is None) == (found.status == OK) or not isinstance(found.requests, int | None):
            raise TypeError
        if found.capacity is not None:
            _check_capacity(found.capacity)
        return found


def _check_capacity(told: Mapping[str, Any]) -> None:
    """Raise TypeError or KeyError where a table is not what `fastsim.searching.capacity.Capacity.as_dict` gives."""
    from fastsim.searching.capacity import Capacity
    from fastsim.searching.probes import Probe

    if set(told) != {spec.name for spec in fields(Capacity)} or len(told["bracket"]) != 2:
        raise TypeError
    known = {spec.name for spec in fields(Probe)}
    if any(set(probe) != known for probe in (*told["probes"], told["at_capacity"])):
        raise TypeError
    numbers = [told["qps"], told["tolerance"], *(end for end in told["bracket"] if end is not None)]
    for probe in (*told["probes"], told["at_capacity"]):
        numbers += [probe["qps"], probe["requests"], probe["wall_s"], *probe["metrics"].values()]
    if not all(isinstance(number, int | float) for number in numbers):
        raise TypeError


class Executor(Protocol):
    """Who runs tasks. Made once for a search, which may run several batches one after the other."""

    def run(self, tasks: Sequence[Task], done: Callable[[Outcome], None]) -> None:
        """Run each task once, in any order; returns when all have ended.

        Args:
            tasks: what to run; no two of the same key.
            done: called with each outcome as it comes, on the thread that called `run`. What it raises ends the run.

        Raises:
            KeyboardInterrupt: the user's; tasks that have not begun are dropped.
        """
        ...

    def close(self) -> None:
        """Let go of workers and workloads."""
        ...


class Tables(Protocol):
    """Where a task finds its iteration tables."""

    def of(self, config: SimulationConfig, names_blocks: bool) -> Any:
        """What `fastsim.searching.shared.roomy_tables` gives, and raises."""
        ...


def run_task(task: Task, workload: "Workload", tables: Tables) -> Outcome:
    """Run one task, where this is called; nothing that goes wrong with it is raised.

    Args:
        task: what to run.
        workload: the whole workload of that name.
        tables: of all tasks of this process.
    """
    from fastsim.searching.capacity import capacity

    started, found, status, reason = time.perf_counter(), None, OK, ""
    try:
        given = tables.of(task.config, workload.block_tokens > 0)
        found = capacity(
            task.config,
            workload,
            slo_of(task.limits),
            tables=given,
            tolerance=task.tolerance,
            max_requests=task.requests,
        ).as_dict()
    except Exception as error:  # one configuration is not to end a search of thousands
        if isinstance(error, ValueError) and hasattr(error, "mend"):
            status, reason = REFUSED, str(error)
        else:
            status, reason = FAILED, f"{type(error).__name__}: {error}"
    return Outcome(*task.key, status, reason, found, time.perf_counter() - started)


def slo_of(limits: "Sequence[Limit]") -> dict[str, Any]:
    """Limits as `fastsim.searching.limits.read_limits` reads them."""
    slo: dict[str, Any] = {}
    for limit in limits:
        if limit.quantile:
            slo.setdefault(limit.metric, {})[limit.quantile] = limit.limit
        else:
            slo[limit.metric] = limit.limit
    return slo
