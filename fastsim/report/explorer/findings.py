"""What the analyses of a search say, as its search.json has it under ``findings``, in tables.

What is there is made by `fastsim.searching.findings.describe`; a search that was analysed by nothing has none of these.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from fastsim.report.headlines import table
from fastsim.report.quantities import NOTHING, significant, written
from fastsim.searching.cases import title_of
from fastsim.svg import element

_REACH = (
    "Reach: the best that can be had with this value, relative to the best of all. Share: what part of the variance "
    "over all configurations the knob explains by itself."
)
_FACTOR = (
    "What a request costs on the workload of a column if the configuration is the best one of the row's workload, "
    "relative to the best there. Dash: it serves nothing there, or its capacity is not known."
)
_REGRET = (
    "What a request costs more if one configuration is kept through all workloads, each with as many requests, above "
    "changing to the best of each."
)
Rows = Sequence[Mapping[str, Any]]


def sensitivity_table(findings: Mapping[str, Any]) -> str:
    """Of each knob its share of the variance, and what is reached with each of its values; empty without any."""
    rows = []
    for case in findings.get("cases", ()):
        knobs = sorted(case["sensitivity"].items(), key=lambda knob: -(knob[1]["share"] or 0.0))
        for number, (knob, told) in enumerate(knobs):
            values = ", ".join(f"{one['value']}: {written(one['reach'], 'share')}" for one in told["values"])
            title = title_of(case["model"], case["workload"])
            rows.append(
                [
                    element("th", "" if number else title, scope="row"),
                    element("td", knob),
                    element("td", written(told["share"], "share")),
                    element("td", values),
                ]
            )
    return _said(_REACH, table(["Workload", "Knob", "Share", "Reach of each value"], rows, "Sensitivity"), rows)


def mismatch_table(findings: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """What the best of one workload costs on the others; empty where there is one.

    Args:
        findings: as said.
        names: of configurations by their ids.
    """
    rows: Rows = findings.get("mismatch", ())
    columns = list(dict.fromkeys(row["run_on"] for row in rows))
    found: dict[tuple[Any, ...], dict[str, float | None]] = {}
    for row in rows:
        key = (row["model"], row["best_on"], row["config_id"])
        found.setdefault(key, {})[row["run_on"]] = row["factor"]
    cells = [
        [
            element("th", title_of(model, best_on), scope="row"),
            element("td", names.get(config, config)),
            *(element("td", _times(factors.get(column))) for column in columns),
        ]
        for (model, best_on, config), factors in found.items()
    ]
    head = ["Best for", "Configuration", *(f"on {column}" for column in columns)]
    return _said(_FACTOR, table(head, cells, "Misconfiguration"), cells)


def regret_table(findings: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """What it costs to keep one configuration through all workloads, the least first; empty where there is one."""
    cells = [
        [
            element("th", title_of(row["model"], names.get(row["config_id"], row["config_id"])), scope="row"),
            element("td", written(row["regret"], "share")),
            element("td", row["worst_on"]),
            element("td", _times(row["worst_factor"])),
        ]
        for row in findings.get("regret", ())
    ]
    return _said(_REGRET, table(["Configuration", "More", "Worst on", "Cost there"], cells, "One for all"), cells)


def _times(factor: float | None) -> str:
    return NOTHING if factor is None else f"{significant(factor, 3)} \N{MULTIPLICATION SIGN}"


def _said(sentence: str, shown: str, rows: Sequence[object]) -> str:
    return element("p", sentence, class_="load") + shown if rows else ""
