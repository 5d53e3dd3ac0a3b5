"""CPU times of an engine: what an iteration costs beside the model, by the requests in its batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Protocol

from estimators.host_times import AFTER, BEFORE, HOST_COLUMNS

if TYPE_CHECKING:
    import polars as pl

HOST_TIMES = (*BEFORE, *AFTER)
"""Columns of ``estimators.host_times`` that hold seconds."""


class HostProfiled(Protocol):
    """An engine that can tell what its CPU does."""

    def host_times(self, batch: int, repeats: int) -> Mapping[str, Sequence[float]]:
        """CPU times of some decode steps.

        Args:
            batch: requests that decode in each step.
            repeats: steps.

        Returns:
            Seconds of each step by column of ``HOST_TIMES``. What it does not have apart is left out. On a device
            that computes while the CPU waits, ``launch`` is the time to enqueue; where launching computes, as on a CPU,
            it is 0, for the operators' own times hold it.
        """
        ...


def measure_host(engine: HostProfiled, batches: Iterable[int], repeats: int = 32) -> pl.DataFrame:
    """Measure an engine at some batch sizes.

    Args:
        engine: tells its CPU times.
        batches: numbers of requests, all of which it must take.
        repeats: steps at each, after as many that are not counted.

    Returns:
        ``HOST_COLUMNS``: a row per batch size, ascending, with median seconds; null where the engine has none.
    """
    import polars as pl

    rows = []
    for batch in sorted(set(batches)):
        engine.host_times(batch, repeats)
        times = engine.host_times(batch, repeats)
        rows.append({"batch": batch} | {name: median(times[name]) for name in HOST_TIMES if times.get(name)})
    return pl.DataFrame(rows, schema=dict.fromkeys(HOST_COLUMNS, pl.Float64) | {"batch": pl.Int64})
