"""The search itself: from a space and workloads to a frame of every configuration."""

import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastsim import __version__
from fastsim.errors import ConfigError
from fastsim.options import integer, number, word
from fastsim.searching.evaluator import Evaluator, Progress
from fastsim.searching.frames import frame_of, probes_of, simulated_requests
from fastsim.searching.journal import Journal, header_of
from fastsim.searching.rows import Row, best_rows
from fastsim.searching.space import Space
from fastsim.searching.strategies import STRATEGIES
from fastsim.searching.tasks import Executor

if TYPE_CHECKING:
    import polars as pl

    from traces import Workload

EXECUTORS = ("threads", "ray")
#: Name of a workload that was given without one.
ALONE = "workload"
#: What `search` takes for an executor: its name, or who makes one of the workloads.
AnyExecutor = str | Callable[["Mapping[str, Workload]"], Executor]


@dataclass(frozen=True)
class SearchResult:
    """One search.

    Attributes:
        frame: one row for each configuration and workload, see `fastsim.searching.frames.frame_of`.
        probes: one row for each simulation, see `fastsim.searching.frames.probes_of`.
        record: what was searched, the best under each workload, what `fastsim.searching.findings.describe` says of
            the frame, and what it took; JSON-able.
    """

    frame: "pl.DataFrame"
    probes: "pl.DataFrame"
    record: dict[str, Any]

    def write(self, directory: Path) -> None:
        """Write ``configurations.parquet``, ``probes.parquet`` and ``search.json``, each whole or not at all.

        Where ``search.json`` is, all are of this search.
        """
        from estimators.files import replace_files

        text = json.dumps(self.record, indent=2) + "\n"
        replace_files(
            {
                directory / "configurations.parquet": self.frame.write_parquet,
                directory / "probes.parquet": self.probes.write_parquet,
                directory / "search.json": lambda file: file.write(text.encode()),
            }
        )


def search(
    space: "Mapping[str, Any] | Space",
    workload: "Workload | Mapping[str, Workload]",
    slo: Mapping[str, Any] | None = None,
    *,
    executor: AnyExecutor = "threads",
    strategy: str = "exhaustive",
    threads: int | None = None,
    tolerance: float = 0.02,
    directory: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: Callable[[Progress], None] | None = None,
    seed: int = 0,
    trials: int | None = None,
) -> "pl.DataFrame":
    """Find the capacity of every configuration of a space, and what it serves per dollar.

    Args:
        space: by field of `fastsim.SimulationConfig` a value or a list of values, see
            `fastsim.searching.space.Space.read`.
        workload: what arrives, at any rate; or several by name, each of which is searched.
        slo: what must hold at capacity, as `fastsim.capacity` takes it; None for a 99th percentile of the scheduling
            delay of at most 5 s.
        executor: ``"threads"``, or ``"ray"`` for a Ray cluster (extra ``ray``).
        strategy: ``"exhaustive"``; ``"halving"``, which gives all short runs and the best ones longer runs; or
            ``"tpe"``, which runs what optuna proposes (extra ``optuna``).
        threads: how many configurations at a time; None for one per core. Results do not depend on it.
        tolerance: of the capacities, relative.
        directory: where to keep a journal, and at the end the results; None for nowhere.
        resume: go on with the journal that is there.
        progress: called with how far the search is, on this thread.
        seed: of what a strategy draws.
        trials: of ``"tpe"``, how many configurations of each model are run under each workload.

    Returns:
        One row for each configuration and workload, in the order of the space: with ``status`` ``"ok"`` and its
        capacity, or ``"does_not_fit"``, ``"refused"``, ``"failed"`` or ``"dropped"`` and the ``reason``. The columns
        are those of `fastsim.searching.frames.frame_of`. The same arguments give the same frame, but for ``wall_s``.

    Raises:
        ConfigError: the space, the limits or another argument is wrong, or the journal is of another search.
        KeyboardInterrupt: the user's; the journal has what has ended until then.
    """
    return run_search(
        space,
        workload,
        slo,
        executor=executor,
        strategy=strategy,
        threads=threads,
        tolerance=tolerance,
        directory=directory,
        resume=resume,
        progress=progress,
        seed=seed,
        trials=trials,
    ).frame


def run_search(
    space: "Mapping[str, Any] | Space",
    workload: "Workload | Mapping[str, Workload]",
    slo: Mapping[str, Any] | None = None,
    *,
    executor: AnyExecutor = "threads",
    strategy: str = "exhaustive",
    threads: int | None = None,
    tolerance: float = 0.02,
    directory: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: Callable[[Progress], None] | None = None,
    seed: int = 0,
    trials: int | None = None,
) -> SearchResult:
    """What `search` does; returns all that there is to tell."""
    from fastsim.searching.capacity import check_tolerance
    from fastsim.searching.findings import describe
    from fastsim.searching.limits import read_limits

    started = time.perf_counter()
    space, workloads, limits = Space.read(space), _named(workload), read_limits(slo)
    word("strategy", strategy, tuple(STRATEGIES))
    tolerance, seed = check_tolerance(number("tolerance", tolerance)), integer("seed", seed)
    for name, value in (("threads", threads), ("trials", trials)):
        if value is not None and integer(name, value) < 1:
            raise ConfigError(name, value, "run nothing", "give 1 or more, or leave it out")
    if resume and directory is None:
        raise ConfigError("resume", True, "has no journal to go on with", "give the directory")
    if trials is not None and strategy != "tpe":
        raise ConfigError("trials", trials, f"means nothing to strategy {strategy}", "leave it out, or choose tpe")
    target = None if directory is None else Path(directory)
    with ExitStack() as stack:
        journal = None
        if target is not None:
            header = header_of(space, workloads, limits, tolerance, seed)
            journal = stack.enter_context(Journal(target, header, resume))
        running = _executor(executor, workloads, threads)
        stack.callback(running.close)
        evaluator = Evaluator(workloads, limits, tolerance, running, journal, progress)
        rows = STRATEGIES[strategy](space, evaluator, seed, trials)
    counts = _counts(space, rows, evaluator)
    told = {"strategy": strategy, "tolerance": tolerance, "seed": seed, "counts": counts}
    frame = frame_of(rows, space.axes)
    record = {
        "version": __version__,
        "space": asdict(space),
        "axes": list(space.axes),
        "workloads": {name: _described(one) for name, one in workloads.items()},
        "slo": [asdict(limit) for limit in limits],
        **told,
        "best": _best(rows),
        "findings": describe(frame, limits, weights={name: len(one) for name, one in workloads.items()}),
        "wall_s": time.perf_counter() - started,
    }
    plain = json.loads(json.dumps(record))  # what search.json says, to the letter
    result = SearchResult(frame, probes_of(list(evaluator.outcomes.values())), plain)
    if target is not None:
        result.write(target)
    return result


def _named(given: "Workload | Mapping[str, Workload]") -> "dict[str, Workload]":
    """Workloads by name."""
    from traces import Workload

    named = dict(given) if isinstance(given, Mapping) else {ALONE: given}
    if not named:
        raise ConfigError("workload", None, "is none", "give one, or several by name")
    for name, workload in named.items():
        if not isinstance(workload, Workload) or not isinstance(name, str):
            raise ConfigError("workload", name, "is not the name of a workload", "give {'chat': Workload...}, say")
    return named


def _executor(given: AnyExecutor, workloads: "Mapping[str, Workload]", threads: int | None) -> Executor:
    if not isinstance(given, str):
        return given(workloads)
    if word("executor", given, EXECUTORS) == "ray":
        from fastsim.searching.ray_executor import RayExecutor

        made: Executor = RayExecutor(workloads)
        return made
    from fastsim.searching.threads import ThreadsExecutor

    return ThreadsExecutor(workloads, threads)


def _described(workload: "Workload") -> dict[str, Any]:
    return {"hash": workload.hash, "requests": len(workload), "source": dict(workload.provenance)}


def _counts(space: Space, rows: list[Row], evaluator: Evaluator) -> dict[str, int]:
    """What a search took."""
    outcomes = evaluator.outcomes.values()
    return {
        "combinations": space.size,
        "configurations": len({row.candidate.id for row in rows}),
        "rows": len(rows),
        "never_run": sum(row.outcome is None for row in rows),
        "runs": len(outcomes),
        "resumed": evaluator.resumed,
        "probes": sum(len(one.capacity["probes"]) for one in outcomes if one.capacity is not None),
        "simulated_requests": sum(map(simulated_requests, outcomes)),
    }


def _best(rows: list[Row]) -> dict[str, dict[str, Any]]:
    """The best under each workload and of each model, with all that its configuration says."""
    found: dict[str, dict[str, Any]] = {}
    for (workload, model), row in best_rows(rows).items():
        if row.candidate.config is not None:
            found.setdefault(workload, {})[model] = {
                "config_id": row.candidate.id,
                "capacity_qps": row.qps,
                "qps_per_dollar": row.per_dollar(row.qps),
                "config": row.candidate.config.to_dict(),
            }
    return found
