"""Running scenarios on threads, and what comes of it."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastsim.suite.columns import COLUMNS
from fastsim.suite.scenarios import LOAD, SLO, SUITE_VERSION, Scenario, all_scenarios

if TYPE_CHECKING:
    from traces import Workload

Row = Mapping[str, Any]


@dataclass(frozen=True)
class SuiteResult:
    """What some scenarios came to.

    Attributes:
        requests: of each run.
        seed: of all workloads.
        rows: one for each scenario: what it is, the numbers of `COLUMNS`, and hashes of what it was computed from.
        versions: of the packages that matter.
        threads: on which it ran.
        wall_s: how long it took, tables included [s].
    """

    requests: int
    seed: int
    rows: Sequence[Row]
    versions: Mapping[str, str]
    threads: int
    wall_s: float

    @property
    def hash(self) -> str:
        """SHA-256 of the suite's version, the seed, the number of requests and all numbers, to the last bit."""
        names = ("scenario", "qps", *(column.name for column in COLUMNS), "piles_up")
        told = [SUITE_VERSION, self.seed, self.requests, [[row[name] for name in names] for row in self.rows]]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()

    def document(self) -> dict[str, Any]:
        """All of it, JSON-able."""
        return {
            "suite": {
                "version": SUITE_VERSION,
                "scenarios": len(self.rows),
                "of": len(all_scenarios()),
                "requests": self.requests,
                "seed": self.seed,
                "load": LOAD,
                "slo": dict(SLO),
            },
            "hash": self.hash,
            "versions": dict(self.versions),
            "simulation": {"threads": self.threads, "wall_s": self.wall_s},
            "rows": [dict(row) for row in self.rows],
        }


def compile_kernels(scenarios: Sequence[Scenario]) -> None:
    """Compile what the scenarios need, or load it: one thread does so, for others would wait for it."""
    from fastsim.preparing import compile_kernel

    alike = {scenario.scheduler: scenario for scenario in scenarios}
    for scenario in alike.values():
        compile_kernel(scenario.config(0), _arriving(scenario, 1, 0))


def run_suite(
    scenarios: Sequence[Scenario],
    requests: int,
    seed: int = 0,
    threads: int | None = None,
    when_done: Callable[[Scenario], object] = lambda scenario: None,
) -> SuiteResult:
    """Run scenarios; the numbers do not depend on how many threads do.

    Args:
        scenarios: from `all_scenarios`.
        requests: of each run.
        seed: of the workloads.
        threads: how many at a time; None for one per core.
        when_done: called with each scenario that is, from the thread that ran it.
    """
    started = time.perf_counter()
    count = threads or os.cpu_count() or 1
    groups: dict[Any, list[Scenario]] = {}
    for scenario in scenarios:
        # Those with the same tables.
        key = scenario.deployment.name, scenario.deployment.device, scenario.scheduler
        groups.setdefault(key, []).append(scenario)
    versions: dict[str, str] = {}
    found: dict[str, Row] = {}

    def run(group: Sequence[Scenario]) -> None:
        from fastsim.machine import tables_for

        tables = tables_for(group[0].config(seed))
        for scenario in group:
            found[scenario.name], its_versions = _run(scenario, requests, seed, tables)
            versions.update(its_versions)
            when_done(scenario)

    pool = ThreadPoolExecutor(count)
    try:
        for _ in pool.map(run, groups.values()):
            pass
    finally:
        # Nobody who interrupts wants to wait for what has not begun.
        pool.shutdown(cancel_futures=True)
    rows = [found[scenario.name] for scenario in scenarios]
    return SuiteResult(requests, seed, rows, versions, count, time.perf_counter() - started)


def _arriving(scenario: Scenario, requests: int, seed: int, offline: bool = False) -> "Workload":
    """The workload of a scenario; the same requests at other times where all are there at the start."""
    from traces.generators import generate
    from traces.named import find, named_workload

    if offline:
        parameters = find(scenario.workload).parameters() | {"arrivals": "static", "arrival_options": {}}
        return generate(num_requests=requests, seed=seed, **parameters)
    return named_workload(scenario.workload, num_requests=requests, qps=scenario.qps, seed=seed)


def _run(scenario: Scenario, requests: int, seed: int, tables: Any) -> tuple[Row, Mapping[str, str]]:
    """The row of a scenario, and the versions of the packages."""
    from fastsim.simulation import simulate_quietly
    from fastsim.windows import describe_load

    config = scenario.config(seed)
    numbers: dict[str, float | None] = {}
    notes: list[str] = []
    for offline in (False, True):
        result, warned = simulate_quietly(config, _arriving(scenario, requests, seed, offline), tables)
        numbers |= {column.name: column.of(result.summary) for column in COLUMNS if column.offline == offline}
        notes += [str(warning) for warning in warned]
        if not offline:
            piles_up = describe_load(config, result.state.requests)["growing"]
            workload_hash = result.summary["hashes"]["workload"]
    what = {
        "scenario": scenario.name,
        "workload": scenario.workload,
        "model": scenario.deployment.model,
        "deployment": scenario.deployment.name,
        "device": scenario.deployment.device,
        "gpus": scenario.deployment.tensor_parallel,
        "scheduler": scenario.scheduler,
        "qps": scenario.qps,
    }
    kept = {"tables": result.summary["hashes"]["tables"], "workload_hash": workload_hash}
    row = what | numbers | {"piles_up": piles_up, "notes": list(dict.fromkeys(notes))} | kept
    return row, result.summary["versions"]
