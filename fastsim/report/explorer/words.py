"""What the page about a search says without its script: the best, what was left out, the space and the search."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fastsim.report.explorer.measures import NO_VALUE, Axis, cases
from fastsim.report.explorer.payload import Row, name_of, serves
from fastsim.report.explorer.searches import Search
from fastsim.report.headlines import table
from fastsim.report.quantities import significant, written
from fastsim.report.settings import flatten
from fastsim.svg import element

_STATUS = {
    "does_not_fit": "Does not fit in memory",
    "dropped": "Given up by the strategy",
    "refused": "Refused",
    "failed": "Failed",
    "ok": "Holds the objectives at no rate",
}
_METRICS = {
    "scheduling_delay_s": "scheduling delay",
    "ttft_s": "TTFT",
    "tpot_s": "TPOT",
    "tbt_s": "TBT",
    "e2e_s": "E2E",
}
#: Parts of search.json that are shown otherwise, or say what the frames say.
_SHOWN_ELSEWHERE = ("space", "axes", "best", "findings", "slo")


def load(search: Search) -> str:
    """How much was searched, in a line."""
    frame = search.configurations
    configurations, workloads = frame["config_id"].n_unique(), frame["workload"].unique(maintain_order=True).to_list()
    under = f"workload {workloads[0]}" if len(workloads) == 1 else f"{len(workloads)} workloads"
    parts = [f"{_counted(configurations, 'configuration')} under {under}"]
    if "probes" in frame.columns:
        parts.append(_counted(int(frame["probes"].sum() or 0), "rate") + " tried")
    if "simulated_requests" in frame.columns:
        parts.append(_counted(int(frame["simulated_requests"].sum() or 0), "request") + " simulated")
    return ", ".join(parts)


def objectives(about: Mapping[str, Any]) -> str:
    """What capacities hold, in a line; empty where the search does not say."""
    limits = about.get("slo") or ()
    told = [
        f"{limit['quantile']} {_METRICS.get(limit['metric'], limit['metric'])} \N{LESS-THAN OR EQUAL TO} "
        f"{written(limit['limit'], 's')}"
        if limit["quantile"]
        else f"{limit['metric']} \N{GREATER-THAN OR EQUAL TO} {written(limit['limit'], 'share')}"
        for limit in limits
    ]
    return f"Objectives: {', '.join(told)}" if told else ""


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def names_of(search: Search, knobs: Sequence[Axis]) -> dict[str, str]:
    """Configurations in words, by their ids."""
    ids = search.configurations["config_id"].to_list()
    return {config: name_of(knobs, number) or config for number, config in enumerate(ids)}


def gain(row: Row, factor: float = 1.0) -> float:
    """Requests per dollar of a configuration at its capacity, times a factor; where it costs nothing, its rate."""
    price = row["price_per_hour"] or 3600.0
    return float(row["capacity_qps"]) * factor * 3600.0 / price


def best_tiles(search: Search, knobs: Sequence[Axis]) -> str:
    """The best configuration of each case, at the search's own objectives."""
    by_case: dict[str, list[tuple[int, Row]]] = {}
    for number, (case, row) in enumerate(
        zip(cases(search.configurations), search.configurations.iter_rows(named=True), strict=True)
    ):
        if serves(row):
            by_case.setdefault(case, []).append((number, row))
    tiles = [_tile(served, knobs, case) for case, served in by_case.items()]
    return element("div", tiles, class_="tiles best") if tiles else ""


def _tile(served: Sequence[tuple[int, Row]], knobs: Sequence[Axis], case: str) -> str:
    number, best = max(served, key=lambda pair: gain(pair[1]))
    least = _bound(best, "qps_low")
    tied = sum(_bound(row, "qps_high") >= least for _, row in served) - 1
    price = best["price_per_hour"]
    said = [
        element("b", f"{significant(gain(best))} requests per dollar" if price else _rate(best)),
        element("span", name_of(knobs, number) or best["config_id"]),
        *([element("small", f"{_rate(best)} at {written(price, '$')} per hour")] if price else []),
        *([element("small", f"{tied} more cannot be told from it")] if tied > 0 else []),
    ]
    return element("dl", [element("dt", f"Best: {case}"), *(element("dd", [one]) for one in said)])


def _rate(row: Row) -> str:
    return written(row["capacity_qps"], "QPS")


def _bound(row: Row, column: str) -> float:
    """One end of the interval of a configuration's gain."""
    bound = row.get(column, row["capacity_qps"])
    return math.inf if bound is None else gain(row, bound / row["capacity_qps"])


def notes(search: Search, rows: Sequence[Row]) -> list[str]:
    """Sentences that a reader must know beside the numbers."""
    found = []
    if not rows:
        found.append("No configuration holds the objectives at any rate, so nothing is drawn.")
    if search.probes is None:
        found.append("There is no probes.parquet, so configurations are known at their capacities only.")
    short = sum(not row["long"] for row in rows)
    if short:
        found.append(
            f"Of {len(rows):,} capacities {short:,} are not sure: the workload is too short to tell whether a queue "
            "builds up."
        )
    return found


def left_out(search: Search, knobs: Sequence[Axis]) -> str:
    """Configurations that do not serve, with the reason, by what became of them."""
    found: dict[str, dict[tuple[str, str], list[str]]] = {}
    for number, row in enumerate(search.configurations.iter_rows(named=True)):
        if not serves(row):
            reason = row["reason"] or row.get("binding") or ""
            same = found.setdefault(row["status"], {})
            same.setdefault((_whole_name(knobs, number, row), reason), []).append(row["workload"])
    parts = []
    for status, rows in found.items():
        cells = [
            [element("th", name, scope="row"), element("td", ", ".join(workloads)), element("td", reason)]
            for (name, reason), workloads in rows.items()
        ]
        title = f"{_STATUS.get(status, status)}: {_counted(len(rows), 'configuration')}"
        shown = table(["Configuration", "Workload", "Reason"], cells, title)
        parts.append(element("details", [element("summary", title), shown]))
    return "".join(parts)


def _whole_name(knobs: Sequence[Axis], number: int, row: Row) -> str:
    """A configuration in words, its model included."""
    return ", ".join(part for part in (row.get("model"), name_of(knobs, number)) if part) or str(row["config_id"])


def space_table(found: Sequence[Axis]) -> str:
    """What the space varied, and what it held fixed."""
    rows = [
        [element("th", axis.name, scope="row"), element("td", ", ".join(v for v in axis.values if v != NO_VALUE))]
        for axis in sorted(found, key=lambda axis: len(axis.values) == 1)
    ]
    return table(["Axis", "Values"], rows, "Space") if rows else ""


def told_tables(about: Mapping[str, Any]) -> str:
    """What search.json says of objectives, workloads and how it was searched, as it stands there."""
    fields: dict[str, str] = {}
    flatten({key: value for key, value in about.items() if key not in _SHOWN_ELSEWHERE}, "", fields)
    rows = [[element("th", name, scope="row"), element("td", text)] for name, text in fields.items()]
    return table(["Field", "Value"], rows, "Search") if rows else ""
