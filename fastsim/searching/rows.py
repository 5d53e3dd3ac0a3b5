"""The rows of a search, one for each configuration and workload, and what they are worth."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fastsim.errors import DoesNotFitError
from fastsim.searching.space import Candidate
from fastsim.searching.tasks import DOES_NOT_FIT, OK, REFUSED, Outcome

if TYPE_CHECKING:
    from fastsim.config import SimulationConfig
    from traces import Workload

#: What became of a row that a strategy gave up: its capacity is that of a shorter run.
DROPPED = "dropped"


@dataclass(frozen=True)
class Row:
    """A configuration under a workload.

    Attributes:
        candidate: the configuration.
        workload: name of the workload.
        gpus: of the whole deployment; 0 where there is no configuration.
        price_per_hour: of the whole deployment [US dollars]; 0 where it is not known.
        status: ``"ok"``, ``"dropped"``, ``"does_not_fit"``, ``"refused"`` or ``"failed"``; ``""`` before it was run.
        reason: why not ok, or why its capacity is 0; else ``""``.
        outcome: of its longest run; None where it had none.
    """

    candidate: Candidate
    workload: str
    gpus: int
    price_per_hour: float
    status: str = ""
    reason: str = ""
    outcome: Outcome | None = None

    @property
    def case(self) -> tuple[str, str]:
        """Workload and model: configurations are compared where both are the same."""
        return self.workload, "" if self.candidate.config is None else self.candidate.config.model

    @property
    def interval(self) -> tuple[float, float]:
        """Between which capacity lies [requests/s], the end infinite where all rates hold; 0 twice without one."""
        if self._capacity is None:
            return 0.0, 0.0
        low, high = self._capacity["bracket"]
        return float(low), math.inf if high is None else float(high)

    @property
    def qps(self) -> float:
        """Capacity [requests/s]; 0 where there is none."""
        return 0.0 if self._capacity is None else float(self._capacity["qps"])

    @property
    def _capacity(self) -> Mapping[str, Any] | None:
        return None if self.outcome is None else self.outcome.capacity

    def per_dollar(self, qps: float) -> float | None:
        """Requests per US dollar at a rate [requests/s]; None where GPUs cost nothing."""
        return qps * 3600 / self.price_per_hour if self.price_per_hour > 0 else None

    @property
    def worth(self) -> tuple[float, float]:
        """What strategies and `best` compare: requests per dollar, then capacity."""
        return self.per_dollar(self.qps) or 0.0, self.qps

    def ties_with(self, better: "Row") -> bool:
        """Whether its requests per dollar, or where GPUs cost nothing its capacity, may be those of a better row."""
        most, least = self.interval[1], better.interval[0]
        if self.price_per_hour > 0 and better.price_per_hour > 0:
            return most / self.price_per_hour >= least / better.price_per_hour
        return most >= least

    def ended(self, outcome: Outcome) -> "Row":
        """The row with the outcome of its run."""
        reason = outcome.reason
        if outcome.capacity is not None and outcome.capacity["qps"] == 0:
            reason = str(outcome.capacity["why"])
        return replace(self, outcome=outcome, status=outcome.status, reason=reason)

    def dropped(self, why: str) -> "Row":
        """The row, given up by a strategy; one that was refused or failed stays what it is."""
        return replace(self, status=DROPPED, reason=why) if self.status == OK else self


def rows_of(candidates: Sequence[Candidate], workloads: "Mapping[str, Workload]") -> list[Row]:
    """A row for each candidate and workload; those that can never run are told apart before anything does."""
    from fastsim.machine import check_requests, load_machine

    rows = []
    for candidate in candidates:
        config, pool, gpus, price = candidate.config, None, 0, 0.0
        status, reason = candidate.status, candidate.reason
        if config is not None:
            gpus, price = gpus_of(config), _price_per_hour(config)
            try:
                pool = load_machine(config)[2]
            except ValueError as error:
                status, reason = _told(error)
        for name, workload in workloads.items():
            of_pair = status, reason
            if config is not None and pool is not None:
                try:
                    check_requests(config, workload, pool)
                except ValueError as error:
                    of_pair = _told(error)
            rows.append(Row(candidate, name, gpus, price, *of_pair))
    return rows


def gpus_of(config: "SimulationConfig") -> int:
    """GPUs of the whole deployment."""
    return math.prod((config.replicas, config.data_parallel, config.tensor_parallel, config.pipeline_parallel))


def _price_per_hour(config: "SimulationConfig") -> float:
    """Of the whole deployment [US dollars]; 0 where the device is not known."""
    from estimators import load_device
    from fastsim.hardware import price_per_hour

    try:
        return gpus_of(config) * price_per_hour(config, load_device(config.device))
    except ValueError:  # which loading the machine tells about
        return 0.0


def _told(error: ValueError) -> tuple[str, str]:
    """Status and reason of input that was refused; what is no such error is raised again."""
    if not hasattr(error, "mend"):
        raise error
    return DOES_NOT_FIT if isinstance(error, DoesNotFitError) else REFUSED, str(error)


def best_rows(rows: Sequence[Row]) -> dict[tuple[str, str], Row]:
    """By workload and model the row with the most requests per dollar, the first of equals, if any has a capacity."""
    best: dict[tuple[str, str], Row] = {}
    for row in rows:
        if row.status == OK and row.qps > 0 and (row.case not in best or row.worth > best[row.case].worth):
            best[row.case] = row
    return best
