"""The frames of a search: one row for each configuration and workload, and one for each probe."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastsim.searching.rows import Row
from fastsim.searching.tasks import Outcome

if TYPE_CHECKING:
    import polars as pl

#: Columns with what a configuration does at its capacity, and the metric of the probe.
AT_CAPACITY = {
    "ttft_p50_s": "ttft_s.p50",
    "ttft_p90_s": "ttft_s.p90",
    "ttft_p99_s": "ttft_s.p99",
    "tpot_p50_s": "tpot_s.p50",
    "tpot_p90_s": "tpot_s.p90",
    "tpot_p99_s": "tpot_s.p99",
    "e2e_p50_s": "e2e_s.p50",
    "scheduling_delay_p99_s": "scheduling_delay_s.p99",
    "mfu": "mfu",
}
_TEXT, _WHOLE, _NUMBER, _TRUTH = "String", "Int64", "Float64", "Boolean"
#: Columns before and behind the axes of the space, with their types.
BEFORE = {"config_id": _TEXT, "workload": _TEXT}
BEHIND = {
    "gpus": _WHOLE,
    "price_per_hour": _NUMBER,
    "status": _TEXT,
    "reason": _TEXT,
    "capacity_qps": _NUMBER,
    "qps_low": _NUMBER,
    "qps_high": _NUMBER,
    "qps_per_dollar": _NUMBER,
    **dict.fromkeys(AT_CAPACITY, _NUMBER),
    "binding": _TEXT,
    "long_enough": _TRUTH,
    "requests": _WHOLE,
    "probes": _WHOLE,
    "simulated_requests": _WHOLE,
    "wall_s": _NUMBER,
}
_PROBES = {
    "config_id": _TEXT,
    "workload": _TEXT,
    "head": _WHOLE,
    "requests": _WHOLE,
    "qps": _NUMBER,
    "holds": _TRUTH,
    "stopped_early": _TRUTH,
    "binding": _TEXT,
    "wall_s": _NUMBER,
}


def axes_of(frame: "pl.DataFrame") -> list[str]:
    """The axes of the space of a frame: its columns between ``workload`` and ``gpus``."""
    return [name for name in frame.columns if name not in BEFORE and name not in BEHIND]


def frame_of(rows: Sequence[Row], axes: Sequence[str]) -> "pl.DataFrame":
    """One line for each row, in order.

    Rates are in requests/s, times in s, prices in US dollars per hour of the whole deployment; ``qps_per_dollar``
    counts requests per US dollar at capacity, ``requests`` those of the probe there. What a row does not have is null,
    as is ``qps_high`` where every rate holds.
    """
    import polars as pl

    lines = [_line(row) for row in rows]
    columns = {name: pl.Series(name, [line[name] for line in lines], getattr(pl, of)()) for name, of in BEFORE.items()}
    for axis in axes:
        # Whole numbers beside fractions, say, are fractions.
        columns[axis] = pl.Series(axis, [row.candidate.values[axis] for row in rows], strict=False)
    columns |= {name: pl.Series(name, [line[name] for line in lines], getattr(pl, of)()) for name, of in BEHIND.items()}
    return pl.DataFrame(columns)


def _line(row: Row) -> dict[str, Any]:
    line: dict[str, Any] = dict.fromkeys(BEHIND)
    line |= {"config_id": row.candidate.id, "workload": row.workload, "status": row.status, "reason": row.reason}
    if row.candidate.config is not None:
        line |= {"gpus": row.gpus, "price_per_hour": row.price_per_hour}
    if row.outcome is None:
        return line
    line |= {"wall_s": row.outcome.wall_s}
    capacity = row.outcome.capacity
    if capacity is None:
        return line
    low, high = capacity["bracket"]
    line |= {"capacity_qps": row.qps, "qps_low": low, "qps_high": high, "qps_per_dollar": row.per_dollar(row.qps)}
    if row.qps > 0:
        metrics = capacity["at_capacity"]["metrics"]
        line |= {column: metrics.get(metric) for column, metric in AT_CAPACITY.items()}
        line["requests"] = capacity["at_capacity"]["requests"]
    line |= {name: capacity[name] for name in ("binding", "long_enough")}
    return line | {"probes": len(capacity["probes"]), "simulated_requests": simulated_requests(row.outcome)}


def simulated_requests(outcome: Outcome) -> int:
    """Requests of all probes of a run."""
    return 0 if outcome.capacity is None else sum(probe["requests"] for probe in outcome.capacity["probes"])


def probes_of(outcomes: Sequence[Outcome]) -> "pl.DataFrame":
    """One line for each probe of each run, in the order in which it was made; a column for each metric.

    ``head`` counts the requests of a run with the first ones of its workload, null where it had all; ``requests`` those
    that were simulated to their end, fewer where a limit was certain to break.
    """
    import polars as pl

    lines: list[dict[str, Any]] = [
        {"config_id": outcome.config_id, "workload": outcome.workload, "head": outcome.requests}
        | dict(probe)
        | dict(probe["metrics"])
        for outcome in outcomes
        if outcome.capacity is not None
        for probe in outcome.capacity["probes"]
    ]
    metrics = dict.fromkeys(name for line in lines for name in line["metrics"])
    types = _PROBES | dict.fromkeys(metrics, _NUMBER)
    return pl.DataFrame(
        {name: pl.Series(name, [line.get(name) for line in lines], getattr(pl, of)()) for name, of in types.items()}
    )
