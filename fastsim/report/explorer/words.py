"""What the page about a search says without its script: the best, what was left out, the space and the search."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fastsim.report.explorer.measures import cases
from fastsim.report.explorer.payload import Row, serves
from fastsim.report.explorer.searches import Search
from fastsim.report.headlines import table
from fastsim.report.quantities import significant, written
from fastsim.report.settings import flatten
from fastsim.searching.cases import knobs_in_words, setting, title_of
from fastsim.searching.limits import ATTAINMENT, Limit
from fastsim.searching.rows import DROPPED
from fastsim.searching.tasks import DOES_NOT_FIT, FAILED, OK, REFUSED
from fastsim.svg import element

_STATUS = {
    DOES_NOT_FIT: "Does not fit in memory",
    DROPPED: "Given up by the strategy",
    REFUSED: "Refused",
    FAILED: "Failed",
    OK: "Holds the objectives at no rate",
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
    limits = [Limit(**one) for one in about.get("slo") or ()]
    told = [
        f"{limit.name} \N{GREATER-THAN OR EQUAL TO} {written(limit.limit, 'share')}"
        if limit.metric == ATTAINMENT
        else f"{limit.name} \N{LESS-THAN OR EQUAL TO} {written(limit.limit, 's')}"
        for limit in limits
    ]
    return f"Objectives: {', '.join(told)}" if told else ""


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def names_of(search: Search, knobs: Sequence[str]) -> dict[str, str]:
    """Configurations in words, by their ids."""
    rows = search.configurations.iter_rows(named=True)
    return {row["config_id"]: knobs_in_words(row, knobs) for row in rows}


def gain(row: Row, factor: float = 1.0) -> float:
    """Requests per dollar of a configuration at its capacity, times a factor; where it costs nothing, its rate."""
    price = row["price_per_hour"] or 3600.0
    return float(row["capacity_qps"]) * factor * 3600.0 / price


def best_tiles(search: Search, knobs: Sequence[str]) -> str:
    """The best configuration of each case, at the search's own objectives."""
    by_case: dict[str, list[Row]] = {}
    for case, row in zip(cases(search.configurations), search.configurations.iter_rows(named=True), strict=True):
        if serves(row):
            by_case.setdefault(case, []).append(row)
    tiles = [_tile(served, knobs, case) for case, served in by_case.items()]
    return element("div", tiles, class_="tiles best") if tiles else ""


def _tile(served: Sequence[Row], knobs: Sequence[str], case: str) -> str:
    best = max(served, key=gain)
    least = _bound(best, "qps_low")
    tied = sum(_bound(row, "qps_high") >= least for row in served) - 1
    price = best["price_per_hour"]
    said = [
        element("b", f"{significant(gain(best))} requests per dollar" if price else _rate(best)),
        element("span", knobs_in_words(best, knobs)),
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
        found.append(f"{short:,} of {_counted(len(rows), 'rate')} may not last: the workload is too short to tell.")
    return found


def left_out(search: Search, knobs: Sequence[str]) -> str:
    """Configurations that do not serve, with the reason, by what became of them."""
    found: dict[str, dict[tuple[str, str], list[str]]] = {}
    for row in search.configurations.iter_rows(named=True):
        if not serves(row):
            reason = row["reason"] or row.get("binding") or ""
            same = found.setdefault(row["status"], {})
            same.setdefault((title_of(row.get("model"), knobs_in_words(row, knobs)), reason), []).append(
                row["workload"]
            )
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


def space_table(space: Mapping[str, Any]) -> str:
    """What was given: fields and choices with their values, the several first; empty where search.json lacks it."""
    told = list(space.get("fields", {}).items())
    for kind, alternatives in space.get("kinds", {}).items():
        told.append((kind, [one["name"] for one in alternatives]))
        told += [
            (f"{one['name']}.{option}", values) for one in alternatives for option, values in one["options"].items()
        ]
    told += [("gpus", space["gpus"])] if space.get("gpus") else []
    rows = [
        [element("th", name, scope="row"), element("td", ", ".join(setting(value) for value in values))]
        for name, values in sorted(told, key=lambda pair: len(pair[1]) == 1)
    ]
    return table(["Field", "Values"], rows, "Space") if rows else ""


def told_tables(about: Mapping[str, Any]) -> str:
    """What search.json says of objectives, workloads and how it was searched, as it stands there."""
    fields: dict[str, str] = {}
    flatten({key: value for key, value in about.items() if key not in _SHOWN_ELSEWHERE}, "", fields)
    rows = [[element("th", name, scope="row"), element("td", text)] for name, text in fields.items()]
    return table(["Field", "Value"], rows, "Search") if rows else ""
