"""The configurations of runs side by side, what differs first."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastsim.report.headlines import table
from fastsim.report.quantities import NOTHING
from fastsim.report.runs import Run
from fastsim.svg import element


def settings(runs: Sequence[Run]) -> list[str]:
    """Tables of the configurations and workloads of runs: of several those fields that differ, and all of them."""
    flat = [_flattened(run) for run in runs]
    names = list(dict.fromkeys(name for fields in flat for name in fields))
    head = ["Field", *(run.name for run in runs)]
    whole = table(head, [_row(name, flat) for name in names], "Configuration")
    if len(runs) == 1:
        return [whole]
    differing = [name for name in names if len({fields.get(name) for fields in flat}) > 1]
    said = element("p", "The configurations and workloads are the same.")
    shown = table(head, [_row(name, flat) for name in differing], "What differs") if differing else said
    return [shown, element("details", [element("summary", "All fields"), whole])]


def _row(name: str, flat: Sequence[Mapping[str, str]]) -> list[str]:
    return [element("th", name, scope="row"), *(element("td", fields.get(name, NOTHING)) for fields in flat)]


def _flattened(run: Run) -> dict[str, str]:
    """Every field of a run by its path, as text; empty ones are left out."""
    found: dict[str, str] = {}
    estimates = {"source": run.summary.get("estimates", {}).get("source")}
    sections = {
        "": run.summary["config"],
        "workload": run.summary["workload"].get("source", {}),
        "estimates": estimates,
    }
    for section, values in sections.items():
        flatten(values, section, found)
    return found | {f"versions.{name}": str(version) for name, version in run.summary.get("versions", {}).items()}


def flatten(values: Mapping[str, Any], path: str, found: dict[str, str]) -> None:
    """Put every value by its path, as text, into ``found``; empty ones are left out."""
    for name, value in values.items():
        place = f"{path}.{name}" if path else name
        if isinstance(value, Mapping):
            flatten(value, place, found)
        elif value not in (None, [], ""):
            found[place] = str(value).lower() if isinstance(value, bool) else str(value)
