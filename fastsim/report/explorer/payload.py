"""What the script of the page reads: the configurations that serve, with the rates at which each was tried."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fastsim.report.explorer.measures import OF_RATE, Measure, cases, knobs, probe_column, simulated
from fastsim.report.explorer.searches import Search
from fastsim.searching.cases import knobs_in_words, short_name
from fastsim.searching.tasks import OK

if TYPE_CHECKING:
    import polars as pl

_DIGITS = 6
#: More requests than any head has.
_ALL = 1 << 62
#: Rates that differ by less are one.
_SAME_RATE = 1e-9
Row = Mapping[str, Any]
#: Of a configuration's id and a workload.
Key = tuple[str, str]


def payload(search: Search) -> dict[str, Any]:
    """Values that JSON can hold, a row for each configuration under each workload that serves at some rate."""
    frame = search.configurations
    found, varied, case_of = simulated(frame), knobs(frame), cases(frame)
    probes = _probes(search.probes, found)
    served = [(number, row) for number, row in enumerate(frame.iter_rows(named=True)) if serves(row)]
    names = list(dict.fromkeys(case_of[number] for number, _ in served))
    rows = []
    for number, row in served:
        place = {"case": names.index(case_of[number]), "axes": [axis.places[number] for axis in varied]}
        tried = probes.get((row["config_id"], row["workload"]), [])
        named = {"id": row["config_id"], "name": knobs_in_words(row, [axis.name for axis in varied])}
        rows.append({**named, **place, **_found(row), "points": _points(row, found, tried)})
    return {
        "cases": names,
        "axes": [{"label": short_name(axis.name), "values": axis.values} for axis in varied],
        "measures": [asdict(measure) for measure in (*OF_RATE, *found)],
        "rows": rows,
    }


def serves(row: Row) -> bool:
    """Whether a configuration holds the objectives at some rate."""
    return row["status"] == OK and (row["capacity_qps"] or 0) > 0


def _found(row: Row) -> dict[str, Any]:
    """What the search found of a configuration at its capacity, but for its measures."""
    rate = row["capacity_qps"]
    return {
        "rate": _rounded(rate),
        "price": _rounded(row["price_per_hour"]),
        "gpus": row.get("gpus"),
        "low": _rounded(row.get("qps_low", rate)),
        "high": _rounded(row.get("qps_high", rate)),  # None where every rate holds
        "binding": row.get("binding") or "",
        "long": row.get("long_enough") is not False,
    }


def _points(row: Row, found: Sequence[Measure], probes: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """The rates that were tried, ascending, the capacity always among them."""
    rate, points = row["capacity_qps"], list(probes)
    if not any(point[1] and math.isclose(point[0], rate, rel_tol=_SAME_RATE) for point in points):
        points.append([rate, 1, "", *(row[measure.column] for measure in found)])
    return [[_rounded(value) for value in point] for point in sorted(points, key=lambda point: point[0])]


def _probes(frame: "pl.DataFrame | None", found: Sequence[Measure]) -> dict[Key, list[list[Any]]]:
    """Of each configuration under each workload [rate, whether it holds, what binds, measures...] of every probe."""
    if frame is None:
        return {}
    if "head" in frame.columns:  # a strategy may have tried shorter runs first: those are other workloads
        import polars as pl

        requests = pl.col("head").fill_null(_ALL)
        frame = frame.filter(requests == requests.max().over("config_id", "workload"))
    columns = [probe_column(measure, frame.columns) for measure in found]
    probes: dict[Key, list[list[Any]]] = {}
    for row in frame.iter_rows(named=True):
        values = [None if column is None else row[column] for column in columns]
        point = [row["qps"], int(row["holds"]), row.get("binding") or "", *values]
        probes.setdefault((row["config_id"], row["workload"]), []).append(point)
    return probes


def _rounded(value: Any) -> Any:
    """A number with so many digits as are shown; None for what is none, such as the latency of an overload."""
    if not isinstance(value, float):
        return value
    return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
